// From the object tree to inode records. Reads the tree, never changes it.

import { appendStringToArena, appendToArena } from "../../bytes/arena.ts";
import { fromHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import {
  type ByteString,
  byteStringToBytes,
  type DirectoryNode,
  type FileContent,
  type Leaf,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../tree/node.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
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
  type InodeTable,
  NONE,
  setHome,
  setRdev,
  setSize,
} from "./inode-table.ts";

interface Flattening extends InodeBuilder {
  /** Inode numbers of leaves, to find hard links: link counts cannot be trusted. */
  readonly leaves: Map<Leaf, number>;
  readonly pending: { directory: DirectoryNode; inode: number }[];
}

/** Records of a tree; `algorithm`, when given, is demanded of every digest. */
export function flattenTree(
  root: DirectoryNode,
  format: ErofsFormat,
  algorithm: VerityAlgorithm | undefined,
): InodeTable {
  const builder = createInodeBuilder(format, algorithm);
  const f: Flattening = { ...builder, leaves: new Map(), pending: [] };
  addDirectory(f, root);
  for (let next = f.pending.pop(); next !== undefined; next = f.pending.pop()) {
    addChildren(f, next.directory, next.inode);
  }
  return f.table;
}

function addChildren(f: Flattening, directory: DirectoryNode, inode: number): void {
  const { table } = f;
  for (const [name, child] of directory.entries) {
    if (child.kind === "directory") {
      const childInode = addDirectory(f, child);
      table.inodes[childInode * INODE_WORDS + INODE_PARENT] = inode;
      setHome(table, childInode, addName(table, inode, name, childInode));
    } else {
      addLeafEntry(f, directory, inode, name, child);
    }
  }
}

function addLeafEntry(
  f: Flattening,
  directory: DirectoryNode,
  inode: number,
  name: ByteString,
  leaf: Leaf,
): void {
  const { table } = f;
  const known = f.leaves.get(leaf);
  const leafInode = known ?? addLeaf(f, leaf);
  const entry = addName(table, inode, name, leafInode);
  const isHome = leaf.home?.directory === directory && leaf.home.name === name;
  if (known === undefined) {
    f.leaves.set(leaf, leafInode);
    setHome(table, leafInode, leaf.home === undefined || isHome ? entry : NONE);
  } else {
    table.hasLinks = true;
    if (isHome) setHome(table, leafInode, entry);
    else if (leaf.home === undefined) setHome(table, leafInode, NONE);
  }
}

function addName(table: InodeTable, directory: number, name: ByteString, inode: number): number {
  const nameAt = appendStringToArena(table.text, name);
  return addEntry(table, directory, nameAt, name.length, inode);
}

function addDirectory(f: Flattening, node: DirectoryNode): number {
  checkMode(node.mode, S_IFDIR);
  const inode = addInode(f.table, node, 0);
  setXattrs(f, inode, node.xattrs);
  f.pending.push({ directory: node, inode });
  return inode;
}

function addLeaf(f: Flattening, leaf: Leaf): number {
  const { table } = f;
  const inode = addInode(table, leaf, leaf.nlink);
  if (leaf.kind === "symlink") {
    checkMode(leaf.mode, S_IFLNK);
    const { target } = leaf;
    setTarget(f, inode, appendStringToArena(table.text, target), target.length);
  } else if (leaf.kind === "special") {
    setRdev(table, inode, leaf.rdev);
    // Nothing is stored for it, but C chooses the inode form by this size.
    if (leaf.statesLargeSize) setSize(table, inode, Number.MAX_SAFE_INTEGER);
  } else {
    checkMode(leaf.mode, S_IFREG);
    setContent(f, inode, leaf.content);
  }
  setXattrs(f, inode, leaf.xattrs);
  return inode;
}

function setContent(f: Flattening, inode: number, content: FileContent): void {
  if (content.kind === "inline") {
    const { bytes } = content;
    setInlineContent(f, inode, appendToArena(f.table.text, bytes), bytes.length);
    return;
  }
  const digest = content.digest === undefined ? null : fromHex(content.digest);
  const bytes = byteStringToBytes(content.payload ?? "");
  setExternalContent(f, inode, content.sizeBytes, digest, { bytes, start: 0, end: bytes.length });
}

function checkMode(mode: number, type: number): void {
  if ((mode & S_IFMT) === type) return;
  throw new FormatError("bad-value", `File mode 0${mode.toString(8)} does not fit its node kind`, {
    format: "erofs",
    field: "mode",
  });
}
