// Inode records entry by entry, for a source that is neither a tree of objects nor a dump: a directory that
// is read while its files are still being hashed. What a file contains may be told after its name.
//
// The caller names each directory before what is in it, and gives every file its content once. Every name is
// an inode of its own.

import { appendToArena } from "../../bytes/arena.ts";
import type { Xattrs } from "../tree/node.ts";
import type { ErofsFormat } from "./format.ts";
import {
  createInodeBuilder,
  type InodeBuilder,
  setExternalContent,
  setInlineContent,
  setTarget,
  setXattrs,
} from "./inode-builder.ts";
import {
  addEntry,
  addInode,
  INODE_PARENT,
  INODE_WORDS,
  type InodeFields,
  setHome,
  setRdev,
} from "./inode-table.ts";

/** Root directory, which has no name. */
export const ROOT_INODE = 0;

export interface EntryMetadata extends InodeFields {
  readonly xattrs: Xattrs;
}

/** An image that grows; inodes are numbers. */
export function createEntryRecords(format: ErofsFormat, root: EntryMetadata): InodeBuilder {
  const records = createInodeBuilder(format, undefined);
  const inode = addInode(records.table, root, 0);
  setXattrs(records, inode, root.xattrs);
  return records;
}

export function addDirectoryEntry(
  records: InodeBuilder,
  parent: number,
  name: Uint8Array,
  metadata: EntryMetadata,
): number {
  const inode = addInode(records.table, metadata, 0);
  records.table.inodes[inode * INODE_WORDS + INODE_PARENT] = parent;
  setXattrs(records, inode, metadata.xattrs);
  addName(records, parent, name, inode);
  return inode;
}

export function addSymlinkEntry(
  records: InodeBuilder,
  parent: number,
  name: Uint8Array,
  metadata: EntryMetadata,
  target: Uint8Array,
): void {
  const inode = addInode(records.table, metadata, 1);
  setTarget(records, inode, appendToArena(records.table.text, target), target.length);
  setXattrs(records, inode, metadata.xattrs);
  addName(records, parent, name, inode);
}

/** Devices, FIFOs and sockets; `rdev` is 0 for the latter two. */
export function addSpecialEntry(
  records: InodeBuilder,
  parent: number,
  name: Uint8Array,
  metadata: EntryMetadata,
  rdev: number,
): void {
  const inode = addInode(records.table, metadata, 1);
  setRdev(records.table, inode, rdev);
  setXattrs(records, inode, metadata.xattrs);
  addName(records, parent, name, inode);
}

/** A file whose content, and with it its xattrs, one of the two functions below tells. */
export function addFileEntry(
  records: InodeBuilder,
  parent: number,
  name: Uint8Array,
  metadata: InodeFields,
): number {
  const inode = addInode(records.table, metadata, 1);
  addName(records, parent, name, inode);
  return inode;
}

export function setFileBytes(
  records: InodeBuilder,
  inode: number,
  content: Uint8Array,
  xattrs: Xattrs,
): void {
  setInlineContent(records, inode, appendToArena(records.table.text, content), content.length);
  setXattrs(records, inode, xattrs);
}

/** Content in the object store, under its digest. */
export function setFileDigest(
  records: InodeBuilder,
  inode: number,
  sizeBytes: number,
  digest: Uint8Array,
  xattrs: Xattrs,
): void {
  setExternalContent(records, inode, sizeBytes, digest, null);
  setXattrs(records, inode, xattrs);
}

function addName(records: InodeBuilder, parent: number, name: Uint8Array, inode: number): void {
  const { table } = records;
  const entry = addEntry(table, parent, appendToArena(table.text, name), name.length, inode);
  setHome(table, inode, entry);
}
