// Sizes and layout of one inode, and the padding that keeps its tail inside a block
// (composefs.md 2.5, 2.10). Only the padding depends on the position.

import { FormatError } from "../../error.ts";
import { S_IFDIR, S_IFLNK, S_IFMT } from "../tree/node.ts";
import type { Arrangement } from "./arrange.ts";
import { directorySizeBytes } from "./directory.ts";
import type { ErofsFormat } from "./format.ts";
import {
  DATA_EXTERNAL,
  DATA_EXTERNAL_BARE,
  DATA_INLINE,
  DATA_NONE,
  INODE_GID,
  INODE_MODE,
  INODE_MTIME,
  INODE_MTIME_HIGH,
  INODE_NLINK,
  INODE_NSEC,
  INODE_UID,
  INODE_WORDS,
  sizeOf,
} from "./inode-table.ts";
import {
  BLOCK_BYTES,
  InodeCompact,
  InodeExtended,
  LAYOUT_CHUNK_BASED,
  LAYOUT_FLAT_INLINE,
  LAYOUT_FLAT_PLAIN,
  MAX_TAIL_BYTES,
  SLOT_BYTES,
} from "./layout.ts";
import { inodeXattrWords } from "./xattr-area.ts";

/** Sizes of one inode; reused, so that a million inodes cost no garbage. */
export interface InodePlan {
  extended: boolean;
  headerBytes: number;
  xattrBytes: number;
  sizeBytes: number;
  layout: number;
  /** Bytes right behind the xattrs. */
  tailBytes: number;
  /** Whole blocks in the data area. */
  blocks: number;
  /** `u` of chunk-based inodes. */
  chunkFormat: number;
  isSymlink: boolean;
}

export function createInodePlan(): InodePlan {
  return {
    extended: true,
    headerBytes: 0,
    xattrBytes: 0,
    sizeBytes: 0,
    layout: 0,
    tailBytes: 0,
    blocks: 0,
    chunkFormat: 0,
    isSymlink: false,
  };
}

export function planInode(arrangement: Arrangement, inode: number, plan: InodePlan): void {
  const { table, format } = arrangement;
  const mode = table.inodes[inode * INODE_WORDS + INODE_MODE]!;
  const type = mode & S_IFMT;
  const data = mode >>> 16;
  plan.isSymlink = type === S_IFLNK;
  plan.sizeBytes = type === S_IFDIR ? directorySizeBytes(table, inode) : sizeOf(table, inode);
  plan.extended = format.version === 2 || !fitsCompact(arrangement, inode, plan.sizeBytes);
  plan.headerBytes = plan.extended ? InodeExtended.sizeBytes : InodeCompact.sizeBytes;
  plan.xattrBytes = 4 * inodeXattrWords(arrangement, inode);
  plan.blocks = 0;
  plan.tailBytes = 0;
  plan.layout = LAYOUT_FLAT_PLAIN;
  if (type === S_IFDIR) {
    plan.blocks = Math.floor(plan.sizeBytes / BLOCK_BYTES);
    plan.tailBytes = plan.sizeBytes % BLOCK_BYTES;
  } else if (data === DATA_NONE) {
    plan.sizeBytes = 0;
  } else if (data === DATA_INLINE) {
    planInline(arrangement, plan);
  } else if (data === DATA_EXTERNAL || data === DATA_EXTERNAL_BARE) {
    planChunks(arrangement, data, plan);
    return;
  }
  if (plan.tailBytes > 0) plan.layout = LAYOUT_FLAT_INLINE;
  else if (data === DATA_INLINE && format.version === 2) plan.layout = LAYOUT_FLAT_INLINE;
}

function fitsCompact({ table, oldest }: Arrangement, inode: number, sizeBytes: number): boolean {
  const { inodes } = table;
  const at = inode * INODE_WORDS;
  const oldestAt = oldest * INODE_WORDS;
  return (
    inodes[at + INODE_NSEC] === inodes[oldestAt + INODE_NSEC] &&
    inodes[at + INODE_MTIME] === inodes[oldestAt + INODE_MTIME] &&
    inodes[at + INODE_MTIME_HIGH] === inodes[oldestAt + INODE_MTIME_HIGH] &&
    inodes[at + INODE_NLINK]! >>> 16 === 0 &&
    inodes[at + INODE_UID]! >>> 16 === 0 &&
    inodes[at + INODE_GID]! >>> 16 === 0 &&
    sizeBytes <= 0xffff_ffff
  );
}

