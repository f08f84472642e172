// xattrs in the image: per inode a filter, references into the shared area, then its own entries.

import type { Sink } from "../../bytes/sink.ts";
import { FormatError } from "../../error.ts";
import { type Arrangement, xattrEntryBytes } from "./arrange.ts";
import type { ErofsFormat } from "./format.ts";
import { BLOCK_BYTES, XattrEntry, XattrHeader } from "./layout.ts";
import type { XattrTable } from "./xattr-table.ts";

const HEADER_BYTES = XattrHeader.sizeBytes;
const REFERENCE_BYTES = 4;
/** C refers to at most so many shared pairs and stores the rest with the inode. */
const MAX_SHARED_C = 128;
const MAX_SHARED = 255;
const MAX_AREA_BYTES = (0xffff - 1) * 4 + HEADER_BYTES;

function maxShared(format: ErofsFormat): number {
  return format.dialect === "c" ? MAX_SHARED_C : Number.POSITIVE_INFINITY;
}

/** Bytes between inode header and tail. */
export function inodeXattrBytes(arrangement: Arrangement, inode: number): number {
  const { table } = arrangement;
  const count = table.xattrCount[inode]!;
  if (count === 0) return 0;
  const { xattrs } = table;
  const start = table.xattrAt[inode]!;
  const limit = maxShared(arrangement.format);
  let shared = 0;
  let sizeBytes = HEADER_BYTES;
  for (let i = start; i < start + count; i++) {
    const pair = xattrs.lists[i]!;
    if (xattrs.uses[pair] !== 0 && shared < limit) {
      shared += 1;
      sizeBytes += REFERENCE_BYTES;
    } else {
      sizeBytes += xattrEntryBytes(xattrs, pair);
    }
  }
  if (shared > MAX_SHARED || sizeBytes > MAX_AREA_BYTES) {
    throw new FormatError("limit", "A file has more extended attributes than an image can hold", {
      format: "erofs",
      field: "xattr",
    });
  }
  return sizeBytes;
}

/** Writes the area at `at`; the room is reserved. */
export function emitInodeXattrs(
  state: Arrangement & { readonly inodesEnd: number },
  sink: Sink,
  at: number,
  inode: number,
): void {
  const { table, format } = state;
  const { xattrs } = table;
  const start = table.xattrAt[inode]!;
  const end = start + table.xattrCount[inode]!;
  const limit = maxShared(format);
  const base = format.version === 2 ? state.inodesEnd : state.inodesEnd % BLOCK_BYTES;
  let filter = 0;
  let shared = 0;
  for (let i = start; i < end; i++) {
    const pair = xattrs.lists[i]!;
    filter |= xattrs.names[xattrs.nameOf[pair]!]!.filterBit;
    if (xattrs.uses[pair] === 0 || shared === limit) continue;
    const reference = (base + xattrs.uses[pair]! - 1) / 4;
    sink.view.setUint32(at + HEADER_BYTES + shared * REFERENCE_BYTES, reference, true);
    shared += 1;
  }
  sink.view.setUint32(at + XattrHeader.offsets.nameFilter, ~filter, true);
  sink.bytes[at + XattrHeader.offsets.sharedCount] = shared;
  let entryAt = at + HEADER_BYTES + shared * REFERENCE_BYTES;
  let referred = 0;
  for (let i = start; i < end; i++) {
    const pair = xattrs.lists[i]!;
    if (xattrs.uses[pair] !== 0 && referred < shared) referred += 1;
    else entryAt += encodeEntry(xattrs, pair, sink, entryAt);
  }
}

/** Writes the pairs that several inodes have. */
export function emitSharedXattrs(arrangement: Arrangement, sink: Sink): void {
  const { xattrs } = arrangement.table;
  for (const pair of arrangement.sharedPairs) {
    const at = sink.reserve(xattrEntryBytes(xattrs, pair));
    if (!sink.counting) encodeEntry(xattrs, pair, sink, at);
  }
}

function encodeEntry(xattrs: XattrTable, pair: number, sink: Sink, at: number): number {
  const { suffix, prefixIndex } = xattrs.names[xattrs.nameOf[pair]!]!;
  const length = xattrs.valueLength[pair]!;
  const { bytes } = sink;
  bytes[at + XattrEntry.offsets.nameLength] = suffix.length;
  bytes[at + XattrEntry.offsets.nameIndex] = prefixIndex;
  sink.view.setUint16(at + XattrEntry.offsets.valueSize, length, true);
  const nameAt = at + XattrEntry.sizeBytes;
  for (let i = 0; i < suffix.length; i++) bytes[nameAt + i] = suffix[i]!;
  const values = xattrs.values.bytes;
  const from = xattrs.valueAt[pair]!;
  const to = nameAt + suffix.length;
  if (length > 24) values.copy(bytes, to, from, from + length);
  else for (let i = 0; i < length; i++) bytes[to + i] = values[from + i]!;
  return xattrEntryBytes(xattrs, pair);
}
