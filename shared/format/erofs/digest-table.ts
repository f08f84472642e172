// Metacopy and redirect of files in the object store: two xattrs that say the same, a digest. Each digest
// is kept once, and the two are made from it when they are written.
//
// Invariant: a metacopy with a digest, or a redirect that is a digest's object path, is never kept
// otherwise, so that equal pairs have equal numbers. These numbers are negative: ~(4 * digest + bits),
// bit 0 for a redirect, bit 1 for SHA-512.

import { compareInArena } from "../../bytes/arena.ts";
import { growColumn } from "../../bytes/column.ts";
import { type VerityAlgorithm, verityAlgorithmId, verityHashBytes } from "../verity/digest.ts";
import { METACOPY, REDIRECT } from "./backing.ts";
import { hashWords } from "./word-hash.ts";
import { splitXattrName, type XattrName } from "./xattr-name.ts";

/** Digests of one length. */
export interface DigestTable {
  readonly digestBytes: number;
  count: number;
  /** The digests, one after another; `bytes` is a view of the same memory. */
  words: Int32Array;
  bytes: Uint8Array;
  /** Open addressing over digest number + 1; the size is a power of two. */
  slots: Int32Array;
  /** By digest, for metacopy and for redirect: as in the table of the other pairs. */
  uses: Int32Array;
}

export type DigestTables = Readonly<Record<VerityAlgorithm, DigestTable>>;

const START = 64;

export function createDigestTables(): DigestTables {
  return { sha256: createDigestTable("sha256"), sha512: createDigestTable("sha512") };
}

function createDigestTable(algorithm: VerityAlgorithm): DigestTable {
  const digestBytes = verityHashBytes(algorithm);
  const words = new Int32Array((START * digestBytes) / 4);
  return {
    digestBytes,
    count: 0,
    words,
    bytes: new Uint8Array(words.buffer),
    slots: new Int32Array(START * 2),
    uses: new Int32Array(START * 2),
  };
}

const METACOPY_NAME = splitXattrName(METACOPY, false);
const REDIRECT_NAME = splitXattrName(REDIRECT, false);

const isRedirect = (pair: number) => (~pair & 1) !== 0;
const isSha512 = (pair: number) => (~pair & 2) !== 0;
const digestOf = (pair: number) => ~pair >> 2;
const tableOf = (tables: DigestTables, pair: number) =>
  isSha512(pair) ? tables.sha512 : tables.sha256;

export function digestPairName(pair: number): XattrName {
  return isRedirect(pair) ? REDIRECT_NAME : METACOPY_NAME;
}

/** Number of the metacopy pair of a digest of 32 or 64 bytes. */
export function internMetacopy(tables: DigestTables, digest: Uint8Array): number {
  if (digest.length === tables.sha256.digestBytes)
    return ~(internDigest(tables.sha256, digest) * 4);
  return ~(internDigest(tables.sha512, digest) * 4 + 2);
}

/** Of the redirect to the same digest's object. */
export const redirectOfMetacopy = (metacopy: number) => ~(~metacopy | 1);

function internDigest(table: DigestTable, digest: Uint8Array): number {
  const { digestBytes, count } = table;
  const size = digestBytes >> 2;
  const first = count * size;
  if (first === table.words.length) growWords(table);
  const { words, bytes, slots } = table;
  // Put behind the last one, and left there if it is new.
  for (let i = 0; i < digestBytes; i++) bytes[first * 4 + i] = digest[i]!;
  const mask = slots.length - 1;
  let slot = hashWords(words, first, first + size) & mask;
  for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
    const start = (slots[slot]! - 1) * size;
    let i = 0;
    while (i < size && words[start + i] === words[first + i]) i++;
    if (i === size) return slots[slot]! - 1;
  }
  slots[slot] = count + 1;
  table.count = count + 1;
  if (table.count * 4 > slots.length * 3) growSlots(table, size);
  return count;
}

function growWords(table: DigestTable): void {
  table.words = growColumn(table.words, table.words.length * 2);
  table.bytes = new Uint8Array(table.words.buffer);
  table.uses = growColumn(table.uses, table.uses.length * 2);
}

function growSlots(table: DigestTable, size: number): void {
  const slots = new Int32Array(table.slots.length * 2);
  const mask = slots.length - 1;
  const { words, count } = table;
  for (let digest = 0; digest < count; digest++) {
    let slot = hashWords(words, digest * size, (digest + 1) * size) & mask;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = digest + 1;
  }
  table.slots = slots;
}

