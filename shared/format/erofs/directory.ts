// Directory contents: entries packed into blocks, the last part behind the inode when it is small.
//
// A block is all its entry headers, then all its names back to back; blocks are filled greedily.

import { reserveInSink, type Sink } from "../../bytes/sink.ts";
import { type DirectoryPacking, packEntry, packedBytes } from "./directory-size.ts";
import {
  ENTRY_INODE,
  ENTRY_NAME,
  ENTRY_NAME_BYTES,
  ENTRY_NEXT,
  ENTRY_WORDS,
  firstEntryOf,
  INODE_MODE,
  INODE_WORDS,
  type InodeTable,
  NONE,
} from "./inode-table.ts";
import { BLOCK_BYTES, DirectoryEntry, FILE_TYPE_OF_MODE } from "./layout.ts";

const ENTRY_BYTES = DirectoryEntry.sizeBytes;
const packing: DirectoryPacking = { blocks: 0, usedBytes: 0 };

/** Size as the inode states it: whole blocks and the tail (which is at most 2048 bytes). */
export function directorySizeBytes(table: InodeTable, directory: number): number {
  const { entries } = table;
  packing.blocks = 0;
  packing.usedBytes = 0;
  for (let e = firstEntryOf(table, directory); e !== NONE; ) {
    const at = e * ENTRY_WORDS;
    packEntry(packing, entries[at + ENTRY_NAME_BYTES]!);
    e = entries[at + ENTRY_NEXT]!;
  }
  return packedBytes(packing);
}

/** Writes the tail at `at`; the room is reserved and the tail is known to exist. */
export function emitDirectoryTail(
  table: InodeTable,
  nid: Int32Array,
  sink: Sink,
  at: number,
  directory: number,
): void {
  let first = firstEntryOf(table, directory);
  for (;;) {
    const end = endOfBlock(table, first);
    if (end === NONE) break;
    first = end;
  }
  encodeEntries(table, nid, sink, at, first, NONE);
}

/** Writes so many whole blocks. */
export function emitDirectoryBlocks(
  table: InodeTable,
  nid: Int32Array,
  sink: Sink,
  directory: number,
  blocks: number,
): void {
  let first = firstEntryOf(table, directory);
  for (let i = 0; i < blocks; i++) {
    const end = endOfBlock(table, first);
    encodeEntries(table, nid, sink, reserveInSink(sink, BLOCK_BYTES), first, end);
    first = end;
  }
}

/** The entry that begins the next block, or NONE. */
function endOfBlock({ entries }: InodeTable, first: number): number {
  let used = 0;
  let entry = first;
  while (entry !== NONE) {
    const at = entry * ENTRY_WORDS;
    used += ENTRY_BYTES + entries[at + ENTRY_NAME_BYTES]!;
    if (used > BLOCK_BYTES) break;
    entry = entries[at + ENTRY_NEXT]!;
  }
  return entry;
}

/** Words of a `struct erofs_dirent`: nid (its upper half stays 0), then name offset and file type. */
const DIRENT_WORDS = ENTRY_BYTES / 4;
const DIRENT_NAME_AND_TYPE = DirectoryEntry.offsets.nameOffset / 4;

function encodeEntries(
  table: InodeTable,
  nid: Int32Array,
  sink: Sink,
  at: number,
  first: number,
  end: number,
): void {
  const { entries, inodes } = table;
  const text = table.text.bytes;
  const { bytes, words } = sink;
  let count = 0;
  for (let e = first; e !== end; e = entries[e * ENTRY_WORDS + ENTRY_NEXT]!) count++;
  let nameOffset = count * ENTRY_BYTES;
  let to = at / 4;
  for (let e = first; e !== end; ) {
    const entry = e * ENTRY_WORDS;
    const inode = entries[entry + ENTRY_INODE]!;
    const type = (inodes[inode * INODE_WORDS + INODE_MODE]! >>> 12) & 15;
    words[to] = nid[inode]!;
    words[to + DIRENT_NAME_AND_TYPE] = nameOffset | (FILE_TYPE_OF_MODE[type]! << 16);
    const from = entries[entry + ENTRY_NAME]! >>> 0;
    const length = entries[entry + ENTRY_NAME_BYTES]!;
    const nameTo = at + nameOffset;
    for (let i = 0; i < length; i++) bytes[nameTo + i] = text[from + i]!;
    nameOffset += length;
    to += DIRENT_WORDS;
    e = entries[entry + ENTRY_NEXT]!;
  }
}
