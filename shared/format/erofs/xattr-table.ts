// All (name, value) pairs of an image, interned: an inode's xattrs are a run of pair numbers.
//
// A pair is kept as the image stores it (`struct erofs_xattr_entry`, name suffix, value, padded to
// whole words), so that comparing, hashing and writing it go word by word. One that several inodes use
// is stored once in the image's shared area, so the writer needs use counts anyway. Pairs with negative
// numbers are kept in a shorter form (digest-table.ts).

import { growColumn } from "../../bytes/column.ts";
import { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";
import { fromByteString } from "../tree/node.ts";
import {
  compareDigestPairs,
  createDigestTables,
  type DigestTables,
  digestEntryWords,
  digestPairName,
  digestUsesOf,
  emitDigestEntry,
  setDigestUses,
} from "./digest-table.ts";
import { hashWords } from "./word-hash.ts";
import { splitXattrName, type XattrName } from "./xattr-name.ts";

export interface XattrTable {
  readonly digests: DigestTables;
  readonly useLustre: boolean;
  readonly names: XattrName[];
  readonly nameIds: Map<ByteString, number>;
  /** Stored entries, one after another; `bytes` is a view of the same memory. */
  words: Int32Array;
  bytes: Uint8Array;
  wordCount: number;
  pairCount: number;
  /** By pair: name, first word, hash. */
  nameOf: Uint16Array;
  entryAt: Int32Array;
  hashOf: Int32Array;
  /** By pair: inodes that have it; once it is known what is shared, `offset + 1` there or 0. */
  uses: Int32Array;
  /** Open addressing over pair number + 1; the size is a power of two. */
  slots: Int32Array;
  /** Inodes' runs: the count, then so many pair numbers. Run 0 is the empty one. */
  lists: Int32Array;
  listsLength: number;
}

const MAX_NAMES = 0xffff;
const MAX_NAME_BYTES = 255;
const MAX_VALUE_BYTES = 0xffff;
/** Offsets have to fit 31 bits. */
const MAX_WORDS = 2 ** 29;

export function createXattrTable(useLustre: boolean): XattrTable {
  const words = new Int32Array(1 << 14);
  return {
    digests: createDigestTables(),
    useLustre,
    names: [],
    nameIds: new Map(),
    words,
    bytes: new Uint8Array(words.buffer),
    wordCount: 0,
    pairCount: 0,
    nameOf: new Uint16Array(1024),
    entryAt: new Int32Array(1024),
    hashOf: new Int32Array(1024),
    uses: new Int32Array(1024),
    slots: new Int32Array(2048),
    lists: new Int32Array(1024),
    listsLength: 1,
  };
}

/** Number of a name (as stored in the image); FormatError when empty or longer than 255 bytes. */
export function internXattrName(table: XattrTable, name: ByteString): number {
  const known = table.nameIds.get(name);
  if (known !== undefined) return known;
  if (name.length === 0 || name.length > MAX_NAME_BYTES) {
    throw new FormatError(
      "limit",
      `Extended attribute name "${fromByteString(name)}" is not 1 to ${MAX_NAME_BYTES} bytes long`,
      { format: "erofs", field: "xattr" },
    );
  }
  const id = table.names.length;
  if (id >= MAX_NAMES) {
    throw new FormatError("limit", `More than ${MAX_NAMES} different extended attribute names`);
  }
  table.names.push(splitXattrName(name, table.useLustre));
  table.nameIds.set(name, id);
  return id;
}

/** Number of the pair (name, `source[from..end]`). */
export function internXattrPair(
  table: XattrTable,
  name: number,
  source: Uint8Array,
  from = 0,
  end = source.length,
): number {
  const valueLength = end - from;
  if (valueLength > MAX_VALUE_BYTES) throw valueTooLong(table, name, valueLength);
  // Made behind the last entry, and left there if it is new.
  const first = table.wordCount;
  const last = putEntry(table, table.names[name]!, source, from, valueLength);
  const { slots } = table;
  const mask = slots.length - 1;
  const hash = hashWords(table.words, first, last);
  let slot = hash & mask;
  for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
    const pair = slots[slot]! - 1;
    if (table.hashOf[pair] === hash && isEntry(table, pair, first, last)) return pair;
  }
  const pair = table.pairCount;
  if (pair === table.nameOf.length) growPairs(table);
  table.nameOf[pair] = name;
  table.entryAt[pair] = first;
  table.hashOf[pair] = hash;
  table.wordCount = last;
  table.pairCount = pair + 1;
  slots[slot] = pair + 1;
  if (table.pairCount * 4 > slots.length * 3) growSlots(table);
  return pair;
}

function valueTooLong(table: XattrTable, name: number, length: number): FormatError {
  const { full } = table.names[name]!;
  return new FormatError(
    "limit",
    `Extended attribute "${fromByteString(full)}" has ${length} bytes, at most ${MAX_VALUE_BYTES} are possible`,
    { format: "erofs", field: "xattr" },
  );
}

/** Writes a stored entry behind the others; returns the word where it ends. */
function putEntry(
  table: XattrTable,
  { head, headBytes }: XattrName,
  source: Uint8Array,
  from: number,
  valueLength: number,
): number {
  const first = table.wordCount;
  const last = first + ((headBytes + valueLength + 3) >> 2);
  if (last > table.words.length) growWords(table, last);
  const { words, bytes } = table;
  // What an entry that was not kept has left is overwritten; of the padding only the last word.
  words[last - 1] = 0;
  for (let i = 0; i < head.length; i++) words[first + i] = head[i]!;
  words[first]! |= valueLength << 16;
  const valueAt = first * 4 + headBytes;
  for (let i = 0; i < valueLength; i++) bytes[valueAt + i] = source[from + i]!;
  return last;
}

