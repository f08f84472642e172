// OCI content digests: "<algorithm>:<lower-case hex>".
//
// The string becomes part of file names and URLs, so it is checked before anything else
// (CVE-2024-3727). Algorithms: sha256 and sha512, the two the image spec registers.

import { createHash, type Hash } from "node:crypto";
import * as z from "zod";

/** A checked digest string. */
export const digestSchema = z
  .string()
  .regex(/^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/, "is not a sha256 or sha512 digest");

/** Incremental hash for blobs named by `digest` (already checked). */
export function createDigestHash(digest: string): Hash {
  return createHash(splitDigest(digest).algorithm);
}

/** "sha256:…" of the bytes, or of another algorithm. */
export function computeDigest(bytes: Uint8Array, algorithm = "sha256"): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest("hex")}`;
}

export function splitDigest(digest: string): { readonly algorithm: string; readonly hex: string } {
  const colon = digest.indexOf(":");
  return { algorithm: digest.slice(0, colon), hex: digest.slice(colon + 1) };
}
