// Decides everything about an image but byte positions: entry order, which name carries a hard
// link, inode order, link counts, shared xattrs, build time (composefs.md 2.3-2.6, 2.10-2.12).

import { appendStringToArena, compareInArena } from "../../bytes/arena.ts";
import { FormatError } from "../../error.ts";
import { fromByteString, S_IFDIR, S_IFMT } from "../tree/node.ts";
import type { ErofsFormat } from "./format.ts";
import { addSharedEntry, entryName, type InodeTable, NONE } from "./inode-table.ts";
import { HEADER_FLAG_ACL } from "./layout.ts";
import { addObjectStubs, escapeWhiteouts, markRootOpaque } from "./whiteout.ts";
import { comparePairs, comparePairsVersion2, type XattrTable } from "./xattr-table.ts";

export interface Arrangement {
  readonly table: InodeTable;
  readonly format: ErofsFormat;
  /** Inode numbers of the table in image order. */
  readonly order: Uint32Array;
  /** Pairs stored once for all, in stored order. `table.xattrs.uses` now holds offset + 1 or 0. */
  readonly sharedPairs: Uint32Array;
  readonly buildTimeSec: number;
  readonly buildTimeNsec: number;
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
  const [buildTimeSec, buildTimeNsec] =
    format.version === 2 ? [0, 0] : findBuildTime(table, format);
  const headerFlags = format.version !== 2 && hasAcl(table.xattrs, format) ? HEADER_FLAG_ACL : 0;
  return { table, format, order, sharedPairs, buildTimeSec, buildTimeNsec, headerFlags };
}

export function isDirectory(table: InodeTable, inode: number): boolean {
  return (table.mode[inode]! & S_IFMT) === S_IFDIR;
}

/** Puts every directory's entries, with `.` and `..`, into byte order. */
function sortDirectories(table: InodeTable): void {
  const dot = appendStringToArena(table.text, "..");
  const scratch: number[] = [];
  const inodes = table.inodeCount;
  for (let directory = 0; directory < inodes; directory++) {
    if (!isDirectory(table, directory)) continue;
    scratch.length = 0;
    for (let e = table.firstEntry[directory]!; e !== NONE; e = table.nextEntry[e]!) scratch.push(e);
    scratch.push(addSharedEntry(table, dot, 2, table.parent[directory]!));
    scratch.push(addSharedEntry(table, dot, 1, directory));
    // The list holds the newest entry first and input mostly comes sorted.
    scratch.reverse();
    if (!isSorted(table, scratch, 2)) scratch.sort((a, b) => compareEntries(table, a, b));
    else placeDots(table, scratch);
    relink(table, directory, scratch);
  }
}

function compareEntries(table: InodeTable, a: number, b: number): number {
  const { nameAt, nameLength, text } = table;
  return compareInArena(text.bytes, nameAt[a]!, nameLength[a]!, nameAt[b]!, nameLength[b]!);
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
    for (let i = dot; i + 1 < entries.length; i++) {
      if (compareEntries(table, entries[i]!, entries[i + 1]!) < 0) break;
      [entries[i], entries[i + 1]] = [entries[i + 1]!, entries[i]!];
    }
  }
}

function relink(table: InodeTable, directory: number, entries: readonly number[]): void {
  let next = NONE;
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i]!;
    if (next !== NONE && compareEntries(table, entry, next) === 0)
      throw duplicateName(table, entry);
    table.nextEntry[entry] = next;
    next = entry;
  }
  table.firstEntry[directory] = next;
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
    if (!isDirectory(table, inode)) table.home[inode] = NONE;
  }
  walkDepthFirst(table, (entry, inode) => {
    if (table.home[inode] === NONE) table.home[inode] = entry;
  });
}

/** Visits every entry but the dots, directories before their content, in byte order. */
function walkDepthFirst(table: InodeTable, visit: (entry: number, inode: number) => void): void {
  const stack = [table.firstEntry[0]!];
  while (stack.length > 0) {
    const entry = stack.pop()!;
    if (entry === NONE) continue;
    stack.push(table.nextEntry[entry]!);
    const inode = table.entryInode[entry]!;
    if (!isDirectory(table, inode)) visit(entry, inode);
    else if (table.home[inode] === entry) {
      visit(entry, inode);
      stack.push(table.firstEntry[inode]!);
    }
  }
}

