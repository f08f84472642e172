// What an image's trust directory and unified kernel say, kept as `state/deploy/<id>/<id>.trust.json` beside the
// deployment: so that `bootc status` need not read each image. The image decides; this is a copy that can
// be made again, and nothing that starts or is refused is decided by it.

import * as z from "zod";
import { parseJson } from "../../shared/format/oci/json.ts";
import { makeTrustKey } from "../../shared/format/trust/key.ts";
import type { ImageTrust } from "./image-trust.ts";

const recordSchema = z.object({
  form: z.enum(["sealed", "signed", "ephemeral", "unlocked"]),
  unified: z.boolean(),
  hasLastingKeys: z.boolean(),
  signed: z.boolean(),
  keys: z.array(
    z.object({
      name: z.string(),
      /** The 32 bytes. */
      base64: z.base64().refine((text) => Buffer.from(text, "base64").length === 32),
    }),
  ),
  counter: z.enum(["auto", "tpm", "esp", "none"]),
  expired: z.enum(["refuse", "warn"]),
  allowMissingVerity: z.boolean(),
});

export function formatTrustRecord({ anchors, form, hasLastingKeys, unified }: ImageTrust): string {
  const { allowMissingVerity, counter, expired, signed } = anchors;
  const keys = anchors.keys.map(({ bytes, name }) => ({
    name,
    base64: Buffer.from(bytes).toString("base64"),
  }));
  const record = { form, unified, hasLastingKeys, signed, keys, counter, expired };
  return `${JSON.stringify({ ...record, allowMissingVerity })}\n`;
}

/** Without what the image revokes, which is nothing for itself. FormatError naming `path`. */
export function parseTrustRecord(bytes: Uint8Array, path: string): ImageTrust {
  const record = parseJson(recordSchema, bytes, `Trust record "${path}"`);
  const { form, hasLastingKeys, keys, unified, ...settings } = record;
  return {
    form,
    unified,
    hasLastingKeys,
    anchors: {
      ...settings,
      keys: keys.map(({ base64, name }) => makeTrustKey(Buffer.from(base64, "base64"), name)),
      revokedDigests: new Set(),
      revokedKeys: new Set(),
    },
  };
}
