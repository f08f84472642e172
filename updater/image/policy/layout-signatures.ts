// Signatures that lie in the same image layout as the image (`oci:`, `oci-archive:`): manifests under
// cosign's tag, ones that `cosign save` marked, and bundles that refer to the image.

import { parseImageIndex } from "../../../shared/format/oci/manifest.ts";
import { OCI_MANIFEST } from "../../../shared/format/oci/media-type.ts";
import { layoutLayerReader, MAX_REFERRERS, openLayoutArtifacts } from "../artifact-source.ts";
import type { LayoutFiles } from "../layout-source.ts";
import { attachmentTag, mayBeBundle, readSignatureManifest } from "./signature-manifest.ts";
import type { FoundSignature, SignatureSource } from "./signature-source.ts";

const TAG = "org.opencontainers.image.ref.name";
const COSIGN_KIND = "kind";
const COSIGN_SIGNATURES = "dev.cosignproject.cosign/sigs";

export function openLayoutSignatures(files: LayoutFiles): SignatureSource {
  return {
    async *readSignatures(digest, { sigstore }): AsyncGenerator<FoundSignature> {
      if (!sigstore) return;
      const index = parseImageIndex(await files.readFile("index.json"), `Index of ${files.what}`);
      const attached = index.manifests
        .filter(({ mediaType }) => mediaType === OCI_MANIFEST)
        .filter(({ digest: own }) => own !== digest)
        .filter(({ annotations }) => isAttachment(annotations ?? {}, digest));
      const read = layoutLayerReader(files);
      for (const candidate of attached.slice(0, MAX_REFERRERS)) {
        const where = `${candidate.digest} in ${files.what}`;
        yield* readSignatureManifest(await read(candidate), where, read);
      }
      const bundles = openLayoutArtifacts(files).readArtifacts(digest, mayBeBundle);
      for await (const { manifestBytes, where, readLayer } of bundles) {
        yield* readSignatureManifest(manifestBytes, where, readLayer);
      }
    },
  };
}

function isAttachment(annotations: Readonly<Record<string, string>>, digest: string): boolean {
  return (
    annotations[TAG] === attachmentTag(digest) || annotations[COSIGN_KIND] === COSIGN_SIGNATURES
  );
}
