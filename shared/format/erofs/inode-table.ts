// A file tree as the EROFS writer works on it: inodes and directory entries are numbers, and what is
// known about them lies in two arrays of records.
//
// An inode's record is 64 bytes, one line of the processor's cache: the extended on-disk inode
// (layout.ts), with notes of ours where that is reserved. Emitting such an inode is copying its words. An
// entry of a million-file tree costs some 250 bytes with its name, digest and xattrs, and nothing
// for the garbage collector to walk. Inode 0 is the root.

import type { Arena } from "../../bytes/arena.ts";
import { createArena } from "../../bytes/arena.ts";
import { growColumn } from "../../bytes/column.ts";
import { FormatError } from "../../error.ts";
import { type ByteString, fromByteString, S_IFCHR, S_IFDIR, S_IFMT } from "../tree/node.ts";
import { createXattrTable, type XattrTable } from "./xattr-table.ts";

/** No entry: entries are numbered from 1. */
export const NONE = 0;

/** What the inode's data is; directories and empty things have "none". */
export const DATA_NONE = 0;
/** Bytes in `text`: inline files and symlink targets. */
export const DATA_INLINE = 1;
/** External file, one chunk index per chunk. */
export const DATA_EXTERNAL = 2;
/** External file without a digest: version 2 images give it no chunk index. */
export const DATA_EXTERNAL_BARE = 3;

export const INODE_WORDS = 16;
/** Words of an inode's record: 0 to 11 as on disk, 12 to 15 reserved there. */
export const INODE_FORMAT = 0;
/** Mode in the lower half; on disk the upper half is reserved, here it has DATA_… */
export const INODE_MODE = 1;
export const INODE_SIZE = 2;
const INODE_SIZE_HIGH = 3;
/** Device number; the writer puts block and chunk numbers there. */
export const INODE_U = 4;
export const INODE_INO = 5;
export const INODE_UID = 6;
export const INODE_GID = 7;
export const INODE_MTIME = 8;
export const INODE_MTIME_HIGH = 9;
export const INODE_NSEC = 10;
export const INODE_NLINK = 11;
/** Run in `xattrs.lists`. */
export const INODE_XATTRS = 12;
/** Directories: the first entry. DATA_INLINE: offset in `text`. */
export const INODE_CONTENT = 13;
/** The entry that carries the inode; NONE until decided (hard links). */
const INODE_HOME = 14;
/** Directories: the parent inode. */
export const INODE_PARENT = 15;

export const ENTRY_WORDS = 4;
/** Offset in `text`. */
export const ENTRY_NAME = 0;
export const ENTRY_NAME_BYTES = 1;
export const ENTRY_INODE = 2;
/** Next entry of the same directory. */
export const ENTRY_NEXT = 3;

export interface InodeTable {
  /** Names, symlink targets and inline contents. */
  readonly text: Arena;
  readonly xattrs: XattrTable;
  inodeCount: number;
  /** INODE_WORDS each. */
  inodes: Int32Array;
  /** One more than there are: entry 0 is none. */
  entryCount: number;
  /** ENTRY_WORDS each. */
  entries: Int32Array;
  /** True once an inode has two names. */
  hasLinks: boolean;
  /** True once there is a character device 0:0. */
  hasWhiteouts: boolean;
}

const START = 1024;

export function createInodeTable(useLustre: boolean): InodeTable {
  return {
    text: createArena(),
    xattrs: createXattrTable(useLustre),
    inodeCount: 0,
    inodes: new Int32Array(START * INODE_WORDS),
    entryCount: 1,
    entries: new Int32Array(START * ENTRY_WORDS),
    hasLinks: false,
    hasWhiteouts: false,
  };
}

export interface InodeFields {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
}

/** Adds an inode without data, xattrs or name; returns its number. */
export function addInode(table: InodeTable, fields: InodeFields, nlink: number): number {
  const { mode, uid, gid, mtimeSec, mtimeNsec } = fields;
  if (mode >>> 16 !== 0) throw doesNotFit("mode", mode);
  if (uid >>> 0 !== uid) throw doesNotFit("uid", uid);
  if (gid >>> 0 !== gid) throw doesNotFit("gid", gid);
  if (nlink >>> 0 !== nlink) throw doesNotFit("nlink", nlink);
  if (mtimeNsec >>> 0 !== mtimeNsec) throw doesNotFit("mtime nanoseconds", mtimeNsec);
  if (!Number.isSafeInteger(mtimeSec)) throw doesNotFit("mtime seconds", mtimeSec);
  const inode = table.inodeCount;
  const at = inode * INODE_WORDS;
  if (at === table.inodes.length) table.inodes = growColumn(table.inodes, at * 2);
  const { inodes } = table;
  inodes[at + INODE_MODE] = mode;
  inodes[at + INODE_UID] = uid;
  inodes[at + INODE_GID] = gid;
  inodes[at + INODE_NLINK] = nlink;
  inodes[at + INODE_MTIME] = mtimeSec;
  inodes[at + INODE_MTIME_HIGH] = Math.floor(mtimeSec / 2 ** 32);
  inodes[at + INODE_NSEC] = mtimeNsec;
  table.inodeCount = inode + 1;
  return inode;
}

