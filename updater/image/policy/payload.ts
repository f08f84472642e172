// What a signature says: this digest is the image of this name (containers-signature(5), cosign's
// SIGNATURE_SPEC). The same document is in simple signing, as a GPG message, and in cosign's
// attachments. Whatever is critical must be known here; "optional" may hold anything.

import * as z from "zod";
import { digestSchema } from "../../../shared/format/oci/digest.ts";
import { parseStrictJson } from "./strict-json.ts";

export interface SignedClaim {
  /** sha256:… of the manifest */
  readonly manifestDigest: string;
  /** "docker-reference": the image's name, perhaps with a tag. */
  readonly name: string;
}

const SIMPLE_SIGNING = "atomic container signature";
const COSIGN = "cosign container image signature";

const payloadSchema = (type: string) =>
  z.strictObject({
    critical: z.strictObject({
      type: z.literal(type),
      image: z.strictObject({ "docker-manifest-digest": digestSchema }),
      identity: z.strictObject({ "docker-reference": z.string() }),
    }),
    optional: z
      .looseObject({ creator: z.string().optional(), timestamp: z.int().optional() })
      .nullable(),
  });
const schemas = { simple: payloadSchema(SIMPLE_SIGNING), cosign: payloadSchema(COSIGN) };

/** FormatError when it is not exactly such a document. `bytes` must have been verified before. */
export function parseClaim(bytes: Uint8Array, kind: keyof typeof schemas): SignedClaim {
  const { critical } = parseStrictJson(schemas[kind], bytes, "the signed payload");
  return {
    manifestDigest: critical.image["docker-manifest-digest"],
    name: critical.identity["docker-reference"],
  };
}
