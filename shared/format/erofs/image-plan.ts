// Finds the position of everything in an arranged image, before the first byte is written: directories
// name their files by position, and the superblock tells where things end (composefs.md 2.1, 2.5-2.7).
//
// What is found goes into the inodes' records, which then are what the image stores.

import { FormatError } from "../../error.ts";
import type { Arrangement } from "./arrange.ts";
import { createInodePlan, type InodePlan, inodePadding, planInode } from "./inode-plan.ts";
import {
  INODE_CONTENT,
  INODE_FORMAT,
  INODE_INO,
  INODE_NSEC,
  INODE_U,
  INODE_WORDS,
  setSize,
} from "./inode-table.ts";
import {
  BLOCK_BYTES,
  FORMAT_EXTENDED,
  INODES_AT,
  LAYOUT_CHUNK_BASED,
  SLOT_BYTES,
  XattrHeader,
} from "./layout.ts";
import { sharedXattrBytes } from "./xattr-area.ts";

export interface ImagePlan extends Arrangement {
  /** By inode number: offset / 32. */
  readonly nid: Int32Array;
  /** Where the shared xattrs start. */
  readonly inodesEnd: number;
  readonly dataBlock: number;
  /** Inodes with whole blocks of data, in image order, and how many each has. */
  readonly dataOwners: readonly DataOwner[];
  readonly blocks: number;
}

export interface DataOwner {
  readonly inode: number;
  readonly blocks: number;
}

/** Fills the records; an image has to be written with the plan before anything else is done with it. */
export function planImage(arrangement: Arrangement): ImagePlan {
  const { table, format, order } = arrangement;
  const nid = new Int32Array(table.inodeCount);
  const dataOwners: DataOwner[] = [];
  const plan = createInodePlan();
  let position = INODES_AT;
  for (let index = 0; index < order.length; index++) {
    const inode = order[index]!;
    planInode(arrangement, inode, plan);
    position = roundUp(position, SLOT_BYTES);
    position += inodePadding(format, plan, position);
    nid[inode] = position / SLOT_BYTES;
    const ino = format.version === 2 ? nid[inode]! : index;
    fillRecord(arrangement, inode, ino, plan);
    if (plan.blocks > 0) dataOwners.push({ inode, blocks: plan.blocks });
    position += plan.headerBytes + plan.xattrBytes + plan.tailBytes;
  }
  const inodesEnd = roundUp(position, SLOT_BYTES);
  const dataBlock = roundUp(inodesEnd + sharedXattrBytes(arrangement), BLOCK_BYTES) / BLOCK_BYTES;
  const blocks = assignBlocks(arrangement, dataOwners, dataBlock);
  if (nid[0]! > 0xffff) {
    throw new FormatError("limit", "Root directory lies too far into the image", {
      format: "erofs",
      field: "root_nid",
    });
  }
  return { ...arrangement, nid, inodesEnd, dataBlock, dataOwners, blocks };
}

/** Everything but block numbers. */
function fillRecord({ table, format }: Arrangement, inode: number, ino: number, plan: InodePlan) {
  const { inodes } = table;
  const at = inode * INODE_WORDS;
  const xattrCount = plan.xattrBytes === 0 ? 0 : (plan.xattrBytes - XattrHeader.sizeBytes) / 4 + 1;
  const iFormat = plan.layout | (plan.extended ? FORMAT_EXTENDED : 0);
  inodes[at + INODE_FORMAT] = iFormat | (xattrCount << 16);
  inodes[at + INODE_INO] = ino;
  setSize(table, inode, plan.sizeBytes);
  if (format.version === 2) inodes[at + INODE_NSEC] = 0;
  if (plan.layout === LAYOUT_CHUNK_BASED) {
    inodes[at + INODE_U] = plan.chunkFormat;
    inodes[at + INODE_CONTENT] = plan.tailBytes;
  }
}

/** Gives whole blocks their places in the data area; returns the block behind the last. */
function assignBlocks({ table }: Arrangement, owners: readonly DataOwner[], dataBlock: number) {
  const { inodes } = table;
  let block = dataBlock;
  for (const { inode, blocks } of owners) {
    const u = inode * INODE_WORDS + INODE_U;
    const isChunked = (inodes[inode * INODE_WORDS + INODE_FORMAT]! & 0xe) === LAYOUT_CHUNK_BASED;
    // C stores the block number first and then overwrites only the lower half.
    inodes[u] = isChunked ? (block & 0xffff_0000) | inodes[u]! : block;
    block += blocks;
  }
  return block;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
