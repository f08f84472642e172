// Reads EROFS images of every version back into the tree they were made from, from untrusted bytes.
//
// What the writer added is taken away again (object xattrs, escapes, whiteout marks, 00..ff stubs),
// so that writing the result gives the same image. Whatever breaks the format is a FormatError.
// Inline contents and xattr values are views of the image: do not change it while the tree lives.

import {
  type ByteString,
  bytesToByteString,
  type DirectoryNode,
  type FileContent,
  type FileNode,
  type Leaf,
  S_IFBLK,
  S_IFCHR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../tree/node.ts";
import { backingObjects, readBacking } from "./backing.ts";
import { type RawEntry, readEntries } from "./directory-reader.ts";
import {
  type ErofsImage,
  imageError,
  isDirectoryInode,
  openErofsImage,
  type RawInode,
  readData,
  readInode,
} from "./image.ts";
import { BLOCK_BYTES, FILE_TYPE_OF_MODE, LAYOUT_CHUNK_BASED, SLOT_BYTES } from "./layout.ts";
import {
  hasDirectoryMarks,
  hasFileMarks,
  restoreWhiteouts,
  type WhiteoutTraces,
} from "./whiteout-reader.ts";
import { plainPairs, toXattrs, type XattrsCache } from "./xattr-plain.ts";
import {
  createKnownXattrs,
  type KnownXattrs,
  readXattrPairs,
  type XattrPair,
} from "./xattr-reader.ts";

/** What writers of versions 0 and 1 (C's limits) and of version 2 (Rust's) put into an image. */
const MAX_TARGET_BYTES = { 0: 4095, 1: 4095, 2: 1024 } as const;
const MAX_CONTENT_BYTES = { 0: 5000, 1: 5000, 2: 512 } as const;
/** Far beyond what a path can name; keeps recursive users of the tree safe. */
const MAX_DEPTH = 4096;
const STUB_NAME = /^[0-9a-f]{2}$/;
const STUB_COUNT = 256;

interface QueuedDirectory {
  readonly node: DirectoryNode;
  readonly inode: RawInode;
  readonly parentNid: number;
  readonly depth: number;
}

interface Reading {
  readonly image: ErofsImage;
  readonly known: KnownXattrs;
  readonly xattrs: XattrsCache;
  /** By nid. */
  readonly leaves: Map<number, Leaf>;
  readonly directories: Set<number>;
  /** Breadth-first, as versions 0 and 1 number their inodes. */
  readonly queue: QueuedDirectory[];
  readonly whiteouts: WhiteoutTraces;
  /** Where the last inode in image order ended, and how far only zeros follow. */
  end: number;
  paddingFrom: number;
  paddingEnd: number;
  /** Leaves met under a name that does not carry them, with the end of their inode. */
  readonly homeless: Map<Leaf, number>;
}

/**
 * The tree in an image, and the format version it was written in. With dialect "c" directories that
 * had whiteouts keep their opaque marks, as in `composefs-info dump`; C's writer puts the same there.
 */
export function readErofs(
  bytes: Uint8Array,
  options: { readonly dialect?: "c" | "rust" } = {},
): { version: 0 | 1 | 2; root: DirectoryNode } {
  const image = openErofsImage(bytes);
  const reading: Reading = {
    image,
    known: createKnownXattrs(),
    xattrs: new Map(),
    leaves: new Map(),
    directories: new Set(),
    queue: [],
    whiteouts: { directories: new Map(), files: new Map() },
    end: 0,
    paddingFrom: -1,
    paddingEnd: 0,
    homeless: new Map(),
  };
  const rootInode = readInode(image, image.rootNid);
  if (!isDirectoryInode(rootInode)) {
    throw imageError("bad-value", "Root is not a directory", offsetOf(rootInode));
  }
  const root = addDirectory(reading, rootInode, image.rootNid, 0);
  for (const queued of reading.queue) {
    for (const entry of readDirectory(image, queued.inode, queued.parentNid)) {
      addEntry(reading, queued, entry);
    }
  }
  if (image.version !== 2) {
    restoreWhiteouts(reading.whiteouts, options.dialect === "c" ? 0 : image.version);
  }
  return { version: image.version, root };
}

/** The digests of all objects an image refers to. */
export function collectObjects(bytes: Uint8Array): Set<string> {
  const image = openErofsImage(bytes);
  const objects = new Set<string>();
  const known = createKnownXattrs();
  const seen = new Set([image.rootNid]);
  const queue = [{ inode: readInode(image, image.rootNid), parentNid: image.rootNid }];
  for (const { inode: directory, parentNid } of queue) {
    for (const { nid } of readDirectory(image, directory, parentNid)) {
      if (seen.has(nid)) continue;
      seen.add(nid);
      const inode = readInode(image, nid);
      if (isDirectoryInode(inode)) queue.push({ inode, parentNid: directory.nid });
      if (inode.layout !== LAYOUT_CHUNK_BASED) continue;
      const backing = readBacking(readXattrPairs(image, inode, known), offsetOf(inode));
      for (const object of backingObjects(backing)) objects.add(object);
    }
  }
  return objects;
}

/** Entries; the root of versions 0 and 1 must have all names from 00 to ff. */
function readDirectory(image: ErofsImage, inode: RawInode, parentNid: number): RawEntry[] {
  const entries = readEntries(image, inode, parentNid);
  if (inode.nid !== image.rootNid || image.version === 2) return entries;
  // Names are in strict order, so that none counts twice.
  const stubs = entries.filter(({ name }) => STUB_NAME.test(name)).length;
  if (stubs === STUB_COUNT) return entries;
  throw imageError("bad-value", `Root has ${stubs} of the names 00 to ff`, offsetOf(inode));
}

function offsetOf(inode: RawInode): number {
  return inode.nid * SLOT_BYTES;
}

function addDirectory(
  reading: Reading,
  inode: RawInode,
  parentNid: number,
  depth: number,
): DirectoryNode {
  const { image } = reading;
  if (depth > MAX_DEPTH) {
    throw imageError("limit", `Directories nest deeper than ${MAX_DEPTH}`, offsetOf(inode));
  }
  if (reading.directories.has(inode.nid)) {
    throw imageError("bad-value", "Directory has two names", offsetOf(inode));
  }
  reading.directories.add(inode.nid);
  const isRoot = inode.nid === image.rootNid && image.version !== 2;
  const stored = readXattrPairs(image, inode, reading.known);
  const pairs = plainPairs(stored, isRoot ? "root" : "other", offsetOf(inode));
  const marked = image.version !== 2 && hasDirectoryMarks(pairs, image.version);
  const xattrs = toXattrs(pairs, reading.xattrs, offsetOf(inode), marked);
  const { mode, uid, gid, mtimeSec, mtimeNsec } = inode;
  const entries = new Map();
  const node = { kind: "directory", mode, uid, gid, mtimeSec, mtimeNsec, xattrs, entries } as const;
  if (marked) reading.whiteouts.directories.set(node, pairs);
  reading.queue.push({ node, inode, parentNid, depth });
  takePlace(reading, inode);
  return node;
}

function addEntry(reading: Reading, parent: QueuedDirectory, entry: RawEntry): void {
  const { image, leaves } = reading;
  const { node: directory, inode: parentInode } = parent;
  const known = leaves.get(entry.nid);
  if (known !== undefined) {
    addLeafName(reading, known, directory, entry);
    return;
  }
  const inode = readInode(image, entry.nid);
  if (isDirectoryInode(inode)) {
    checkFileType(entry, inode.mode);
    const child = addDirectory(reading, inode, parentInode.nid, parent.depth + 1);
    directory.entries.set(entry.name, child);
    return;
  }
  const inPlace = takePlace(reading, inode);
  if (image.version !== 2 && isWhiteout(inode)) {
    if (parentInode.nid === image.rootNid && STUB_NAME.test(entry.name)) return;
    throw imageError("bad-value", "Whiteout in clear", offsetOf(inode));
  }
  const leaf = readLeaf(reading, inode);
  leaves.set(entry.nid, leaf);
  if (!inPlace) reading.homeless.set(leaf, inodeEnd(inode));
  addLeafName(reading, leaf, directory, entry);
}

function addLeafName(
  reading: Reading,
  leaf: Leaf,
  directory: DirectoryNode,
  entry: RawEntry,
): void {
  const { name, nid } = entry;
  checkFileType(entry, leaf.mode);
  directory.entries.set(name, leaf);
  const end = reading.homeless.get(leaf);
  if (end !== undefined && isNextInode(reading, nid)) {
    leaf.home = { directory, name };
    reading.end = end;
    reading.homeless.delete(leaf);
  }
  if (leaf.kind === "file") reading.whiteouts.files.get(leaf)?.push({ directory, name });
}

function checkFileType(entry: RawEntry, mode: number): void {
  const type = FILE_TYPE_OF_MODE[mode >> 12]!;
  if (type === 0 || type !== entry.fileType) {
    throw imageError("bad-value", "Entry and inode differ in type", entry.nid * SLOT_BYTES);
  }
}

function isWhiteout(inode: RawInode): boolean {
  return (inode.mode & S_IFMT) === S_IFCHR && inode.u === 0;
}

function inodeEnd(inode: RawInode): number {
  return inode.tailAt + inode.tailBytes;
}

/** True when the inode is the next one in image order, which then goes on behind it. */
function takePlace(reading: Reading, inode: RawInode): boolean {
  if (reading.end !== 0 && !isNextInode(reading, inode.nid)) return false;
  reading.end = inodeEnd(inode);
  return true;
}

/** Only padding between the last inode in order and this one? (An inode is never all zeros.) */
function isNextInode(reading: Reading, nid: number): boolean {
  if (reading.paddingFrom !== reading.end) measurePadding(reading);
  const at = nid * SLOT_BYTES;
  return at >= reading.end && at <= reading.paddingEnd;
}

function measurePadding(reading: Reading): void {
  const { bytes } = reading.image;
  const limit = Math.min(bytes.length, reading.end + BLOCK_BYTES + SLOT_BYTES);
  let at = reading.end;
  while (at < limit && bytes[at] === 0) at += 1;
  reading.paddingFrom = reading.end;
  reading.paddingEnd = at;
}

function readLeaf(reading: Reading, inode: RawInode): Leaf {
  const { image } = reading;
  const stored = readXattrPairs(image, inode, reading.known);
  const external = inode.layout === LAYOUT_CHUNK_BASED;
  const pairs = plainPairs(stored, external ? "external" : "other", offsetOf(inode));
  const xattrs = toXattrs(pairs, reading.xattrs, offsetOf(inode), false);
  // Written out, because this runs for every file of an OS and a spread is slow.
  const { mode, uid, gid, mtimeSec, mtimeNsec, nlink } = inode;
  const type = mode & S_IFMT;
  if (type === S_IFREG) {
    const content = readContent(image, inode, stored);
    const file: FileNode = {
      kind: "file",
      mode,
      uid,
      gid,
      mtimeSec,
      mtimeNsec,
      xattrs,
      nlink,
      content,
    };
    if (inode.sizeBytes === 0 && hasFileMarks(pairs)) reading.whiteouts.files.set(file, []);
    return file;
  }
  if (type === S_IFLNK) {
    const target = readTarget(image, inode);
    return { kind: "symlink", mode, uid, gid, mtimeSec, mtimeNsec, xattrs, nlink, target };
  }
  if (inode.sizeBytes !== 0) {
    throw imageError("bad-value", "Special file with data", offsetOf(inode));
  }
  const rdev = type === S_IFCHR || type === S_IFBLK ? inode.u : 0;
  return { kind: "special", mode, uid, gid, mtimeSec, mtimeNsec, xattrs, nlink, rdev };
}

function readContent(image: ErofsImage, inode: RawInode, pairs: readonly XattrPair[]): FileContent {
  if (inode.layout !== LAYOUT_CHUNK_BASED) {
    const max = MAX_CONTENT_BYTES[image.version];
    if (inode.sizeBytes > max) {
      throw imageError("limit", `File content is longer than ${max} bytes`, offsetOf(inode));
    }
    return { kind: "inline", bytes: readData(image, inode) };
  }
  const { digest, payload } = readBacking(pairs, offsetOf(inode));
  const { sizeBytes } = inode;
  if (digest === undefined) {
    return payload === undefined
      ? { kind: "external", sizeBytes }
      : { kind: "external", sizeBytes, payload };
  }
  return payload === undefined
    ? { kind: "external", sizeBytes, digest }
    : { kind: "external", sizeBytes, digest, payload };
}

function readTarget(image: ErofsImage, inode: RawInode): ByteString {
  const max = MAX_TARGET_BYTES[image.version];
  if (inode.sizeBytes < 1 || inode.sizeBytes > max) {
    throw imageError("bad-value", `Symlink target is not 1 to ${max} bytes`, offsetOf(inode));
  }
  const target = readData(image, inode);
  if (target.includes(0))
    throw imageError("bad-value", "Symlink target has a NUL", offsetOf(inode));
  return bytesToByteString(target);
}