function doesNotFit(field: string, value: number): FormatError {
  return new FormatError("limit", `File ${field} ${value} does not fit its field`, {
    format: "erofs",
    field,
  });
}

export function modeOf(table: InodeTable, inode: number): number {
  return table.inodes[inode * INODE_WORDS + INODE_MODE]! & 0xffff;
}

export function isDirectory(table: InodeTable, inode: number): boolean {
  return (table.inodes[inode * INODE_WORDS + INODE_MODE]! & S_IFMT) === S_IFDIR;
}

/** Also for an inode that has no data any more. */
export function setMode(table: InodeTable, inode: number, mode: number): void {
  table.inodes[inode * INODE_WORDS + INODE_MODE] = mode;
}

/** `data` is a DATA_… */
export function setData(table: InodeTable, inode: number, data: number): void {
  table.inodes[inode * INODE_WORDS + INODE_MODE]! |= data << 16;
}

/** Device number of an inode that may have one. */
export function setRdev(table: InodeTable, inode: number, rdev: number): void {
  table.inodes[inode * INODE_WORDS + INODE_U] = rdev;
  if (isWhiteout(table, inode)) table.hasWhiteouts = true;
}

export function isWhiteout({ inodes }: InodeTable, inode: number): boolean {
  const at = inode * INODE_WORDS;
  return (inodes[at + INODE_MODE]! & S_IFMT) === S_IFCHR && inodes[at + INODE_U] === 0;
}

export function sizeOf({ inodes }: InodeTable, inode: number): number {
  const at = inode * INODE_WORDS;
  return inodes[at + INODE_SIZE_HIGH]! * 2 ** 32 + (inodes[at + INODE_SIZE]! >>> 0);
}

/** `size` is a safe integer. */
export function setSize({ inodes }: InodeTable, inode: number, size: number): void {
  const at = inode * INODE_WORDS;
  inodes[at + INODE_SIZE] = size;
  inodes[at + INODE_SIZE_HIGH] = Math.floor(size / 2 ** 32);
}

/** Offset in `text` of DATA_INLINE. */
export function contentOf({ inodes }: InodeTable, inode: number): number {
  return inodes[inode * INODE_WORDS + INODE_CONTENT]! >>> 0;
}

export function firstEntryOf({ inodes }: InodeTable, directory: number): number {
  return inodes[directory * INODE_WORDS + INODE_CONTENT]!;
}

export function homeOf({ inodes }: InodeTable, inode: number): number {
  return inodes[inode * INODE_WORDS + INODE_HOME]!;
}

export function setHome({ inodes }: InodeTable, inode: number, entry: number): void {
  inodes[inode * INODE_WORDS + INODE_HOME] = entry;
}

export function nextEntryOf({ entries }: InodeTable, entry: number): number {
  return entries[entry * ENTRY_WORDS + ENTRY_NEXT]!;
}

export function inodeOfEntry({ entries }: InodeTable, entry: number): number {
  return entries[entry * ENTRY_WORDS + ENTRY_INODE]!;
}

/**
 * Adds a name, which is in `text` already, to a directory; entries need not come in order. Returns the
 * entry's number.
 */
export function addEntry(
  table: InodeTable,
  directory: number,
  nameAt: number,
  nameBytes: number,
  inode: number,
): number {
  if (nameBytes === 0 || nameBytes > 255) {
    const name = table.text.bytes.toString("latin1", nameAt, nameAt + nameBytes);
    throw new FormatError(
      "limit",
      `File name "${fromByteString(name)}" is not 1 to 255 bytes long`,
      { format: "erofs", field: "name" },
    );
  }
  const entry = addLooseEntry(table, nameAt, nameBytes, inode);
  const first = directory * INODE_WORDS + INODE_CONTENT;
  table.entries[entry * ENTRY_WORDS + ENTRY_NEXT] = table.inodes[first]!;
  table.inodes[first] = entry;
  return entry;
}

/** Adds an entry outside any directory's list. */
export function addLooseEntry(
  table: InodeTable,
  nameAt: number,
  nameBytes: number,
  inode: number,
): number {
  const entry = table.entryCount;
  const at = entry * ENTRY_WORDS;
  if (at === table.entries.length) table.entries = growColumn(table.entries, at * 2);
  const { entries } = table;
  entries[at + ENTRY_NAME] = nameAt;
  entries[at + ENTRY_NAME_BYTES] = nameBytes;
  entries[at + ENTRY_INODE] = inode;
  table.entryCount = entry + 1;
  return entry;
}

export function entryName({ entries, text }: InodeTable, entry: number): ByteString {
  const at = entry * ENTRY_WORDS;
  const nameAt = entries[at + ENTRY_NAME]! >>> 0;
  return text.bytes.toString("latin1", nameAt, nameAt + entries[at + ENTRY_NAME_BYTES]!);
}
