// The manifests that carry Sigstore signatures in registries and image layouts: cosign 2's under the tag
// "sha256-….sig", cosign 3's as one that refers to the image. Which of the two it is, the types of its
// layers say: what an index says about it is not to be relied on (old tools write nonsense there).

import * as z from "zod";
import { digestSchema, splitDigest } from "../../../shared/format/oci/digest.ts";
import { parseJson } from "../../../shared/format/oci/json.ts";
import { EMPTY_TYPE } from "../artifact-source.ts";
import {
  type FoundSignature,
  MAX_SIGNATURE_BYTES,
  MAX_SIGNATURES,
  SIMPLE_SIGNING_TYPE,
} from "./signature-source.ts";

const BUNDLE_TYPE = /^application\/vnd\.dev\.sigstore\.bundle(?:\.v\d|\+json|$)/;

const layerSchema = z.looseObject({
  mediaType: z.string(),
  digest: digestSchema,
  size: z.int().nonnegative().max(MAX_SIGNATURE_BYTES),
  annotations: z.record(z.string(), z.string()).nullish(),
});
type SignatureLayer = z.infer<typeof layerSchema>;

const manifestSchema = z.looseObject({
  artifactType: z.string().nullish(),
  layers: z.array(layerSchema).max(MAX_SIGNATURES).nullish(),
});

/** Tag of cosign 2 for the image with this digest. */
export function attachmentTag(digest: string): string {
  const { algorithm, hex } = splitDigest(digest);
  return `${algorithm}-${hex}.sig`;
}

/** Whether a descriptor in a list of referrers may be a bundle. */
export function mayBeBundle(artifactType: unknown): boolean {
  if (typeof artifactType !== "string" || artifactType === "") return true;
  return artifactType === EMPTY_TYPE || BUNDLE_TYPE.test(artifactType);
}

/** The signatures of one such manifest. `readLayer` gives checked bytes. FormatError. */
export async function* readSignatureManifest(
  bytes: Uint8Array,
  where: string,
  readLayer: (layer: SignatureLayer) => Promise<Uint8Array>,
): AsyncGenerator<FoundSignature> {
  const { layers } = parseJson(manifestSchema, bytes, `Signature manifest "${where}"`);
  for (const layer of layers ?? []) {
    if (layer.mediaType === SIMPLE_SIGNING_TYPE) {
      const annotations = layer.annotations ?? {};
      yield { kind: "attachment", payload: await readLayer(layer), annotations, where };
    } else if (BUNDLE_TYPE.test(layer.mediaType)) {
      yield { kind: "bundle", json: await readLayer(layer), where };
    }
  }
}
