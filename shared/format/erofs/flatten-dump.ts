// From a dump straight to inode records, without a tree of objects: this is what makes building an
// image of a million files cheap.

import { appendToArena } from "../../bytes/arena.ts";
import { buildFromDump, type DumpTarget } from "../tree/dump-build.ts";
import type { ByteSpan, DumpOptions } from "../tree/dump-field.ts";
import type { DumpLine } from "../tree/dump-record.ts";
import type { ByteString } from "../tree/node.ts";
import { S_IFLNK, S_IFMT, S_IFREG } from "../tree/node.ts";
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
  entryName,
  firstEntryOf,
  INODE_PARENT,
  INODE_WORDS,
  type InodeTable,
  inodeOfEntry,
  isDirectory,
  NONE,
  nextEntryOf,
  setHome,
  setRdev,
  setSize,
} from "./inode-table.ts";

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
    addRoot: (line) => addLine(builder, line),
    addDirectory(parent, name, line) {
      const inode = addLine(builder, line);
      table.inodes[inode * INODE_WORDS + INODE_PARENT] = parent;
      setHome(table, inode, addName(table, parent, name, inode));
      return inode;
    },
    addLeaf(parent, name, line) {
      const inode = addLine(builder, line);
      setHome(table, inode, addName(table, parent, name, inode));
    },
    hasEntry: () => false,
    findLeaf(directory, name) {
      const inode = findEntry(table, indexes, directory, name);
      if (inode === undefined) return null;
      return isDirectory(table, inode) ? "directory" : inode;
    },
    addLink(parent, name, leaf) {
      table.hasLinks = true;
      const bytes = Buffer.from(name, "latin1");
      addName(table, parent, { bytes, start: 0, end: bytes.length }, leaf);
    },
  };
  buildFromDump(text, options, target);
  return table;
}

function addName(table: InodeTable, directory: number, name: ByteSpan, inode: number): number {
  const nameAt = appendToArena(table.text, name.bytes, name.start, name.end);
  return addEntry(table, directory, nameAt, name.end - name.start, inode);
}

function addLine(builder: InodeBuilder, line: DumpLine): number {
  const { table } = builder;
  const inode = addInode(table, line, line.nlink);
  const type = line.mode & S_IFMT;
  if (type === S_IFLNK) {
    const { bytes, start, end } = line.payload;
    setTarget(builder, inode, appendToArena(table.text, bytes, start, end), end - start);
  } else if (type !== S_IFREG) {
    setRdev(table, inode, line.rdev);
    // Nothing is stored for it, but C chooses the inode form by this size.
    setSize(table, inode, Math.min(line.size, Number.MAX_SAFE_INTEGER));
  } else if (line.content !== null) {
    const { bytes, start, end } = line.content;
    setInlineContent(builder, inode, appendToArena(table.text, bytes, start, end), end - start);
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
    for (let e = firstEntryOf(table, directory); e !== NONE; e = nextEntryOf(table, e)) {
      index.set(entryName(table, e), inodeOfEntry(table, e));
    }
    indexes.set(directory, index);
  }
  return index.get(name);
}