function countLinks(table: InodeTable, format: ErofsFormat): void {
  const recount = format.dialect === "rust";
  for (let inode = 0; inode < table.inodeCount; inode++) {
    if (recount || isDirectory(table, inode)) table.nlink[inode] = 0;
  }
  for (let directory = 0; directory < table.inodeCount; directory++) {
    for (let e = table.firstEntry[directory]!; e !== NONE; e = table.nextEntry[e]!) {
      const inode = table.entryInode[e]!;
      if (isDirectory(table, inode)) table.nlink[directory]! += 1;
      else if (recount) table.nlink[inode]! += 1;
    }
  }
}

function orderBreadthFirst(table: InodeTable): Uint32Array {
  const order = new Uint32Array(table.inodeCount);
  let count = 1;
  for (let at = 0; at < count; at++) {
    for (let e = table.firstEntry[order[at]!]!; e !== NONE; e = table.nextEntry[e]!) {
      const inode = table.entryInode[e]!;
      // In C the name its input marked carries a hard link; without a mark the first does.
      if (table.home[inode] === NONE && inode !== 0) table.home[inode] = e;
      if (table.home[inode] === e) order[count++] = inode;
    }
  }
  return order.subarray(0, count);
}

function orderDepthFirst(table: InodeTable): Uint32Array {
  const order = new Uint32Array(table.inodeCount);
  let count = 1;
  walkDepthFirst(table, (entry, inode) => {
    if (table.home[inode] === entry) order[count++] = inode;
  });
  return order.subarray(0, count);
}

/** Finds the pairs that more than one inode has and gives them offsets in the shared area. */
function shareXattrs(table: InodeTable, format: ErofsFormat, order: Uint32Array): Uint32Array {
  const { xattrs, xattrAt, xattrCount } = table;
  const { uses, lists } = xattrs;
  for (const inode of order) {
    const start = xattrAt[inode]!;
    for (let i = 0; i < xattrCount[inode]!; i++) uses[lists[start + i]!]! += 1;
  }
  const shared: number[] = [];
  for (let pair = 0; pair < xattrs.pairCount; pair++) {
    if (uses[pair]! > 1) shared.push(pair);
    uses[pair] = 0;
  }
  if (format.version === 2) shared.sort((a, b) => comparePairsVersion2(xattrs, a, b));
  else shared.sort((a, b) => comparePairs(xattrs, b, a));
  let offset = 0;
  for (const pair of shared) {
    uses[pair] = offset + 1;
    offset += xattrEntryBytes(xattrs, pair);
  }
  return Uint32Array.from(shared);
}

/** Stored size of one (name, value) pair, padded to 4. */
export function xattrEntryBytes(xattrs: XattrTable, pair: number): number {
  const name = xattrs.names[xattrs.nameOf[pair]!]!;
  return (4 + name.suffix.length + xattrs.valueLength[pair]! + 3) & ~3;
}

/** The earliest mtime. Rust compares seconds as unsigned, so that negative ones are the latest. */
function findBuildTime(table: InodeTable, format: ErofsFormat): [number, number] {
  const { mtimeSec, mtimeNsec } = table;
  let best = 0;
  for (let inode = 1; inode < table.inodeCount; inode++) {
    const sec = mtimeSec[inode]!;
    const bestSec = mtimeSec[best]!;
    let difference = sec - bestSec;
    if (difference === 0) difference = mtimeNsec[inode]! - mtimeNsec[best]!;
    else if (format.dialect === "rust" && sec < 0 !== bestSec < 0) difference = -difference;
    if (difference < 0) best = inode;
  }
  return [mtimeSec[best]!, mtimeNsec[best]!];
}

function hasAcl(xattrs: XattrTable, format: ErofsFormat): boolean {
  return xattrs.names.some(
    ({ prefixIndex, suffix }) =>
      (prefixIndex === 2 || prefixIndex === 3) &&
      (format.dialect === "rust" || suffix.length === 0),
  );
}
