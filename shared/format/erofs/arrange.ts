// Decides everything about an image but byte positions: entry order, which name carries a hard
// link, inode order, link counts, shared xattrs, build time (composefs.md 2.3-2.6, 2.10-2.12).

import { appendStringToArena, compareInArena } from "../../bytes/arena.ts";
import { FormatError } from "../../error.ts";
import { fromByteString } from "../tree/node.ts";
import { digestPairAt } from "./digest-table.ts";
import type { ErofsFormat } from "./format.ts";
import {
  addLooseEntry,
  ENTRY_NAME,
  ENTRY_NAME_BYTES,
  ENTRY_NEXT,
  ENTRY_WORDS,
  entryName,
  firstEntryOf,
  homeOf,
  INODE_CONTENT,
  INODE_MTIME,
  INODE_MTIME_HIGH,
  INODE_NLINK,
  INODE_NSEC,
  INODE_PARENT,
  INODE_WORDS,
  INODE_XATTRS,
  type InodeTable,
  inodeOfEntry,
  isDirectory,
  NONE,
  nextEntryOf,
  setHome,
} from "./inode-table.ts";
import { HEADER_FLAG_ACL } from "./layout.ts";
import { addObjectStubs, escapeWhiteouts, markRootOpaque } from "./whiteout.ts";
import {
  comparePairs,
  comparePairsVersion2,
  setUses,
  usesOf,
  type XattrTable,
  xattrEntryWords,
} from "./xattr-table.ts";

export interface Arrangement {
  readonly table: InodeTable;
  readonly format: ErofsFormat;
  /** Inode numbers of the table in image order. */
  readonly order: Int32Array;
  /** Pairs stored once for all, in stored order. `table.xattrs.uses` now holds offset + 1 or 0. */
  readonly sharedPairs: readonly number[];
  /** Inode with the earliest time, which is the image's; versions 0 and 1. */
  readonly oldest: number;
  readonly headerFlags: number;
}

/** Consumes the table: entries are sorted and whiteouts rewritten in place. */
export function arrangeImage(table: InodeTable, format: ErofsFormat): Arrangement {
  const firstStub = format.version === 2 ? table.inodeCount : addObjectStubs(table);
  sortDirectories(table);
  if (table.hasLinks && format.dialect === "rust") chooseHomes(table);
  const order = format.version === 2 ? orderDepthFirst(table) : orderBreadthFirst(table);
  if (format.version !== 2) {
    escapeWhiteouts(table, format, firstStub);
    markRootOpaque(table, format);
  }
  countLinks(table, format);
  const sharedPairs = shareXattrs(table, format, order);
  const oldest = format.version === 2 ? 0 : findOldest(table, format);
  const headerFlags = format.version !== 2 && hasAcl(table.xattrs, format) ? HEADER_FLAG_ACL : 0;
  return { table, format, order, sharedPairs, oldest, headerFlags };
}

/** Puts every directory's entries, with `.` and `..`, into byte order. */
function sortDirectories(table: InodeTable): void {
  const dot = appendStringToArena(table.text, "..");
  const scratch: number[] = [];
  const inodes = table.inodeCount;
  for (let directory = 0; directory < inodes; directory++) {
    if (!isDirectory(table, directory)) continue;
    scratch.length = 0;
    const first = firstEntryOf(table, directory);
    for (let e = first; e !== NONE; e = nextEntryOf(table, e)) scratch.push(e);
    const parent = table.inodes[directory * INODE_WORDS + INODE_PARENT]!;
    scratch.push(addLooseEntry(table, dot, 2, parent));
    scratch.push(addLooseEntry(table, dot, 1, directory));
    // The list holds the newest entry first and input mostly comes sorted.
    scratch.reverse();
    if (!isSorted(table, scratch, 2)) scratch.sort((a, b) => compareEntries(table, a, b));
    else placeDots(table, scratch);
    relink(table, directory, scratch);
  }
}

