// The `dir:` transport: skopeo's directory of plain files, "manifest.json" and each blob under the hex of its
// digest. It states neither the manifest's type, which its fields tell, nor its digest. The file "version" is for
// writers (containers/image reads directories without it).

import { computeDigest, splitDigest } from "../../shared/format/oci/digest.ts";
import { type Descriptor, guessManifestType } from "../../shared/format/oci/manifest.ts";
import { isIndexType, isManifestType } from "../../shared/format/oci/media-type.ts";
import { type ByteSource, oneChunk, verifyBlob } from "./blob.ts";
import { readBlobFile, readDocumentFile } from "./blob-file.ts";
import { openDirectorySignatures } from "./policy/directory-signatures.ts";
import {
  type AdmitImage,
  type ImageSource,
  type ResolvedImage,
  resolveImage,
} from "./resolved-image.ts";

const KIND = 'an image directory of "skopeo copy … dir:"';

/** `directory` is all of the reference: such a directory holds one image. */
export function openDirSource(directory: string, architecture: string): ImageSource {
  const name = `dir:${directory}`;
  const openBlob = (blob: Descriptor): ByteSource =>
    readBlobFile(blobPaths(directory, blob), blob, `Blob ${blob.digest} of "${name}"`);
  return {
    name,
    resolve: (admit) => resolveDirectory(directory, openBlob, architecture, name, admit),
    signatures: openDirectorySignatures(directory),
    openLayer: (layer) => verifyBlob(openBlob(layer), layer, `Layer ${layer.digest} of "${name}"`),
  };
}

async function resolveDirectory(
  directory: string,
  openBlob: (descriptor: Descriptor) => ByteSource,
  architecture: string,
  name: string,
  admit?: AdmitImage,
): Promise<ResolvedImage> {
  const bytes = await readDocumentFile(directory, "manifest.json", KIND);
  const mediaType = guessManifestType(bytes, `File "${directory}/manifest.json"`);
  const first = { mediaType, digest: computeDigest(bytes), size: bytes.length };
  const open = (descriptor: Descriptor): ByteSource =>
    descriptor === first ? oneChunk(bytes) : openBlob(descriptor);
  return await resolveImage(first, open, architecture, name, admit);
}

/** The images of an index have names of their own. sha512 came later, with its name before the hex. */
function blobPaths(directory: string, { digest, mediaType }: Descriptor): readonly string[] {
  const { algorithm, hex } = splitDigest(digest);
  const end = isManifestType(mediaType) || isIndexType(mediaType) ? ".manifest.json" : "";
  return [`${directory}/${hex}${end}`, `${directory}/${algorithm}-${hex}${end}`];
}
