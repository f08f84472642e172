// A file tree as columns: what the EROFS writer works on.
//
// Inodes and directory entries are numbers; their fields sit in typed arrays that grow together.
// An entry of a million-file tree costs some 250 bytes here, with its name, digest and xattrs, and
// nothing for the garbage collector to walk. Inode 0 is the root.

import type { Arena } from "../../bytes/arena.ts";
import { appendStringToArena, createArena } from "../../bytes/arena.ts";
import { type Column, growColumn } from "../../bytes/column.ts";
import { FormatError } from "../../error.ts";
import { type ByteString, fromByteString } from "../tree/node.ts";
import { createXattrTable, type XattrTable } from "./xattr-table.ts";

export const NONE = 0xffff_ffff;

/** What the inode's data is; directories and empty things have "none". */
export const DATA_NONE = 0;
/** `size` bytes at `contentAt` in `text`: inline files and symlink targets. */
export const DATA_INLINE = 1;
/** External file, one chunk index per chunk. */
export const DATA_EXTERNAL = 2;
/** External file without a digest: version 2 images give it no chunk index. */
export const DATA_EXTERNAL_BARE = 3;

export interface InodeTable {
  /** Names, symlink targets and inline contents. */
  readonly text: Arena;
  readonly xattrs: XattrTable;

  inodeCount: number;
  mode: Uint16Array;
  uid: Uint32Array;
  gid: Uint32Array;
  nlink: Uint32Array;
  rdev: Uint32Array;
  mtimeSec: Float64Array;
  mtimeNsec: Uint32Array;
  size: Float64Array;
  data: Uint8Array;
  contentAt: Uint32Array;
  xattrAt: Uint32Array;
  xattrCount: Uint16Array;
  /** Directories: first entry and parent inode; others NONE. */
  firstEntry: Uint32Array;
  parent: Uint32Array;
  /** The entry that carries the inode; NONE until decided (hard links). */
  home: Uint32Array;

  entryCount: number;
  nameAt: Uint32Array;
  nameLength: Uint8Array;
  entryInode: Uint32Array;
  /** Next entry of the same directory. */
  nextEntry: Uint32Array;

  /** True once an inode has two names. */
  hasLinks: boolean;
}

const START = 1024;

export function createInodeTable(useLustre: boolean): InodeTable {
  return {
    text: createArena(),
    xattrs: createXattrTable(useLustre),
    inodeCount: 0,
    mode: new Uint16Array(START),
    uid: new Uint32Array(START),
    gid: new Uint32Array(START),
    nlink: new Uint32Array(START),
    rdev: new Uint32Array(START),
    mtimeSec: new Float64Array(START),
    mtimeNsec: new Uint32Array(START),
    size: new Float64Array(START),
    data: new Uint8Array(START),
    contentAt: new Uint32Array(START),
    xattrAt: new Uint32Array(START),
    xattrCount: new Uint16Array(START),
    firstEntry: new Uint32Array(START),
    parent: new Uint32Array(START),
    home: new Uint32Array(START),
    entryCount: 0,
    nameAt: new Uint32Array(START),
    nameLength: new Uint8Array(START),
    entryInode: new Uint32Array(START),
    nextEntry: new Uint32Array(START),
    hasLinks: false,
  };
}

const INODE_COLUMNS = [
  "mode",
  "uid",
  "gid",
  "nlink",
  "rdev",
  "mtimeSec",
  "mtimeNsec",
  "size",
  "data",
  "contentAt",
  "xattrAt",
  "xattrCount",
  "firstEntry",
  "parent",
  "home",
] as const;
const ENTRY_COLUMNS = ["nameAt", "nameLength", "entryInode", "nextEntry"] as const;

function growColumns(table: InodeTable, names: readonly (keyof InodeTable)[]): void {
  const columns = table as unknown as Record<string, Column>;
  for (const name of names) {
    const old = columns[name]!;
    columns[name] = growColumn(old, old.length * 2);
  }
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
  checkUnsigned("mode", mode, 0xffff);
  checkUnsigned("uid", uid, 0xffff_ffff);
  checkUnsigned("gid", gid, 0xffff_ffff);
  checkUnsigned("nlink", nlink, 0xffff_ffff);
  checkUnsigned("mtime nanoseconds", mtimeNsec, 0xffff_ffff);
  if (!Number.isSafeInteger(mtimeSec)) checkUnsigned("mtime seconds", mtimeSec, 0);
  const inode = table.inodeCount;
  if (inode === table.mode.length) growColumns(table, INODE_COLUMNS);
  table.mode[inode] = mode;
  table.uid[inode] = uid;
  table.gid[inode] = gid;
  table.nlink[inode] = nlink;
  table.mtimeSec[inode] = mtimeSec;
  table.mtimeNsec[inode] = mtimeNsec;
  table.firstEntry[inode] = NONE;
  table.parent[inode] = NONE;
  table.home[inode] = NONE;
  table.inodeCount = inode + 1;
  return inode;
}

function checkUnsigned(field: string, value: number, max: number): void {
  if (value >= 0 && value <= max && Number.isInteger(value)) return;
  throw new FormatError("limit", `File ${field} ${value} does not fit its field`, {
    format: "erofs",
    field,
  });
}

/** Adds a name to a directory; entries need not come in order. Returns the entry's number. */
export function addEntry(
  table: InodeTable,
  directory: number,
  name: ByteString,
  inode: number,
): number {
  if (name.length === 0 || name.length > 255) {
    throw new FormatError(
      "limit",
      `File name "${fromByteString(name)}" is not 1 to 255 bytes long`,
      { format: "erofs", field: "name" },
    );
  }
  const nameAt = appendStringToArena(table.text, name);
  const entry = addSharedEntry(table, nameAt, name.length, inode);
  table.nextEntry[entry] = table.firstEntry[directory]!;
  table.firstEntry[directory] = entry;
  return entry;
}

/** Adds an entry whose name is in the arena already, outside any directory's list. */
export function addSharedEntry(
  table: InodeTable,
  nameAt: number,
  nameLength: number,
  inode: number,
): number {
  const entry = table.entryCount;
  if (entry === table.nameAt.length) growColumns(table, ENTRY_COLUMNS);
  table.nameAt[entry] = nameAt;
  table.nameLength[entry] = nameLength;
  table.entryInode[entry] = inode;
  table.entryCount = entry + 1;
  return entry;
}

export function entryName(table: InodeTable, entry: number): ByteString {
  const at = table.nameAt[entry]!;
  return table.text.bytes.toString("latin1", at, at + table.nameLength[entry]!);
}
