// The `oci-archive:` transport: an image layout in a tar archive (`podman save --format oci-archive`).
// Blobs are streamed from where they lie in the archive; it is not unpacked.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { blobPath } from "../../shared/format/oci/layout.ts";
import { type Descriptor, MAX_DOCUMENT_BYTES } from "../../shared/format/oci/manifest.ts";
import { type ArchiveFile, openArchive, openOnDemand } from "./archive-file.ts";
import { openLayoutArtifacts } from "./artifact-source.ts";
import { type ByteSource, verifyBlob } from "./blob.ts";
import { type LayoutFiles, resolveLayout } from "./layout-source.ts";
import { splitPathReference } from "./path-reference.ts";
import { openLayoutSignatures } from "./policy/layout-signatures.ts";
import type { ImageSource } from "./resolved-image.ts";

/** `image` is "path[:tag]" or "path[:@index]". */
export function openOciArchive(image: string, architecture: string): ImageSource {
  const name = `oci-archive:${image}`;
  const { path, choice } = splitPathReference(image);
  const archive = openOnDemand(name, (signal) => openArchive(path, signal));
  const files = layoutFiles(path, name, archive.open);
  return {
    name,
    resolve: (admit) => resolveLayout(files, choice, architecture, name, admit),
    signatures: openLayoutSignatures(files),
    artifacts: openLayoutArtifacts(files),
    openLayer: (layer) =>
      verifyBlob(files.openBlob(layer), layer, `Layer ${layer.digest} of "${name}"`),
    [Symbol.asyncDispose]: async () => await archive[Symbol.asyncDispose](),
  };
}

function layoutFiles(path: string, name: string, open: () => Promise<ArchiveFile>): LayoutFiles {
  const what = `OCI archive "${path}"`;
  return {
    what,
    readFile: async (file) => {
      const archive = await open();
      const member = archive.find(file);
      if (member !== null) return await archive.read(member, MAX_DOCUMENT_BYTES);
      const isDocker = archive.find("manifest.json") !== null;
      const advice = isDocker ? '; for an archive of "docker save" use "docker-archive"' : "";
      const problem = `"${path}" is not an OCI image archive: it has no file "${file}"${advice}`;
      throw new FormatError("not-found", problem);
    },
    openBlob: (descriptor) => openBlob(open, descriptor, `Blob ${descriptor.digest} of "${name}"`),
  };
}

async function* openBlob(
  open: () => Promise<ArchiveFile>,
  { digest, size }: Descriptor,
  what: string,
): ByteSource {
  const archive = await open();
  const member = archive.find(blobPath(digest));
  if (member === null) {
    const problem = `${what} is missing from the archive; copy the image again`;
    throw new IntegrityError("missing-object", problem, { digest });
  }
  if (member.sizeBytes !== size) {
    const problem = `${what} has ${member.sizeBytes} bytes instead of ${size}; copy the image again`;
    throw new IntegrityError("size-mismatch", problem, { digest });
  }
  yield* archive.open(member);
}
