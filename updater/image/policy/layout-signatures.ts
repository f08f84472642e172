// Signatures that lie in the same image layout as the image (`oci:`, `oci-archive:`): manifests under
// cosign's tag, ones that `cosign save` marked, and bundles that refer to the image.

import { parseImageIndex } from "../../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../../shared/format/oci/media-type.ts";
import { readBlob } from "../blob.ts";
import type { LayoutFiles } from "../layout-source.ts";
import {
  attachmentTag,
  MAX_REFERRERS,
  mayBeBundle,
  readSignatureManifest,
  readSubject,
  type SignatureLayer,
} from "./signature-manifest.ts";
import type { FoundSignature, SignatureSource } from "./signature-source.ts";

const TAG = "org.opencontainers.image.ref.name";
const COSIGN_KIND = "kind";
const COSIGN_SIGNATURES = "dev.cosignproject.cosign/sigs";

export function openLayoutSignatures(files: LayoutFiles): SignatureSource {
  return {
    async *readSignatures(digest, { sigstore }): AsyncGenerator<FoundSignature> {
      if (!sigstore) return;
      const index = parseImageIndex(await files.readFile("index.json"), `Index of ${files.what}`);
      const candidates = index.manifests
        .filter(({ mediaType }) => mediaType === OCI_MANIFEST)
        .filter(({ digest: own }) => own !== digest);
      const read = async (descriptor: SignatureLayer) =>
        await readBlob(files.openBlob(descriptor), descriptor, `Signature ${descriptor.digest}`);
      for (const candidate of candidates.slice(0, MAX_REFERRERS)) {
        const { annotations } = candidate;
        const isAttachment = annotations?.[TAG] === attachmentTag(digest);
        const isSaved = annotations?.[COSIGN_KIND] === COSIGN_SIGNATURES;
        if (!isAttachment && !isSaved && !mayBeBundle(candidate["artifactType"])) continue;
        const bytes = await read(candidate);
        if (!isAttachment && !isSaved && readSubject(bytes) !== digest) continue;
        const where = `${candidate.digest} in ${files.what}`;
        yield* readSignatureManifest(bytes, where, read);
      }
    },
  };
}