function compareEntries({ entries, text }: InodeTable, a: number, b: number): number {
  const aAt = a * ENTRY_WORDS;
  const bAt = b * ENTRY_WORDS;
  return compareInArena(
    text.bytes,
    entries[aAt + ENTRY_NAME]! >>> 0,
    entries[aAt + ENTRY_NAME_BYTES]!,
    entries[bAt + ENTRY_NAME]! >>> 0,
    entries[bAt + ENTRY_NAME_BYTES]!,
  );
}

function isSorted(table: InodeTable, entries: readonly number[], from: number): boolean {
  for (let i = from + 1; i < entries.length; i++) {
    if (compareEntries(table, entries[i - 1]!, entries[i]!) >= 0) return false;
  }
  return true;
}

/** Moves the two leading dot entries of an otherwise sorted list to their places. */
function placeDots(table: InodeTable, entries: number[]): void {
  for (let dot = 1; dot >= 0; dot--) {
    const entry = entries[dot]!;
    let at = dot;
    for (; at + 1 < entries.length; at++) {
      if (compareEntries(table, entry, entries[at + 1]!) < 0) break;
      entries[at] = entries[at + 1]!;
    }
    entries[at] = entry;
  }
}

function relink(table: InodeTable, directory: number, sorted: readonly number[]): void {
  const { entries } = table;
  let next = NONE;
  for (let i = sorted.length - 1; i >= 0; i--) {
    const entry = sorted[i]!;
    if (next !== NONE && compareEntries(table, entry, next) === 0)
      throw duplicateName(table, entry);
    entries[entry * ENTRY_WORDS + ENTRY_NEXT] = next;
    next = entry;
  }
  table.inodes[directory * INODE_WORDS + INODE_CONTENT] = next;
}

function duplicateName(table: InodeTable, entry: number): FormatError {
  const name = fromByteString(entryName(table, entry));
  return new FormatError("bad-value", `Directory has the name "${name}" twice, or it is reserved`, {
    format: "erofs",
    field: "name",
  });
}

/** In Rust the first name in depth-first order carries a hard link. */
function chooseHomes(table: InodeTable): void {
  for (let inode = 1; inode < table.inodeCount; inode++) {
    if (!isDirectory(table, inode)) setHome(table, inode, NONE);
  }
  walkDepthFirst(table, (entry, inode) => {
    if (homeOf(table, inode) === NONE) setHome(table, inode, entry);
  });
}

/** Visits every entry but the dots, directories before their content, in byte order. */
function walkDepthFirst(table: InodeTable, visit: (entry: number, inode: number) => void): void {
  const stack = [firstEntryOf(table, 0)];
  while (stack.length > 0) {
    const entry = stack.pop()!;
    if (entry === NONE) continue;
    stack.push(nextEntryOf(table, entry));
    const inode = inodeOfEntry(table, entry);
    if (!isDirectory(table, inode)) visit(entry, inode);
    else if (homeOf(table, inode) === entry) {
      visit(entry, inode);
      stack.push(firstEntryOf(table, inode));
    }
  }
}

function countLinks(table: InodeTable, format: ErofsFormat): void {
  const { inodes, inodeCount } = table;
  const recount = format.dialect === "rust";
  for (let inode = 0; inode < inodeCount; inode++) {
    if (recount || isDirectory(table, inode)) inodes[inode * INODE_WORDS + INODE_NLINK] = 0;
  }
  for (let directory = 0; directory < inodeCount; directory++) {
    if (!isDirectory(table, directory)) continue;
    const first = firstEntryOf(table, directory);
    for (let e = first; e !== NONE; e = nextEntryOf(table, e)) {
      const inode = inodeOfEntry(table, e);
      if (recount || isDirectory(table, inode)) inodes[inode * INODE_WORDS + INODE_NLINK]! += 1;
    }
  }
}

