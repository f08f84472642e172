// All (name, value) pairs of an image, interned: an inode's xattrs are a run of pair numbers.
//
// A pair used by more than one inode is stored once in the image's shared area, so the writer needs
// use counts anyway; interning gives them for 12 bytes a pair plus the value itself.

import type { Arena } from "../../bytes/arena.ts";
import { appendToArena, compareInArena, createArena } from "../../bytes/arena.ts";
import { growColumn } from "../../bytes/column.ts";
import { FormatError } from "../../error.ts";
import type { ByteString } from "../tree/node.ts";
import { fromByteString } from "../tree/node.ts";
import { splitXattrName, type XattrName } from "./xattr-name.ts";

export interface XattrTable {
  readonly useLustre: boolean;
  readonly names: XattrName[];
  readonly nameIds: Map<ByteString, number>;
  readonly values: Arena;
  pairCount: number;
  nameOf: Uint16Array;
  valueAt: Uint32Array;
  valueLength: Uint16Array;
  uses: Uint32Array;
  /** Open addressing over pair number + 1; the size is a power of two. */
  slots: Uint32Array;
  /** Inodes' runs of pair numbers, one after another. */
  lists: Uint32Array;
  listsLength: number;
}

const MAX_NAMES = 0xffff;
const MAX_NAME_BYTES = 255;
const MAX_VALUE_BYTES = 0xffff;
/** Never reaches the image: numbers of pairs follow from the order of their first use. */
const HASH_SEED = (Math.random() * 0x1_0000_0000) | 0;

export function createXattrTable(useLustre: boolean): XattrTable {
  return {
    useLustre,
    names: [],
    nameIds: new Map(),
    values: createArena(),
    pairCount: 0,
    nameOf: new Uint16Array(1024),
    valueAt: new Uint32Array(1024),
    valueLength: new Uint16Array(1024),
    uses: new Uint32Array(1024),
    slots: new Uint32Array(2048),
    lists: new Uint32Array(1024),
    listsLength: 0,
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

/** Number of the pair (name, `source[at..at+length]`). */
export function internXattrPair(
  table: XattrTable,
  name: number,
  source: Uint8Array,
  at = 0,
  length = source.length,
): number {
  if (length > MAX_VALUE_BYTES) {
    throw new FormatError(
      "limit",
      `Extended attribute "${fromByteString(table.names[name]!.full)}" has ${length} bytes, at most ${MAX_VALUE_BYTES} are possible`,
      { format: "erofs", field: "xattr" },
    );
  }
  const { slots } = table;
  const mask = slots.length - 1;
  let slot = hashPair(name, source, at, length) & mask;
  for (;;) {
    const entry = slots[slot]!;
    if (entry === 0) break;
    if (isPair(table, entry - 1, name, source, at, length)) return entry - 1;
    slot = (slot + 1) & mask;
  }
  const pair = table.pairCount;
  if (pair === table.nameOf.length) growPairs(table);
  table.nameOf[pair] = name;
  table.valueAt[pair] = appendToArena(table.values, source, at, length);
  table.valueLength[pair] = length;
  table.pairCount = pair + 1;
  slots[slot] = pair + 1;
  if (table.pairCount * 4 > slots.length * 3) growSlots(table);
  return pair;
}

/**
 * MurmurHash3 (32 bits) with a seed of this process. Values are often alike but for a few bits, and
 * may come from somebody who wishes us ill: a weaker mix makes the table a list, and the time square.
 */
function hashPair(name: number, source: Uint8Array, at: number, length: number): number {
  let hash = name ^ HASH_SEED;
  const end = at + length;
  let i = at;
  for (; i + 4 <= end; i += 4) {
    const word =
      source[i]! | (source[i + 1]! << 8) | (source[i + 2]! << 16) | (source[i + 3]! << 24);
    hash = mixWord(hash, word);
  }
  let rest = 0;
  for (; i < end; i++) rest = (rest << 8) | source[i]!;
  hash = mixWord(hash, rest) ^ length;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

function mixWord(hash: number, word: number): number {
  let mixed = Math.imul(word, 0xcc9e2d51);
  mixed = Math.imul((mixed << 15) | (mixed >>> 17), 0x1b873593);
  const joined = hash ^ mixed;
  return (Math.imul((joined << 13) | (joined >>> 19), 5) + 0xe6546b64) | 0;
}

function isPair(
  table: XattrTable,
  pair: number,
  name: number,
  source: Uint8Array,
  at: number,
  length: number,
): boolean {
  if (table.nameOf[pair] !== name || table.valueLength[pair] !== length) return false;
  const { bytes } = table.values;
  const start = table.valueAt[pair]!;
  for (let i = 0; i < length; i++) if (bytes[start + i] !== source[at + i]) return false;
  return true;
}

function growPairs(table: XattrTable): void {
  const size = table.nameOf.length * 2;
  table.nameOf = growColumn(table.nameOf, size);
  table.valueAt = growColumn(table.valueAt, size);
  table.valueLength = growColumn(table.valueLength, size);
  table.uses = growColumn(table.uses, size);
}

function growSlots(table: XattrTable): void {
  const slots = new Uint32Array(table.slots.length * 2);
  const mask = slots.length - 1;
  const { bytes } = table.values;
  for (let pair = 0; pair < table.pairCount; pair++) {
    let slot =
      hashPair(table.nameOf[pair]!, bytes, table.valueAt[pair]!, table.valueLength[pair]!) & mask;
    while (slots[slot] !== 0) slot = (slot + 1) & mask;
    slots[slot] = pair + 1;
  }
  table.slots = slots;
}

/** Stores a run of pair numbers; returns its start in `lists`. */
export function appendXattrList(table: XattrTable, pairs: readonly number[]): number {
  const start = table.listsLength;
  const end = start + pairs.length;
  if (end > table.lists.length) {
    table.lists = growColumn(table.lists, Math.max(end, table.lists.length * 2));
  }
  for (let i = 0; i < pairs.length; i++) table.lists[start + i] = pairs[i]!;
  table.listsLength = end;
  return start;
}

/** Order of two pairs by full name, then value length, then value (versions 0 and 1). */
export function comparePairs(table: XattrTable, a: number, b: number): number {
  const names = compareNames(table, a, b);
  if (names !== 0) return names;
  const lengths = table.valueLength[a]! - table.valueLength[b]!;
  return lengths !== 0 ? lengths : compareValues(table, a, b);
}

function compareNames(table: XattrTable, a: number, b: number): number {
  if (table.nameOf[a] === table.nameOf[b]) return 0;
  return table.names[table.nameOf[a]!]!.full < table.names[table.nameOf[b]!]!.full ? -1 : 1;
}

function compareValues(table: XattrTable, a: number, b: number): number {
  const { values, valueAt, valueLength } = table;
  return compareInArena(values.bytes, valueAt[a]!, valueLength[a]!, valueAt[b]!, valueLength[b]!);
}

/** Order of two pairs by prefix number, suffix, value (version 2's shared area). */
export function comparePairsVersion2(table: XattrTable, a: number, b: number): number {
  const nameA = table.names[table.nameOf[a]!]!;
  const nameB = table.names[table.nameOf[b]!]!;
  if (nameA === nameB) return compareValues(table, a, b);
  if (nameA.prefixIndex !== nameB.prefixIndex) return nameA.prefixIndex - nameB.prefixIndex;
  return nameA.full < nameB.full ? -1 : 1;
}
