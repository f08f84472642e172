// Changes that make sense for any format: bits, bytes, integers that lie at limits, pieces that are
// removed, doubled, moved or taken from another input, numbers written as text, words of the format.
//
// Everything follows from the given random numbers, so that a seed gives the same run again.

import type { Random } from "../support/random-dump.ts";
import type { FuzzTarget } from "./target.ts";

/** Makes a new input of one of the corpus; `pick` gives another one to take pieces from. */
export function mutate(
  target: FuzzTarget,
  input: Uint8Array,
  random: Random,
  pick: () => Uint8Array,
): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(input);
  const changes = 1 + random.below(random.pick([1, 2, 4, 8]));
  for (let i = 0; i < changes; i++) {
    const own =
      target.mutate !== undefined && random.chance(60) ? target.mutate(bytes, random) : null;
    bytes = own ?? changeBytes(target, bytes, random, pick);
  }
  if (bytes.length > target.maxBytes) bytes = bytes.subarray(0, target.maxBytes);
  const repaired = target.repair !== undefined && random.chance(90) ? target.repair(bytes) : bytes;
  return repaired.length > target.maxBytes ? bytes : repaired;
}

type Change = (bytes: Uint8Array, random: Random, pick: () => Uint8Array) => Uint8Array;

const ANY_CHANGES: readonly Change[] = [
  flipBit,
  setByte,
  addToByte,
  setInteger,
  setInteger,
  removePiece,
  doublePiece,
  copyPiece,
  swapPieces,
  insertBytes,
  fillPiece,
  truncate,
  takePiece,
  takePiece,
];

function changeBytes(
  { words }: FuzzTarget,
  bytes: Uint8Array,
  random: Random,
  pick: () => Uint8Array,
): Uint8Array {
  if (bytes.length === 0) return insertBytes(bytes, random);
  if (words !== undefined && random.chance(40)) {
    return random.chance(40) ? changeNumber(bytes, random) : insertWord(bytes, random, words);
  }
  return random.pick(ANY_CHANGES)(bytes, random, pick);
}

/** Values at which code goes wrong, for 1, 2, 4 and 8 bytes. */
const INTEGERS = [
  0n,
  1n,
  2n,
  4n,
  16n,
  31n,
  32n,
  33n,
  64n,
  100n,
  127n,
  128n,
  255n,
  256n,
  511n,
  512n,
  1024n,
  4095n,
  4096n,
  4097n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x1_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_fffen,
  0xffff_ffffn,
  0x1_0000_0000n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

export function pickInteger(random: Random): bigint {
  const value = random.pick(INTEGERS);
  return random.chance(20) ? value + BigInt(random.below(9) - 4) : value;
}

/** Writes the low bytes of a value, little-endian; what lies outside is left out. */
export function putInteger(bytes: Uint8Array, at: number, sizeBytes: number, value: bigint): void {
  for (let i = 0; i < sizeBytes && at + i < bytes.length; i++) {
    bytes[at + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
}

function flipBit(bytes: Uint8Array, random: Random): Uint8Array {
  bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
  return bytes;
}

function setByte(bytes: Uint8Array, random: Random): Uint8Array {
  bytes[random.below(bytes.length)] = random.below(256);
  return bytes;
}

function addToByte(bytes: Uint8Array, random: Random): Uint8Array {
  bytes[random.below(bytes.length)]! += random.below(33) - 16;
  return bytes;
}

function setInteger(bytes: Uint8Array, random: Random): Uint8Array {
  const sizeBytes = random.pick([1, 2, 4, 8]);
  let at = random.below(bytes.length);
  if (random.chance(70)) at -= at % sizeBytes;
  let value = pickInteger(random);
  if (random.chance(25)) value = BigInt(random.below(bytes.length + 1));
  if (random.chance(10)) bytes.subarray(at, at + sizeBytes).reverse();
  else putInteger(bytes, at, sizeBytes, value);
  return bytes;
}

function pickRange(bytes: Uint8Array, random: Random): readonly [start: number, end: number] {
  const start = random.below(bytes.length);
  const longest = random.pick([4, 16, 64, 512, bytes.length]);
  return [start, Math.min(bytes.length, start + 1 + random.below(longest))];
}

function removePiece(bytes: Uint8Array, random: Random): Uint8Array {
  const [start, end] = pickRange(bytes, random);
  return join(bytes.subarray(0, start), bytes.subarray(end));
}

function doublePiece(bytes: Uint8Array, random: Random): Uint8Array {
  const [start, end] = pickRange(bytes, random);
  const piece = bytes.subarray(start, end);
  const times = random.chance(80) ? 1 : 1 + random.below(100);
  return join(bytes.subarray(0, end), ...new Array(times).fill(piece), bytes.subarray(end));
}

function copyPiece(bytes: Uint8Array, random: Random): Uint8Array {
  const [start, end] = pickRange(bytes, random);
  bytes.copyWithin(random.below(bytes.length), start, end);
  return bytes;
}

function swapPieces(bytes: Uint8Array, random: Random): Uint8Array {
  const cuts = [0, 1, 2, 3].map(() => random.below(bytes.length + 1)).sort((a, b) => a - b);
  const [a, b, c, d] = cuts as [number, number, number, number];
  const part = (from: number, to?: number) => bytes.subarray(from, to);
  return join(part(0, a), part(c, d), part(b, c), part(a, b), part(d));
}

function insertBytes(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  const value = random.pick([0, 0xff, 0x20, 0x0a, 0x41, random.below(256)]);
  const piece = new Uint8Array(1 + random.below(random.pick([4, 16, 256]))).fill(value);
  return join(bytes.subarray(0, at), piece, bytes.subarray(at));
}

function fillPiece(bytes: Uint8Array, random: Random): Uint8Array {
  const [start, end] = pickRange(bytes, random);
  return bytes.fill(random.pick([0, 0, 0xff, random.below(256)]), start, end);
}

function truncate(bytes: Uint8Array, random: Random): Uint8Array {
  return bytes.slice(0, random.below(bytes.length));
}

/** A piece of another input, put over or between what is here. */
function takePiece(bytes: Uint8Array, random: Random, pick: () => Uint8Array): Uint8Array {
  const other = pick();
  if (other.length === 0) return bytes;
  const [start, end] = pickRange(other, random);
  const piece = other.subarray(start, end);
  if (random.chance(50)) {
    const at = random.chance(60) ? start : random.below(bytes.length);
    bytes.set(piece.subarray(0, Math.max(0, bytes.length - at)), Math.min(at, bytes.length));
    return bytes;
  }
  const at = random.below(bytes.length + 1);
  return join(bytes.subarray(0, at), piece, bytes.subarray(at));
}

/** A run of decimal digits becomes another number. */
function changeNumber(bytes: Uint8Array, random: Random): Uint8Array {
  const text = Buffer.from(bytes).toString("latin1");
  const runs = [...text.matchAll(/\d+/g)];
  if (runs.length === 0) return bytes;
  const run = random.pick(runs);
  const end = run.index + run[0].length;
  return Buffer.from(text.slice(0, run.index) + pickInteger(random) + text.slice(end), "latin1");
}

function insertWord(bytes: Uint8Array, random: Random, words: readonly string[]): Uint8Array {
  const word = Buffer.from(random.pick(words), "latin1");
  const at = random.below(bytes.length + 1);
  const over = random.chance(40) ? word.length : 0;
  return join(bytes.subarray(0, at), word, bytes.subarray(Math.min(bytes.length, at + over)));
}

export function join(...pieces: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(pieces));
}
