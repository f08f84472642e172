// Takes back what the writer did to whiteouts in versions 0 and 1 (whiteout.ts).
//
// A regular empty file with both whiteout xattrs, in a directory that is marked for having some,
// was a char device 0:0; its directory loses the marks. Anything else keeps what it has, so that
// writing the tree again gives the same image.

import {
  type ByteString,
  bytesToByteString,
  type DirectoryNode,
  type FileNode,
  type Leaf,
  NO_XATTRS,
  S_IFCHR,
  type SpecialNode,
  type Xattrs,
} from "../tree/node.ts";
import { imageError } from "./image.ts";
import { valueBytes, type XattrPair } from "./xattr-reader.ts";

interface Name {
  readonly directory: DirectoryNode;
  readonly name: ByteString;
}

/** Collected while reading; small in any sane image. */
export interface WhiteoutTraces {
  /** Directories with the marks, and their xattrs as stored after unescaping. */
  readonly directories: Map<DirectoryNode, readonly XattrPair[]>;
  /** Files with the whiteout xattrs, and their names. */
  readonly files: Map<FileNode, Name[]>;
}

const FILE_MARKS: readonly Mark[] = [
  { name: "trusted.overlay.whiteout", value: "" },
  { name: "user.overlay.whiteout", value: "" },
];
const DIRECTORY_MARKS: readonly Mark[] = [
  { name: "trusted.overlay.whiteouts", value: "" },
  { name: "user.overlay.whiteouts", value: "" },
];
const OPAQUE_MARKS: readonly Mark[] = [
  { name: "trusted.overlay.opaque", value: "x" },
  { name: "user.overlay.opaque", value: "x" },
];

interface Mark {
  readonly name: string;
  readonly value: string;
}

function directoryMarks(version: 0 | 1): readonly Mark[] {
  return version === 0 ? DIRECTORY_MARKS : [...DIRECTORY_MARKS, ...OPAQUE_MARKS];
}

/** True when all marks of a directory with whiteouts are there (names unescaped). */
export function hasDirectoryMarks(pairs: readonly XattrPair[], version: 0 | 1): boolean {
  return pairs.length > 1 && hasMarks(pairs, directoryMarks(version));
}

/** True when a file carries both marks of a whiteout (names unescaped). */
export function hasFileMarks(pairs: readonly XattrPair[]): boolean {
  return pairs.length > 1 && hasMarks(pairs, FILE_MARKS);
}

function hasMarks(pairs: readonly XattrPair[], marks: readonly Mark[]): boolean {
  return marks.every((mark) => pairs.some((pair) => isMark(pair, mark)));
}

function isMark(pair: XattrPair, mark: Mark): boolean {
  if (pair.name !== mark.name || pair.sizeBytes !== mark.value.length) return false;
  return bytesToByteString(valueBytes(pair)) === mark.value;
}

/** Replaces marked files by whiteouts in all their directories; version 0 leaves `opaque` alone. */
export function restoreWhiteouts(traces: WhiteoutTraces, version: 0 | 1): void {
  const cleaned = new Set<DirectoryNode>();
  for (const [file, names] of traces.files) {
    const marked = names.find(({ directory }) => traces.directories.has(directory));
    if (marked === undefined) continue;
    const whiteout = makeWhiteout(file);
    // Only the name that carries the inode gets its directory marked.
    if (names.length > 1 && !traces.directories.has((file.home ?? names[0]!).directory)) {
      whiteout.home = marked;
    }
    for (const { directory, name } of names) {
      directory.entries.set(name, whiteout);
      if (traces.directories.has(directory)) cleaned.add(directory);
    }
  }
  for (const [directory, pairs] of traces.directories) {
    if (cleaned.has(directory)) {
      directory.xattrs = withoutMarks(pairs, directoryMarks(version));
    } else {
      checkNoDuplicates(pairs);
    }
  }
}

function makeWhiteout(file: FileNode): Leaf {
  const { mode, uid, gid, mtimeSec, mtimeNsec, nlink, home } = file;
  const whiteout: SpecialNode = {
    kind: "special",
    mode: S_IFCHR | (mode & 0o7777),
    uid,
    gid,
    mtimeSec,
    mtimeNsec,
    xattrs: withoutFileMarks(file.xattrs),
    nlink,
    rdev: 0,
  };
  if (home !== undefined) whiteout.home = home;
  return whiteout;
}

function withoutFileMarks(xattrs: Xattrs): Xattrs {
  const names = FILE_MARKS.map(({ name }) => name);
  const rest = [...xattrs].filter(([name]) => !names.includes(name));
  return rest.length === 0 ? NO_XATTRS : new Map(rest);
}

/** Drops one pair for each mark. */
function withoutMarks(pairs: readonly XattrPair[], marks: readonly Mark[]): Xattrs {
  const rest = [...pairs];
  for (const mark of marks) {
    const index = rest.findIndex((pair) => isMark(pair, mark));
    if (index !== -1) rest.splice(index, 1);
  }
  checkNoDuplicates(rest);
  if (rest.length === 0) return NO_XATTRS;
  return new Map(rest.map((pair) => [pair.name, valueBytes(pair)]));
}

function checkNoDuplicates(pairs: readonly XattrPair[]): void {
  if (new Set(pairs.map(({ name }) => name)).size === pairs.length) return;
  throw imageError("bad-value", `Xattr "${pairs[0]?.name}" or another is there twice`, 0);
}
