// From a dump straight to inode columns, without a tree of objects: this is what makes building an
// image of a million files cheap.

import { buildFromDump, type DumpTarget } from "../tree/dump-build.ts";
import type { DumpOptions } from "../tree/dump-field.ts";
import type { DumpLine } from "../tree/dump-line.ts";
import type { ByteString } from "../tree/node.ts";
import { S_IFLNK, S_IFMT, S_IFREG } from "../tree/node.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
import { isDirectory } from "./arrange.ts";
import type { ErofsFormat } from "./format.ts";
import {
  createInodeBuilder,
  type InodeBuilder,
  setExternalContent,
  setInlineContent,
  setTarget,
  setXattrs,
} from "./inode-builder.ts";
import { addEntry, addInode, entryName, type InodeTable, NONE } from "./inode-table.ts";

/** Columns of a dump; FormatErrors name line and field, except for duplicate names. */
export function flattenDump(
  text: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions,
  format: ErofsFormat,
  algorithm: VerityAlgorithm | undefined,
): InodeTable {
  const builder = createInodeBuilder(format, algorithm);
  const { table } = builder;
  /** Entries by name of directories that hard links point into. */
  const indexes = new Map<number, Map<ByteString, number>>();
  const target: DumpTarget<number, number> = {
    addRoot(line) {
      const inode = addLine(builder, line);
      table.parent[inode] = inode;
      return inode;
    },
    addDirectory(parent, name, line) {
      const inode = addLine(builder, line);
      table.parent[inode] = parent;
      table.home[inode] = addEntry(table, parent, name, inode);
      return inode;
    },
    addLeaf(parent, name, line) {
      const inode = addLine(builder, line);
      table.home[inode] = addEntry(table, parent, name, inode);
    },
    hasEntry: () => false,
    findLeaf(directory, name) {
      const inode = findEntry(table, indexes, directory, name);
      if (inode === undefined) return null;
      return isDirectory(table, inode) ? "directory" : inode;
    },
    addLink(parent, name, leaf) {
      table.hasLinks = true;
      addEntry(table, parent, name, leaf);
    },
  };
  buildFromDump(text, options, target);
  return table;
}

function addLine(builder: InodeBuilder, line: DumpLine): number {
  const { table } = builder;
  const inode = addInode(table, line, line.nlink);
  const type = line.mode & S_IFMT;
  if (type === S_IFLNK) {
    setTarget(builder, inode, line.payload);
  } else if (type !== S_IFREG) {
    table.rdev[inode] = line.rdev;
    table.size[inode] = Math.min(line.size, Number.MAX_SAFE_INTEGER);
  } else if (line.content !== null) {
    setInlineContent(builder, inode, line.content);
  } else {
    setExternalContent(builder, inode, line.size, line.digest, line.payload);
  }
  setXattrs(builder, inode, line.xattrs);
  return inode;
}

function findEntry(
  table: InodeTable,
  indexes: Map<number, Map<ByteString, number>>,
  directory: number,
  name: ByteString,
): number | undefined {
  let index = indexes.get(directory);
  if (index === undefined) {
    index = new Map();
    for (let e = table.firstEntry[directory]!; e !== NONE; e = table.nextEntry[e]!) {
      index.set(entryName(table, e), table.entryInode[e]!);
    }
    indexes.set(directory, index);
  }
  return index.get(name);
}
