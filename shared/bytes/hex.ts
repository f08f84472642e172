// Lower-case hex, the only spelling of digests in file names, command lines and text formats.

import { FormatError } from "../error.ts";

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** Strict: even length, lower-case digits only. */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) {
    throw new FormatError("bad-value", `"${text}" is not lower-case hex`, { format: "hex" });
  }
  return Buffer.from(text, "hex");
}

/** Enough of a digest to tell images apart in a message; ASCII, as the kernel log escapes the rest. */
export function shortId(digest: string): string {
  return `${digest.slice(0, 12)}...`;
}
