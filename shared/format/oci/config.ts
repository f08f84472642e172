// Image configurations (OCI image spec 1.1, "config"); Docker's differ only in fields not read here.

import * as z from "zod";
import { FormatError } from "../../error.ts";
import { digestSchema } from "./digest.ts";
import { parseJson } from "./json.ts";

const configSchema = z.looseObject({
  /** GOARCH name, e.g. "amd64"; some builders leave it empty. */
  architecture: z.string().optional(),
  os: z.string().optional(),
  variant: z.string().optional(),
  /** RFC 3339 */
  created: z.string().optional(),
  config: z.looseObject({ Labels: z.record(z.string(), z.string()).nullish() }).nullish(),
  rootfs: z.looseObject({ type: z.literal("layers"), diff_ids: z.array(digestSchema) }),
});
export type ImageConfig = z.infer<typeof configSchema>;

/** FormatError when malformed or when it does not describe `layerCount` layers; null: any number. */
export function parseImageConfig(
  bytes: Uint8Array,
  layerCount: number | null,
  what: string,
): ImageConfig {
  const config = parseJson(configSchema, bytes, what);
  const count = config.rootfs.diff_ids.length;
  if (layerCount !== null && count !== layerCount) {
    throw new FormatError("bad-value", `${what} lists ${count} layers, the manifest ${layerCount}`);
  }
  return config;
}
