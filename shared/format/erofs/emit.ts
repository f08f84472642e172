// Writes a planned image to a sink, front to back (composefs.md 2.1, 2.5-2.7, 2.10).
//
// Invariant: every inode comes to lie where the plan says; anything else would be an image that points
// to the wrong places, and is an error.

import { closeSink, padSinkTo, reserveInSink, type Sink, sinkPosition } from "../../bytes/sink.ts";
import { FormatError } from "../../error.ts";
import { emitDirectoryBlocks, emitDirectoryTail } from "./directory.ts";
import type { DataOwner, ImagePlan } from "./image-plan.ts";
import {
  contentOf,
  INODE_CONTENT,
  INODE_FORMAT,
  INODE_GID,
  INODE_INO,
  INODE_MODE,
  INODE_MTIME,
  INODE_MTIME_HIGH,
  INODE_NLINK,
  INODE_NSEC,
  INODE_SIZE,
  INODE_U,
  INODE_UID,
  INODE_WORDS,
  isDirectory,
  sizeOf,
} from "./inode-table.ts";
import {
  BLOCK_BYTES,
  CHUNK_HOLE,
  ComposefsHeader,
  ErofsSuperblock,
  FORMAT_EXTENDED,
  INODES_AT,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  LAYOUT_FLAT_INLINE,
  SLOT_BYTES,
  SUPERBLOCK_AT,
} from "./layout.ts";
import { emitInodeXattrs, emitSharedXattrs } from "./xattr-area.ts";

export function emitImage(plan: ImagePlan, sink: Sink): void {
  emitHeaders(plan, sink);
  const { order, nid, inodesEnd, format } = plan;
  const sharedBase = (format.version === 2 ? inodesEnd : inodesEnd % BLOCK_BYTES) / 4;
  for (let index = 0; index < order.length; index++) {
    const inode = order[index]!;
    padSinkTo(sink, nid[inode]! * SLOT_BYTES);
    emitInode(plan, sink, inode, sharedBase);
  }
  padSinkTo(sink, inodesEnd);
  emitSharedXattrs(plan, sink);
  padSinkTo(sink, plan.dataBlock * BLOCK_BYTES);
  for (const owner of plan.dataOwners) emitBlocks(plan, sink, owner);
  if (sinkPosition(sink) !== plan.blocks * BLOCK_BYTES) throw wrongPlace();
  closeSink(sink);
}

function wrongPlace(): FormatError {
  return new FormatError("limit", "Image does not come out as it was planned", { format: "erofs" });
}

function emitHeaders(plan: ImagePlan, sink: Sink): void {
  const at = reserveInSink(sink, INODES_AT);
  const { table, format, oldest, nid } = plan;
  ComposefsHeader.encodeInto(sink.bytes, at, {
    flags: plan.headerFlags,
    composefsVersion: format.version,
  });
  const isVersion2 = format.version === 2;
  const time = oldest * INODE_WORDS;
  const low = BigInt(table.inodes[time + INODE_MTIME]! >>> 0);
  const high = BigInt(table.inodes[time + INODE_MTIME_HIGH]!);
  ErofsSuperblock.encodeInto(sink.bytes, at + SUPERBLOCK_AT, {
    rootNid: nid[0]!,
    inodeCount: plan.order.length,
    buildTime: isVersion2 ? 0n : (high << 32n) | low,
    buildTimeNsec: isVersion2 ? 0 : table.inodes[time + INODE_NSEC]! >>> 0,
    blocks: plan.blocks,
    xattrBlockAddress: isVersion2 ? 0 : Math.floor(plan.inodesEnd / BLOCK_BYTES),
  });
}

