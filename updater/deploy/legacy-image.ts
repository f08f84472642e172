// `state/deploy/<id>/<id>.imginfo`, which bootc wrote before origin files named the manifest (bootc.md
// 4.2): JSON with the image's manifest and config. Read when the origin has no digest, never written.
//
// The digest is that of the manifest's JSON written again without white space, as bootc computes it: the
// registry's own bytes are not known any more, so it may be another one than theirs.

import * as z from "zod";
import { parseJson } from "../../shared/format/oci/json.ts";

const legacySchema = z.object({
  manifest: z.looseObject({ config: z.looseObject({ digest: z.string() }) }),
});

export interface LegacyImage {
  /** `sha256:<hex>` */
  readonly manifestDigest: string;
  readonly configDigest: string;
}

/** FormatError naming `path`. */
export function parseLegacyImage(bytes: Uint8Array, path: string): LegacyImage {
  const what = `Image record "${path}"`;
  const { manifest } = parseJson(legacySchema, bytes, what);
  const raw = JSON.parse(Buffer.from(bytes).toString("utf8")) as { readonly manifest: unknown };
  const hex = new Bun.CryptoHasher("sha256").update(JSON.stringify(raw.manifest)).digest("hex");
  return { manifestDigest: `sha256:${hex}`, configDigest: manifest.config.digest };
}
