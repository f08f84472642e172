// What a policy said when a deployment's image was accepted: `state/deploy/<id>/<id>.policy.json`. It is
// information for people and audits, nothing is decided by it; bootc 1.16 does not look at the file and
// removes it with the deployment's state.

import * as z from "zod";
import { parseJson } from "../../shared/format/oci/json.ts";
import type { PolicyDecision } from "../image/policy/decision.ts";

const requirementSchema = z.object({
  type: z.string(),
  /** Fingerprint or path of a key, or whom the signer's certificate names. */
  key: z.string().optional(),
  /** Name that the signature gives the image. */
  identity: z.string().optional(),
  /** What was signed: the manifest or the index it was chosen from. */
  digest: z.string().optional(),
});

const recordSchema = z.object({
  /** Null: there was none. */
  policyFile: z.string().nullable(),
  scope: z.string(),
  requirements: z.array(requirementSchema),
  /** RFC 3339 */
  time: z.string(),
});
export type PolicyRecord = z.infer<typeof recordSchema>;

export function makePolicyRecord(decision: PolicyDecision): PolicyRecord {
  const { policyPath, scope, requirements, time } = decision;
  return {
    policyFile: policyPath,
    scope,
    requirements: requirements.map(({ type, signature }) =>
      signature === null
        ? { type }
        : {
            type,
            key: signature.key,
            identity: signature.name,
            digest: signature.manifestDigest,
          },
    ),
    time,
  };
}

export function formatPolicyRecord(record: PolicyRecord): string {
  return `${JSON.stringify(record)}\n`;
}

/** FormatError naming `path`. */
export function parsePolicyRecord(bytes: Uint8Array, path: string): PolicyRecord {
  return parseJson(recordSchema, bytes, `Policy record "${path}"`);
}