const SLASH = 0x2f;
/** By byte: its two lower-case digits as they lie in memory. */
const HEX_PAIRS = Uint16Array.from({ length: 256 }, (_, byte) => {
  const digits = byte.toString(16).padStart(2, "0");
  return digits.charCodeAt(0) | (digits.charCodeAt(1) << 8);
});

/** An object's path as the dump has it, `bytes[start..end]`; empty for none. */
export interface Payload {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
}

/** Whether it is the object path of `digest`: two digits, a slash, the rest. */
export function isObjectPath({ bytes, start, end }: Payload, digest: Uint8Array): boolean {
  if (end - start !== 2 * digest.length + 1 || bytes[start + 2] !== SLASH) return false;
  let difference = (bytes[start]! | (bytes[start + 1]! << 8)) ^ HEX_PAIRS[digest[0]!]!;
  for (let i = 1, at = start + 3; i < digest.length; i++, at += 2) {
    difference |= (bytes[at]! | (bytes[at + 1]! << 8)) ^ HEX_PAIRS[digest[i]!]!;
  }
  return difference === 0;
}

/** Order of the values of two pairs of one kind; null for others. */
export function compareDigestPairs(tables: DigestTables, a: number, b: number): number | null {
  if ((a & 3) !== (b & 3)) return null;
  const { bytes, digestBytes } = tableOf(tables, a);
  const aAt = digestOf(a) * digestBytes;
  const bAt = digestOf(b) * digestBytes;
  return compareInArena(bytes, aAt, digestBytes, bAt, digestBytes);
}

/** Counts as `uses` has them. */
export function digestUsesOf(tables: DigestTables, pair: number): number {
  return tableOf(tables, pair).uses[usesIndex(pair)]!;
}

export function setDigestUses(tables: DigestTables, pair: number, value: number): void {
  tableOf(tables, pair).uses[usesIndex(pair)] = value;
}

const usesIndex = (pair: number) => digestOf(pair) * 2 + (~pair & 1);

/** Number of the pair whose count is `uses[index]` of the table. */
export function digestPairAt({ digestBytes }: DigestTable, index: number): number {
  return ~((index >> 1) * 4 + (digestBytes === 64 ? 2 : 0) + (index & 1));
}

const valueBytes = (digestBytes: number, pair: number) =>
  isRedirect(pair) ? 2 + 2 * digestBytes : 4 + digestBytes;

/** Stored size of a pair, the padding included. */
export function digestEntryWords(tables: DigestTables, pair: number): number {
  const { digestBytes } = tableOf(tables, pair);
  return (digestPairName(pair).headBytes + valueBytes(digestBytes, pair) + 3) >> 2;
}

/** Writes a stored entry from word `to` on; both suffixes end where a word does. */
export function emitDigestEntry(
  tables: DigestTables,
  pair: number,
  target: Int32Array,
  to: number,
): void {
  const table = tableOf(tables, pair);
  const { head } = digestPairName(pair);
  for (let i = 0; i < head.length; i++) target[to + i] = head[i]!;
  target[to]! |= valueBytes(table.digestBytes, pair) << 16;
  if (isRedirect(pair)) emitRedirect(table, digestOf(pair), target, to + head.length);
  else emitMetacopy(table, digestOf(pair), target, to + head.length);
}

/** `struct ovl_metacopy`: version 0, length, flags 0, algorithm, digest. */
function emitMetacopy(
  { words, digestBytes }: DigestTable,
  digest: number,
  target: Int32Array,
  to: number,
): void {
  const algorithm = verityAlgorithmId(digestBytes === 64 ? "sha512" : "sha256");
  target[to] = ((4 + digestBytes) << 8) | (algorithm << 24);
  const size = digestBytes >> 2;
  for (let i = 0; i < size; i++) target[to + 1 + i] = words[digest * size + i]!;
}

/** Slash, two digits, slash, the rest; four digits to a word. */
function emitRedirect(
  { bytes, digestBytes }: DigestTable,
  digest: number,
  target: Int32Array,
  to: number,
): void {
  const first = digest * digestBytes;
  const last = first + digestBytes - 1;
  target[to] = SLASH | (HEX_PAIRS[bytes[first]!]! << 8) | (SLASH << 24);
  let at = to + 1;
  for (let i = first + 1; i < last; i += 2) {
    target[at++] = HEX_PAIRS[bytes[i]!]! | (HEX_PAIRS[bytes[i + 1]!]! << 16);
  }
  target[at] = HEX_PAIRS[bytes[last]!]!;
}
