// How large a directory is in an image; its inode says so, and dumps repeat it.

import { BLOCK_BYTES, DirectoryEntry, MAX_TAIL_BYTES } from "./layout.ts";

/** Packing state: whole blocks so far and bytes in the last one. */
export interface DirectoryPacking {
  blocks: number;
  usedBytes: number;
}

/** Adds one entry, in byte order of names, `.` and `..` included. */
export function packEntry(packing: DirectoryPacking, nameBytes: number): void {
  const entryBytes = DirectoryEntry.sizeBytes + nameBytes;
  if (packing.usedBytes + entryBytes > BLOCK_BYTES) {
    packing.blocks += 1;
    packing.usedBytes = 0;
  }
  packing.usedBytes += entryBytes;
}

/** Size as the inode states it: whole blocks plus a tail of at most 2048 bytes. */
export function packedBytes({ blocks, usedBytes }: DirectoryPacking): number {
  if (usedBytes > MAX_TAIL_BYTES) return (blocks + 1) * BLOCK_BYTES;
  return blocks * BLOCK_BYTES + usedBytes;
}
