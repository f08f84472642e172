// xattrs in the image: per inode a filter, references into the shared area, then its own entries.

import { reserveInSink, type Sink } from "../../bytes/sink.ts";
import { FormatError } from "../../error.ts";
import type { Arrangement } from "./arrange.ts";
import type { ErofsFormat } from "./format.ts";
import { INODE_WORDS, INODE_XATTRS } from "./inode-table.ts";
import { XattrHeader } from "./layout.ts";
import { emitXattrEntry, nameOfPair, usesOf, xattrEntryWords } from "./xattr-table.ts";

const HEADER_WORDS = XattrHeader.sizeBytes / 4;
const SHARED_COUNT_WORD = XattrHeader.offsets.sharedCount / 4;
/** C refers to at most so many shared pairs and stores the rest with the inode. */
const MAX_SHARED_C = 128;
const MAX_SHARED = 255;
const MAX_AREA_WORDS = 0xffff - 1 + HEADER_WORDS;

function maxShared(format: ErofsFormat): number {
  return format.dialect === "c" ? MAX_SHARED_C : 0x7fff_ffff;
}

/** Words between inode header and tail. */
export function inodeXattrWords({ table, format }: Arrangement, inode: number): number {
  const run = table.inodes[inode * INODE_WORDS + INODE_XATTRS]!;
  if (run === 0) return 0;
  const { xattrs } = table;
  const { lists } = xattrs;
  const limit = maxShared(format);
  const end = run + lists[run]!;
  let shared = 0;
  let size = HEADER_WORDS;
  for (let i = run + 1; i <= end; i++) {
    const pair = lists[i]!;
    if (usesOf(xattrs, pair) !== 0 && shared < limit) {
      shared += 1;
      size += 1;
    } else {
      size += xattrEntryWords(xattrs, pair);
    }
  }
  if (shared > MAX_SHARED || size > MAX_AREA_WORDS) {
    throw new FormatError("limit", "A file has more extended attributes than an image can hold", {
      format: "erofs",
      field: "xattr",
    });
  }
  return size;
}

/**
 * Writes an inode's area from word `to` on; the room is reserved. References count words from
 * `sharedBase`.
 */
export function emitInodeXattrs(
  { table, format }: Arrangement,
  sharedBase: number,
  sink: Sink,
  to: number,
  inode: number,
): void {
  const { xattrs } = table;
  const { lists } = xattrs;
  const { words } = sink;
  const run = table.inodes[inode * INODE_WORDS + INODE_XATTRS]!;
  const end = run + lists[run]!;
  const limit = maxShared(format);
  let filter = 0;
  let shared = 0;
  for (let i = run + 1; i <= end; i++) {
    const pair = lists[i]!;
    filter |= nameOfPair(xattrs, pair).filterBit;
    const uses = usesOf(xattrs, pair);
    if (uses === 0 || shared === limit) continue;
    words[to + HEADER_WORDS + shared] = sharedBase + ((uses - 1) >>> 2);
    shared += 1;
  }
  words[to] = ~filter;
  words[to + SHARED_COUNT_WORD] = shared;
  let at = to + HEADER_WORDS + shared;
  let referred = 0;
  for (let i = run + 1; i <= end; i++) {
    const pair = lists[i]!;
    if (referred < shared && usesOf(xattrs, pair) !== 0) referred += 1;
    else at += emitXattrEntry(xattrs, pair, words, at);
  }
}

/** Writes the pairs that several inodes have. */
export function emitSharedXattrs({ table, sharedPairs }: Arrangement, sink: Sink): void {
  const { xattrs } = table;
  for (const pair of sharedPairs) {
    const at = reserveInSink(sink, 4 * xattrEntryWords(xattrs, pair));
    emitXattrEntry(xattrs, pair, sink.words, at / 4);
  }
}

/** Total of what `emitSharedXattrs` writes. */
export function sharedXattrBytes({ table, sharedPairs }: Arrangement): number {
  return sharedPairs.reduce((sum, pair) => sum + 4 * xattrEntryWords(table.xattrs, pair), 0);
}
