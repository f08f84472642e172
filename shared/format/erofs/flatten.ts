// From the object tree to inode columns. Reads the tree, never changes it.

import { fromHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import {
  type ByteString,
  type DirectoryNode,
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
import { addEntry, addInode, type InodeTable, NONE } from "./inode-table.ts";

interface Flattening extends InodeBuilder {
  /** Inode numbers of leaves, to find hard links: link counts cannot be trusted. */
  readonly leaves: Map<Leaf, number>;
  readonly pending: { directory: DirectoryNode; inode: number }[];
}

/** Columns of a tree; `algorithm`, when given, is demanded of every digest. */
export function flattenTree(
  root: DirectoryNode,
  format: ErofsFormat,
  algorithm: VerityAlgorithm | undefined,
): InodeTable {
  const builder = createInodeBuilder(format, algorithm);
  const f: Flattening = { ...builder, leaves: new Map(), pending: [] };
  const { table } = f;
  table.parent[addDirectory(f, root)] = 0;
  for (let next = f.pending.pop(); next !== undefined; next = f.pending.pop()) {
    addChildren(f, next.directory, next.inode);
  }
  return table;
}

function addChildren(f: Flattening, directory: DirectoryNode, inode: number): void {
  const { table } = f;
  for (const [name, child] of directory.entries) {
    if (child.kind === "directory") {
      const childInode = addDirectory(f, child);
      table.parent[childInode] = inode;
      table.home[childInode] = addEntry(table, inode, name, childInode);
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
  const entry = addEntry(table, inode, name, leafInode);
  const isHome = leaf.home?.directory === directory && leaf.home.name === name;
  if (known === undefined) {
    f.leaves.set(leaf, leafInode);
    table.home[leafInode] = leaf.home === undefined || isHome ? entry : NONE;
  } else {
    table.hasLinks = true;
    if (isHome) table.home[leafInode] = entry;
    else if (leaf.home === undefined) table.home[leafInode] = NONE;
  }
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
    setTarget(f, inode, leaf.target);
  } else if (leaf.kind === "special") {
    table.rdev[inode] = leaf.rdev;
    // Nothing is stored for it, but C chooses the inode form by this size.
    if (leaf.statesLargeSize) table.size[inode] = Number.MAX_SAFE_INTEGER;
  } else {
    checkMode(leaf.mode, S_IFREG);
    const { content } = leaf;
    if (content.kind === "inline") {
      setInlineContent(f, inode, content.bytes);
    } else {
      const digest = content.digest === undefined ? null : fromHex(content.digest);
      setExternalContent(f, inode, content.sizeBytes, digest, content.payload ?? "");
    }
  }
  setXattrs(f, inode, leaf.xattrs);
  return inode;
}

function checkMode(mode: number, type: number): void {
  if ((mode & S_IFMT) === type) return;
  throw new FormatError("bad-value", `File mode 0${mode.toString(8)} does not fit its node kind`, {
    format: "erofs",
    field: "mode",
  });
}
