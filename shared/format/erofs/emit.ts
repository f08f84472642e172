// The one function behind both passes: walks an arranged image in file order and writes it to a
// sink. Padding depends only on positions, so both passes agree (composefs.md 2.1, 2.5-2.7, 2.10).

import { alignSink, type Sink } from "../../bytes/sink.ts";
import { FormatError } from "../../error.ts";
import { type Arrangement, isDirectory } from "./arrange.ts";
import { emitDirectoryBlocks, emitDirectoryTail } from "./directory.ts";
import { createInodePlan, type InodePlan, inodePadding, planInode } from "./inode-plan.ts";
import { DATA_NONE } from "./inode-table.ts";
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
  SLOT_BYTES,
  SUPERBLOCK_AT,
} from "./layout.ts";
import { emitInodeXattrs, emitSharedXattrs } from "./xattr-area.ts";

/** Positions found by the counting pass, needed by the writing pass. */
export interface LayoutState extends Arrangement {
  /** By inode number: offset / 32. */
  readonly nid: Uint32Array;
  inodesEnd: number;
  dataBlock: number;
  blocks: number;
}

export function createLayoutState(arrangement: Arrangement): LayoutState {
  const nid = new Uint32Array(arrangement.table.inodeCount);
  return { ...arrangement, nid, inodesEnd: 0, dataBlock: 0, blocks: 0 };
}

export function emitImage(state: LayoutState, sink: Sink): void {
  emitHeaders(state, sink);
  const plan = createInodePlan();
  let block = state.dataBlock;
  for (let index = 0; index < state.order.length; index++) {
    planInode(state, state.order[index]!, plan);
    emitInode(state, sink, index, plan, block);
    block += plan.blocks;
  }
  alignSink(sink, SLOT_BYTES);
  state.inodesEnd = sink.position;
  emitSharedXattrs(state, sink);
  alignSink(sink, BLOCK_BYTES);
  state.dataBlock = sink.position / BLOCK_BYTES;
  for (const inode of state.order) emitData(state, sink, inode, plan);
  state.blocks = sink.position / BLOCK_BYTES;
}

function emitHeaders(state: LayoutState, sink: Sink): void {
  const at = sink.reserve(INODES_AT);
  if (sink.counting) return;
  const rootNid = state.nid[0]!;
  if (rootNid > 0xffff) {
    throw new FormatError("limit", "Root directory lies too far into the image", {
      format: "erofs",
      field: "root_nid",
    });
  }
  ComposefsHeader.encodeInto(sink.bytes, at, {
    flags: state.headerFlags,
    composefsVersion: state.format.version,
  });
  ErofsSuperblock.encodeInto(sink.bytes, at + SUPERBLOCK_AT, {
    rootNid,
    inodeCount: state.order.length,
    buildTime: BigInt(state.buildTimeSec),
    buildTimeNsec: state.buildTimeNsec,
    blocks: state.blocks,
    xattrBlockAddress: state.format.version === 2 ? 0 : Math.floor(state.inodesEnd / BLOCK_BYTES),
  });
}

function emitInode(
  state: LayoutState,
  sink: Sink,
  index: number,
  plan: InodePlan,
  block: number,
): void {
  alignSink(sink, SLOT_BYTES);
  const padding = inodePadding(state.format, plan, sink.position);
  if (padding > 0) sink.reserve(padding);
  const inode = state.order[index]!;
  state.nid[inode] = sink.position / SLOT_BYTES;
  const at = sink.reserve(plan.headerBytes + plan.xattrBytes + plan.tailBytes);
  if (sink.counting) return;
  const xattrAt = at + plan.headerBytes;
  encodeInode(state, sink.view, at, index, plan, block);
  if (plan.xattrBytes > 0) emitInodeXattrs(state, sink, xattrAt, inode);
  if (plan.tailBytes > 0) emitTail(state, sink, xattrAt + plan.xattrBytes, inode, plan);
}

const COMPACT = InodeCompact.offsets;
const EXTENDED = InodeExtended.offsets;