/** Whether the pair's entry is `words[first..last]`. The first word tells the lengths of both. */
function isEntry({ words, entryAt }: XattrTable, pair: number, first: number, last: number) {
  const start = entryAt[pair]! - first;
  for (let i = first; i < last; i++) if (words[start + i] !== words[i]) return false;
  return true;
}

function growWords(table: XattrTable, wanted: number): void {
  if (wanted > MAX_WORDS) {
    throw new FormatError("limit", "File tree needs more than 2 GiB of extended attributes");
  }
  const size = Math.min(MAX_WORDS, Math.max(wanted, table.words.length * 2));
  table.words = growColumn(table.words, size);
  table.bytes = new Uint8Array(table.words.buffer);
}

function growPairs(table: XattrTable): void {
  const size = table.nameOf.length * 2;
  table.nameOf = growColumn(table.nameOf, size);
  table.entryAt = growColumn(table.entryAt, size);
  table.hashOf = growColumn(table.hashOf, size);
  table.uses = growColumn(table.uses, size);
}

function growSlots(table: XattrTable): void {
  const slots = new Int32Array(table.slots.length * 2);
  const mask = slots.length - 1;
  const { hashOf, pairCount } = table;
  for (let pair = 0; pair < pairCount; pair++) {
    let slot = hashOf[pair]! & mask;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = pair + 1;
  }
  table.slots = slots;
}

/** Stores a run of pair numbers, given in two parts; returns its start in `lists`. */
export function appendXattrList(
  table: XattrTable,
  some: readonly number[],
  more: readonly number[],
): number {
  const length = some.length + more.length;
  if (length === 0) return 0;
  const start = table.listsLength;
  const end = start + 1 + length;
  if (end > table.lists.length) {
    table.lists = growColumn(table.lists, Math.max(end, table.lists.length * 2));
  }
  const { lists } = table;
  lists[start] = length;
  let at = start + 1;
  for (let i = 0; i < some.length; i++) lists[at++] = some[i]!;
  for (let i = 0; i < more.length; i++) lists[at++] = more[i]!;
  table.listsLength = end;
  return start;
}

/** 0 for a pair that is not shared; see `uses`. */
export function usesOf({ uses, digests }: XattrTable, pair: number): number {
  return pair < 0 ? digestUsesOf(digests, pair) : uses[pair]!;
}

export function setUses({ uses, digests }: XattrTable, pair: number, value: number): void {
  if (pair < 0) setDigestUses(digests, pair, value);
  else uses[pair] = value;
}

export function nameOfPair({ names, nameOf }: XattrTable, pair: number): XattrName {
  return pair < 0 ? digestPairName(pair) : names[nameOf[pair]!]!;
}

/** Stored size of a pair in words. */
export function xattrEntryWords({ words, entryAt, digests }: XattrTable, pair: number): number {
  if (pair < 0) return digestEntryWords(digests, pair);
  const header = words[entryAt[pair]!]!;
  return (4 + (header & 0xff) + (header >>> 16) + 3) >> 2;
}

/** Writes a stored entry from word `to` on; returns its size in words. */
export function emitXattrEntry(
  table: XattrTable,
  pair: number,
  target: Int32Array,
  to: number,
): number {
  const length = xattrEntryWords(table, pair);
  if (pair < 0) {
    emitDigestEntry(table.digests, pair, target, to);
    return length;
  }
  const from = table.entryAt[pair]!;
  const { words } = table;
  for (let i = 0; i < length; i++) target[to + i] = words[from + i]!;
  return length;
}

/** Order of two pairs by full name, then value length, then value (versions 0 and 1). */
export function comparePairs(table: XattrTable, a: number, b: number): number {
  if (a < 0 && b < 0) {
    const order = compareDigestPairs(table.digests, a, b);
    if (order !== null) return order;
  }
  const nameA = nameOfPair(table, a).full;
  const nameB = nameOfPair(table, b).full;
  if (nameA !== nameB) return nameA < nameB ? -1 : 1;
  const valueA = pairValue(table, a);
  const valueB = pairValue(table, b);
  return valueA.length - valueB.length || Buffer.compare(valueA, valueB);
}

/** Order of two pairs by prefix number, suffix, value (version 2's shared area). */
export function comparePairsVersion2(table: XattrTable, a: number, b: number): number {
  const nameA = nameOfPair(table, a);
  const nameB = nameOfPair(table, b);
  if (nameA.full === nameB.full) return Buffer.compare(pairValue(table, a), pairValue(table, b));
  if (nameA.prefixIndex !== nameB.prefixIndex) return nameA.prefixIndex - nameB.prefixIndex;
  return nameA.full < nameB.full ? -1 : 1;
}

/** A pair's value, for comparing: files mostly differ in their names alone. */
function pairValue(table: XattrTable, pair: number): Uint8Array {
  const words = new Int32Array(xattrEntryWords(table, pair));
  emitXattrEntry(table, pair, words, 0);
  const { headBytes } = nameOfPair(table, pair);
  return new Uint8Array(words.buffer, headBytes, words[0]! >>> 16);
}
