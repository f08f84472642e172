// Directory contents: entries packed into blocks, the last part behind the inode when it is small.
//
// A block is all its entry headers, then all its names back to back; blocks are filled greedily.

import type { Sink } from "../../bytes/sink.ts";
import { type DirectoryPacking, packEntry, packedBytes } from "./directory-size.ts";
import { type InodeTable, NONE } from "./inode-table.ts";
import { BLOCK_BYTES, DirectoryEntry, FILE_TYPE_OF_MODE } from "./layout.ts";

const ENTRY_BYTES = DirectoryEntry.sizeBytes;
const ENTRY = DirectoryEntry.offsets;
const packing: DirectoryPacking = { blocks: 0, usedBytes: 0 };

/** Size as the inode states it: whole blocks and the tail (which is at most 2048 bytes). */
export function directorySizeBytes(table: InodeTable, directory: number): number {
  packing.blocks = 0;
  packing.usedBytes = 0;
  for (let e = table.firstEntry[directory]!; e !== NONE; e = table.nextEntry[e]!) {
    packEntry(packing, table.nameLength[e]!);
  }
  return packedBytes(packing);
}

/** Writes the tail at `at`; the room is reserved and the tail is known to exist. */
export function emitDirectoryTail(
  table: InodeTable,
  nid: Uint32Array,
  sink: Sink,
  at: number,
  directory: number,
): void {
  let first = table.firstEntry[directory]!;
  for (;;) {
    const end = endOfBlock(table, first);
    if (end === NONE) break;
    first = end;
  }
  encodeEntries(table, nid, sink, at, first, NONE);
}

/** Writes the whole blocks; nothing when all entries are in the tail. */
export function emitDirectoryBlocks(
  table: InodeTable,
  nid: Uint32Array,
  sink: Sink,
  directory: number,
): void {
  const blocks = Math.floor(directorySizeBytes(table, directory) / BLOCK_BYTES);
  let first = table.firstEntry[directory]!;
  for (let i = 0; i < blocks; i++) {
    const end = endOfBlock(table, first);
    const at = sink.reserve(BLOCK_BYTES);
    if (!sink.counting) encodeEntries(table, nid, sink, at, first, end);
    first = end;
  }
}

/** The entry that begins the next block, or NONE. */
function endOfBlock(table: InodeTable, first: number): number {
  let used = 0;
  let entry = first;
  while (entry !== NONE) {
    used += ENTRY_BYTES + table.nameLength[entry]!;
    if (used > BLOCK_BYTES) break;
    entry = table.nextEntry[entry]!;
  }
  return entry;
}

function encodeEntries(
  table: InodeTable,
  nid: Uint32Array,
  sink: Sink,
  at: number,
  first: number,
  end: number,
): void {
  const { nextEntry, entryInode, nameAt, nameLength } = table;
  const names = table.text.bytes;
  const { bytes, view } = sink;
  let count = 0;
  for (let e = first; e !== end; e = nextEntry[e]!) count++;
  let nameOffset = count * ENTRY_BYTES;
  let entryAt = at;
  for (let e = first; e !== end; e = nextEntry[e]!) {
    const inode = entryInode[e]!;
    view.setUint32(entryAt + ENTRY.nid, nid[inode]!, true);
    view.setUint16(entryAt + ENTRY.nameOffset, nameOffset, true);
    bytes[entryAt + ENTRY.fileType] = FILE_TYPE_OF_MODE[table.mode[inode]! >> 12]!;
    const start = nameAt[e]!;
    const length = nameLength[e]!;
    for (let i = 0; i < length; i++) bytes[at + nameOffset + i] = names[start + i]!;
    nameOffset += length;
    entryAt += ENTRY_BYTES;
  }
}
