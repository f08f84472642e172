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

/**
 * As people are shown an image's or a deployment's id: enough to tell them apart, and verbs take it for the whole.
 * Without dots after it, so that it can be copied.
 */
export function shortId(digest: string): string {
  return digest.slice(0, 12);
}