// Through the structs' offsets, not their encoders: this runs once per file of an OS.
function encodeInode(
  state: LayoutState,
  view: DataView,
  at: number,
  index: number,
  plan: InodePlan,
  block: number,
): void {
  const { table, format } = state;
  const inode = state.order[index]!;
  const xattrCount = plan.xattrBytes === 0 ? 0 : (plan.xattrBytes - 12) / 4 + 1;
  const u = inodeUnion(state, inode, plan, block);
  const ino = format.version === 2 ? state.nid[inode]! : index;
  const iFormat = plan.layout | (plan.extended ? FORMAT_EXTENDED : 0);
  view.setUint16(at + COMPACT.format, iFormat, true);
  view.setUint16(at + COMPACT.xattrCount, xattrCount, true);
  view.setUint16(at + COMPACT.mode, table.mode[inode]!, true);
  if (!plan.extended) {
    view.setUint16(at + COMPACT.nlink, table.nlink[inode]!, true);
    view.setUint32(at + COMPACT.size, plan.sizeBytes, true);
    view.setUint32(at + COMPACT.u, u, true);
    view.setUint32(at + COMPACT.ino, ino, true);
    view.setUint16(at + COMPACT.uid, table.uid[inode]!, true);
    view.setUint16(at + COMPACT.gid, table.gid[inode]!, true);
    return;
  }
  setInt64(view, at + EXTENDED.size, plan.sizeBytes);
  view.setUint32(at + EXTENDED.u, u, true);
  view.setUint32(at + EXTENDED.ino, ino, true);
  view.setUint32(at + EXTENDED.uid, table.uid[inode]!, true);
  view.setUint32(at + EXTENDED.gid, table.gid[inode]!, true);
  setInt64(view, at + EXTENDED.mtime, table.mtimeSec[inode]!);
  view.setUint32(at + EXTENDED.mtimeNsec, format.version === 2 ? 0 : table.mtimeNsec[inode]!, true);
  view.setUint32(at + EXTENDED.nlink, table.nlink[inode]!, true);
}

function setInt64(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  view.setUint32(at, value - high * 2 ** 32, true);
  view.setInt32(at + 4, high, true);
}

/** `i_u`: device number, chunk format or first data block. */
function inodeUnion(state: LayoutState, inode: number, plan: InodePlan, block: number): number {
  if (plan.layout === LAYOUT_CHUNK_BASED) {
    // C stores the block number first and then overwrites only the lower half.
    return plan.blocks > 0 ? ((block & 0xffff_0000) | plan.chunkFormat) >>> 0 : plan.chunkFormat;
  }
  return plan.blocks > 0 ? block : state.table.rdev[inode]!;
}

function emitTail(
  state: LayoutState,
  sink: Sink,
  at: number,
  inode: number,
  plan: InodePlan,
): void {
  const { table } = state;
  const { tailBytes, sizeBytes } = plan;
  if (isDirectory(table, inode)) {
    emitDirectoryTail(table, state.nid, sink, at, inode);
  } else if (plan.layout === LAYOUT_CHUNK_BASED) {
    for (let i = 0; i < tailBytes; i += 4) sink.view.setUint32(at + i, CHUNK_HOLE, true);
  } else {
    const end = table.contentAt[inode]! + sizeBytes;
    table.text.bytes.copy(sink.bytes, at, end - tailBytes, end);
  }
}

function emitData(state: LayoutState, sink: Sink, inode: number, plan: InodePlan): void {
  const { table } = state;
  if (isDirectory(table, inode)) {
    emitDirectoryBlocks(table, state.nid, sink, inode);
    return;
  }
  if (table.data[inode] === DATA_NONE) return;
  planInode(state, inode, plan);
  if (plan.blocks === 0) return;
  const storedBytes = plan.blocks * BLOCK_BYTES;
  const at = sink.reserve(storedBytes);
  if (sink.counting) return;
  if (plan.layout === LAYOUT_CHUNK_BASED) {
    sink.bytes.fill(0xff, at, at + storedBytes);
    return;
  }
  const start = table.contentAt[inode]!;
  const length = Math.min(storedBytes, plan.sizeBytes);
  table.text.bytes.copy(sink.bytes, at, start, start + length);
}
