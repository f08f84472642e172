// What a gzip layer unpacks to, from its last four bytes: the length modulo 2^32 (RFC 1952, ISIZE). A hint
// for estimates: nobody vouches for it, and a layer of several members tells only the last one's.

import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { ByteSource } from "./blob.ts";
import type { ByteRange } from "./resolved-image.ts";

const TRAILER_BYTES = 4;
/** Of a whole gzip file: header, one empty block, trailer. */
const MIN_GZIP_BYTES = 20;
const MODULUS = 2 ** 32;
/** DEFLATE cannot do better. */
const MAX_RATIO = 1032;
/** What does not compress grows by less than this, with bad encoders too. */
const MIN_RATIO = 0.9;

/** Null when the layer is not said to be gzip, or the number cannot be right. */
export async function fetchUnpackedSize(
  { size, mediaType }: Descriptor,
  open: (range: ByteRange) => ByteSource,
): Promise<number | null> {
  if (!/[+.]gzip$/.test(mediaType) || size < MIN_GZIP_BYTES) return null;
  const trailer: Uint8Array[] = [];
  for await (const chunk of open({ startByte: size - TRAILER_BYTES, endByte: size })) {
    trailer.push(Uint8Array.from(chunk));
  }
  const bytes = Buffer.concat(trailer);
  return bytes.length === TRAILER_BYTES ? guessUnpackedSize(size, bytes.readUInt32LE()) : null;
}

/** The smallest length that the compressed size allows; null when there is none. */
export function guessUnpackedSize(compressedBytes: number, remainder: number): number | null {
  const leastBytes = compressedBytes * MIN_RATIO - MIN_GZIP_BYTES;
  const rounds = Math.max(0, Math.ceil((leastBytes - remainder) / MODULUS));
  const sizeBytes = remainder + rounds * MODULUS;
  return sizeBytes <= compressedBytes * MAX_RATIO ? sizeBytes : null;
}