function orderBreadthFirst(table: InodeTable): Int32Array {
  const order = new Int32Array(table.inodeCount);
  let count = 1;
  for (let at = 0; at < count; at++) {
    const directory = order[at]!;
    if (!isDirectory(table, directory)) continue;
    const first = firstEntryOf(table, directory);
    for (let e = first; e !== NONE; e = nextEntryOf(table, e)) {
      const inode = inodeOfEntry(table, e);
      let home = homeOf(table, inode);
      // In C the name its input marked carries a hard link; without a mark the first does.
      if (home === NONE && inode !== 0) {
        setHome(table, inode, e);
        home = e;
      }
      if (home === e) order[count++] = inode;
    }
  }
  return order.subarray(0, count);
}

function orderDepthFirst(table: InodeTable): Int32Array {
  const order = new Int32Array(table.inodeCount);
  let count = 1;
  walkDepthFirst(table, (entry, inode) => {
    if (homeOf(table, inode) === entry) order[count++] = inode;
  });
  return order.subarray(0, count);
}

/** Finds the pairs that more than one inode has and gives them offsets in the shared area. */
function shareXattrs(table: InodeTable, format: ErofsFormat, order: Int32Array): number[] {
  const { xattrs, inodes } = table;
  const { lists } = xattrs;
  for (let index = 0; index < order.length; index++) {
    const run = inodes[order[index]! * INODE_WORDS + INODE_XATTRS]!;
    const end = run + lists[run]!;
    for (let i = run + 1; i <= end; i++) {
      setUses(xattrs, lists[i]!, usesOf(xattrs, lists[i]!) + 1);
    }
  }
  const shared: number[] = [];
  takeShared(xattrs.uses, xattrs.pairCount, (index) => shared.push(index));
  for (const digests of [xattrs.digests.sha256, xattrs.digests.sha512]) {
    const pairAt = (index: number) => digestPairAt(digests, index);
    takeShared(digests.uses, 2 * digests.count, (index) => shared.push(pairAt(index)));
  }
  if (format.version === 2) shared.sort((a, b) => comparePairsVersion2(xattrs, a, b));
  else shared.sort((a, b) => comparePairs(xattrs, b, a));
  let offset = 0;
  for (const pair of shared) {
    setUses(xattrs, pair, offset + 1);
    offset += 4 * xattrEntryWords(xattrs, pair);
  }
  return shared;
}

/** Visits what is used more than once, and sets all counts back to 0. */
function takeShared(uses: Int32Array, count: number, visit: (index: number) => void): void {
  for (let index = 0; index < count; index++) {
    if (uses[index]! > 1) visit(index);
    uses[index] = 0;
  }
}

/** Rust compares seconds as unsigned, so that negative ones are the latest. */
function findOldest({ inodes, inodeCount }: InodeTable, format: ErofsFormat): number {
  const flip = format.dialect === "rust" ? 0x8000_0000 : 0;
  let best = 0;
  for (let inode = 1; inode < inodeCount; inode++) {
    const at = inode * INODE_WORDS;
    let difference =
      (inodes[at + INODE_MTIME_HIGH]! ^ flip) - (inodes[best + INODE_MTIME_HIGH]! ^ flip);
    if (difference === 0) {
      difference = (inodes[at + INODE_MTIME]! >>> 0) - (inodes[best + INODE_MTIME]! >>> 0);
    }
    if (difference === 0) {
      difference = (inodes[at + INODE_NSEC]! >>> 0) - (inodes[best + INODE_NSEC]! >>> 0);
    }
    if (difference < 0) best = at;
  }
  return best / INODE_WORDS;
}

/** Names are in the table only because some inode has them. */
function hasAcl(xattrs: XattrTable, format: ErofsFormat): boolean {
  return xattrs.names.some(
    ({ prefixIndex, suffix }) =>
      (prefixIndex === 2 || prefixIndex === 3) &&
      (format.dialect === "rust" || suffix.length === 0),
  );
}