/** Symlink targets and contents of small files. */
function planInline(arrangement: Arrangement, plan: InodePlan): void {
  const { sizeBytes } = plan;
  plan.tailBytes = sizeBytes;
  if (arrangement.format.version === 2) return;
  if (plan.isSymlink) {
    if (plan.headerBytes + plan.xattrBytes + sizeBytes < BLOCK_BYTES) return;
    plan.blocks = 1;
    plan.tailBytes = 0;
    return;
  }
  plan.blocks = Math.floor(sizeBytes / BLOCK_BYTES);
  plan.tailBytes = sizeBytes % BLOCK_BYTES;
  if (plan.tailBytes > MAX_TAIL_BYTES) {
    plan.blocks += 1;
    plan.tailBytes = 0;
  }
}

const MIN_CHUNK_BITS = 12;
const MAX_CHUNK_BITS = 43;
const MAX_CHUNKS = 1024;

/** External files: chunk addresses that all say "not here". */
function planChunks(arrangement: Arrangement, data: number, plan: InodePlan): void {
  plan.layout = LAYOUT_CHUNK_BASED;
  if (arrangement.format.version === 2) {
    plan.chunkFormat = 31;
    plan.tailBytes = data === DATA_EXTERNAL ? 4 : 0;
    return;
  }
  const { sizeBytes } = plan;
  const bits = Math.min(MAX_CHUNK_BITS, Math.max(MIN_CHUNK_BITS, bitLength(sizeBytes - 1)));
  const chunks = Math.ceil(sizeBytes / 2 ** bits);
  if (chunks > MAX_CHUNKS) {
    throw new FormatError("limit", `File of ${sizeBytes} bytes is larger than an image can hold`, {
      format: "erofs",
      field: "size",
    });
  }
  plan.chunkFormat = bits - MIN_CHUNK_BITS;
  plan.tailBytes = 4 * chunks;
  // An index that cannot share a block with what precedes it gets a block of its own.
  if (plan.tailBytes + (plan.xattrBytes % SLOT_BYTES) > BLOCK_BYTES) {
    plan.tailBytes = 0;
    plan.blocks = 1;
  }
}

function bitLength(value: number): number {
  if (value < 1) return 0;
  const high = Math.floor(value / 2 ** 32);
  return high > 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(value);
}

/** Zero bytes before an inode at `position`, so that its tail does not cross a block. */
export function inodePadding(format: ErofsFormat, plan: InodePlan, position: number): number {
  const { tailBytes, layout } = plan;
  const base = plan.headerBytes + plan.xattrBytes;
  const toBoundary = (BLOCK_BYTES - (position % BLOCK_BYTES)) % BLOCK_BYTES;
  const tailAt = position + base;
  if (format.version === 2) {
    if (layout !== LAYOUT_FLAT_INLINE) return 0;
    // The end counts as one past the last byte: an exact fit pads as well.
    const before = tailAt - 1;
    const after = tailAt + (plan.sizeBytes % BLOCK_BYTES);
    if (Math.floor(before / BLOCK_BYTES) === Math.floor(after / BLOCK_BYTES)) return 0;
    return roundUp(BLOCK_BYTES - (before % BLOCK_BYTES), SLOT_BYTES);
  }
  if (plan.isSymlink) {
    const last = tailAt + plan.sizeBytes - 1;
    const sameBlock = Math.floor(position / BLOCK_BYTES) === Math.floor(last / BLOCK_BYTES);
    return sameBlock ? 0 : toBoundary;
  }
  if (layout === LAYOUT_CHUNK_BASED && plan.blocks > 0) return toBoundary;
  const rest = BLOCK_BYTES - (tailAt % BLOCK_BYTES);
  return rest < tailBytes ? roundUp(rest, SLOT_BYTES) : 0;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
