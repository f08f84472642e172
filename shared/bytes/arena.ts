// A growing byte store addressed by 32-bit offsets: millions of names and values without one JS
// object each. Nothing is ever removed; offsets stay valid while the arena lives.

import { FormatError } from "../error.ts";

export interface Arena {
  bytes: Buffer;
  length: number;
}

const MAX_BYTES = 0xffff_ffff;

export function createArena(capacityBytes = 1 << 16): Arena {
  return { bytes: Buffer.from(new ArrayBuffer(capacityBytes)), length: 0 };
}

/** Makes sure `sizeBytes` fit behind the current end; returns that end. */
function reserveInArena(arena: Arena, sizeBytes: number): number {
  const end = arena.length + sizeBytes;
  if (end > arena.bytes.length) growArena(arena, end);
  return arena.length;
}

function growArena(arena: Arena, end: number): void {
  if (end > MAX_BYTES) throw new FormatError("limit", "File tree needs more than 4 GiB of names");
  const wanted = Math.min(MAX_BYTES, Math.max(end, arena.bytes.length * 2));
  // Frees the old bytes at once.
  arena.bytes = Buffer.from((arena.bytes.buffer as ArrayBuffer).transfer(wanted));
}

/** Appends `source[from..end]`; returns its offset. */
export function appendToArena(
  arena: Arena,
  source: Uint8Array,
  from = 0,
  end = source.length,
): number {
  const length = end - from;
  const at = reserveInArena(arena, length);
  const { bytes } = arena;
  if (length > 256) bytes.set(source.subarray(from, end), at);
  else for (let i = 0; i < length; i++) bytes[at + i] = source[from + i]!;
  arena.length = at + length;
  return at;
}

/** Appends a byte string (one byte per UTF-16 unit); returns its offset. */
export function appendStringToArena(arena: Arena, text: string): number {
  const { length } = text;
  const at = reserveInArena(arena, length);
  const { bytes } = arena;
  if (length > 64) bytes.write(text, at, "latin1");
  else for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
  arena.length = at + length;
  return at;
}

/** memcmp order, the shorter first when one is a prefix of the other. */
export function compareInArena(
  bytes: Uint8Array,
  a: number,
  aLength: number,
  b: number,
  bLength: number,
): number {
  const common = Math.min(aLength, bLength);
  for (let i = 0; i < common; i++) {
    const difference = bytes[a + i]! - bytes[b + i]!;
    if (difference !== 0) return difference;
  }
  return aLength - bLength;
}