/** Header, xattrs and tail; all three are whole words but for the tail's end. */
function emitInode(plan: ImagePlan, sink: Sink, inode: number, sharedBase: number): void {
  const { table } = plan;
  const from = inode * INODE_WORDS;
  const format = table.inodes[from + INODE_FORMAT]!;
  const isExtended = (format & FORMAT_EXTENDED) !== 0;
  const headerBytes = isExtended ? InodeExtended.sizeBytes : InodeCompact.sizeBytes;
  // 0, or the area's words less those of its header but for one.
  const xattrCount = format >>> 16;
  const xattrBytes = xattrCount === 0 ? 0 : xattrCount * 4 + 8;
  const tailBytes = tailBytesOf(plan, inode, format);
  const at = reserveInSink(sink, headerBytes + xattrBytes + tailBytes);
  if (isExtended) encodeExtended(table.inodes, from, sink.words, at / 4);
  else encodeCompact(table.inodes, from, sink.words, at / 4);
  const xattrsAt = at + headerBytes;
  if (xattrCount > 0) emitInodeXattrs(plan, sharedBase, sink, xattrsAt / 4, inode);
  if (tailBytes > 0) emitTail(plan, sink, xattrsAt + xattrBytes, inode, format, tailBytes);
}

function tailBytesOf({ table }: ImagePlan, inode: number, format: number): number {
  const layout = format & 0xe;
  if (layout === LAYOUT_CHUNK_BASED) return table.inodes[inode * INODE_WORDS + INODE_CONTENT]!;
  return layout === LAYOUT_FLAT_INLINE ? sizeOf(table, inode) % BLOCK_BYTES : 0;
}

/** The record is the on-disk form, but for what it keeps in the mode's upper half and at the end. */
function encodeExtended(inodes: Int32Array, from: number, words: Int32Array, to: number): void {
  for (let word = 0; word <= INODE_NLINK; word++) words[to + word] = inodes[from + word]!;
  words[to + INODE_MODE]! &= 0xffff;
}

const COMPACT_NLINK_SHIFT = 8 * (InodeCompact.offsets.nlink % 4);
const COMPACT_SIZE = InodeCompact.offsets.size / 4;
const COMPACT_U = InodeCompact.offsets.u / 4;
const COMPACT_INO = InodeCompact.offsets.ino / 4;
const COMPACT_UID = InodeCompact.offsets.uid / 4;
const COMPACT_GID_SHIFT = 8 * (InodeCompact.offsets.gid % 4);

function encodeCompact(inodes: Int32Array, from: number, words: Int32Array, to: number): void {
  const mode = inodes[from + INODE_MODE]! & 0xffff;
  words[to + INODE_FORMAT] = inodes[from + INODE_FORMAT]!;
  words[to + INODE_MODE] = mode | (inodes[from + INODE_NLINK]! << COMPACT_NLINK_SHIFT);
  words[to + COMPACT_SIZE] = inodes[from + INODE_SIZE]!;
  words[to + COMPACT_U] = inodes[from + INODE_U]!;
  words[to + COMPACT_INO] = inodes[from + INODE_INO]!;
  words[to + COMPACT_UID] =
    inodes[from + INODE_UID]! | (inodes[from + INODE_GID]! << COMPACT_GID_SHIFT);
}

function emitTail(
  { table, nid }: ImagePlan,
  sink: Sink,
  at: number,
  inode: number,
  format: number,
  tailBytes: number,
): void {
  if ((format & 0xe) === LAYOUT_CHUNK_BASED) {
    for (let i = 0; i < tailBytes; i += 4) sink.words[(at + i) / 4] = CHUNK_HOLE;
  } else if (isDirectory(table, inode)) {
    emitDirectoryTail(table, nid, sink, at, inode);
  } else {
    const { bytes } = table.text;
    const from = contentOf(table, inode) + sizeOf(table, inode) - tailBytes;
    for (let i = 0; i < tailBytes; i++) sink.bytes[at + i] = bytes[from + i]!;
  }
}

function emitBlocks({ table, nid }: ImagePlan, sink: Sink, { inode, blocks }: DataOwner): void {
  if (isDirectory(table, inode)) {
    emitDirectoryBlocks(table, nid, sink, inode, blocks);
    return;
  }
  const storedBytes = blocks * BLOCK_BYTES;
  const at = reserveInSink(sink, storedBytes);
  if ((table.inodes[inode * INODE_WORDS + INODE_FORMAT]! & 0xe) === LAYOUT_CHUNK_BASED) {
    sink.bytes.fill(0xff, at, at + storedBytes);
    return;
  }
  const start = contentOf(table, inode);
  table.text.bytes.copy(sink.bytes, at, start, start + Math.min(storedBytes, sizeOf(table, inode)));
}
