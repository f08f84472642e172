// Finding an image and having it admitted by policy, in this order: manifest, decision, everything else.

import { type ConfigPlace, hostConfigPlace } from "../../registry/config-place.ts";
import type { ImageReference } from "../reference.ts";
import type { ImageSource, ResolvedImage } from "../resolved-image.ts";
import { decidePolicy, type PolicyDecision } from "./decision.ts";

export interface AdmittedImage {
  readonly resolved: ResolvedImage;
  readonly decision: PolicyDecision;
}

/**
 * `reference` is what `source` was opened for; one whose signature is to be checked (as in origin files)
 * is not accepted by a policy that accepts anything. PolicyError when the image is refused; then
 * nothing but manifests and signatures was read.
 */
export async function resolveAdmitted(
  source: ImageSource,
  reference: ImageReference,
  place: ConfigPlace = hostConfigPlace(),
): Promise<AdmittedImage> {
  const { signature } = reference;
  const common = {
    reference,
    signatures: source.signatures ?? null,
    enforce: signature === "containerPolicy" || typeof signature === "object",
    place,
  };
  const decided = new Map<string, PolicyDecision>();
  const resolved = await source.resolve(async (documents, found) => {
    const decision = await decidePolicy({ ...common, documents, found: found ?? null });
    const last = documents.at(-1);
    if (last !== undefined) decided.set(last.digest, decision);
  });
  const { manifestDigest: digest, manifestBytes: bytes } = resolved;
  // A transport that makes its manifest itself has nothing to ask about before it is made.
  const documents = [{ digest, bytes }];
  const decision =
    decided.get(digest) ?? (await decidePolicy({ ...common, documents, found: null }));
  return { resolved, decision };
}
