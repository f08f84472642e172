// Tar archives block by block: changes of header fields, and the checksums that make them count.

import type { Random } from "../support/random-dump.ts";

const BLOCK_BYTES = 512;
const CHECKSUM_AT = 148;

/** Start and size of the header's fields; what matters most is there twice. */
const FIELDS = [
  { at: 0, size: 100 },
  { at: 100, size: 8 },
  { at: 108, size: 8 },
  { at: 124, size: 12 },
  { at: 124, size: 12 },
  { at: 136, size: 12 },
  { at: 156, size: 1 },
  { at: 156, size: 1 },
  { at: 157, size: 100 },
  { at: 257, size: 8 },
  { at: 329, size: 8 },
  { at: 345, size: 155 },
];

/** Puts something else into a field of some block, most of which are headers in small archives. */
export function changeTarHeader(bytes: Uint8Array, random: Random): Uint8Array | null {
  const blocks = Math.floor(bytes.length / BLOCK_BYTES);
  if (blocks === 0) return null;
  const { at, size } = random.pick(FIELDS);
  const start = random.below(blocks) * BLOCK_BYTES + at;
  const field = bytes.subarray(start, start + size);
  const text = random.pick([
    "0",
    "1",
    "5",
    "x",
    "L",
    "g",
    "7",
    "777",
    "1750",
    "77777777777",
    " 12 ",
    "-1",
    "\0",
    "/",
  ]);
  if (random.chance(20)) field.fill(random.pick([0, 0x20, 0x37, 0x80, 0xff]));
  else field.set(Buffer.from(text, "latin1").subarray(0, size));
  return bytes;
}

/** Gives every block that looks like a header the checksum it should have. */
export function fixTarChecksums(bytes: Uint8Array): Uint8Array {
  for (let at = 0; at + BLOCK_BYTES <= bytes.length; at += BLOCK_BYTES) {
    const block = bytes.subarray(at, at + BLOCK_BYTES);
    const looksLikeHeader = block[CHECKSUM_AT + 6] === 0 && block[CHECKSUM_AT + 7] === 0x20;
    if (!looksLikeHeader) continue;
    block.fill(0x20, CHECKSUM_AT, CHECKSUM_AT + 8);
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.set(Buffer.from(`${sum.toString(8).padStart(6, "0")}\0 `), CHECKSUM_AT);
  }
  return bytes;
}
