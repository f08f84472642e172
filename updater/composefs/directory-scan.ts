// A directory as an image, the way C's mkcomposefs sees it (composefs.md 2.9): every name is a file
// of its own (hard links are broken, link count 1; tree-scan.ts keeps them), up to 64 bytes are stored
// inline, larger files by their fs-verity digest.
//
// This thread walks the tree while others hash (hash-pool.ts). A file is opened before it is looked at, and
// one that changes while it is read is an error: the image must not promise a digest of content that nobody
// ever had.

import { isErrno } from "../../shared/error.ts";
import {
  addDirectoryEntry,
  addFileEntry,
  addSpecialEntry,
  addSymlinkEntry,
  createEntryRecords,
  type EntryMetadata,
  ROOT_INODE,
  setFileBytes,
  setFileDigest,
} from "../../shared/format/erofs/entry-records.ts";
import type { ErofsFormat } from "../../shared/format/erofs/format.ts";
import type { InodeBuilder } from "../../shared/format/erofs/inode-builder.ts";
import { type PlannedImage, planErofsFromRecords } from "../../shared/format/erofs/writer.ts";
import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import { type DirEntry, openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, pread } from "../../shared/sys/file.ts";
import { readlinkat } from "../../shared/sys/link.ts";
import { type FileStat, fstat, fstatat } from "../../shared/sys/stat.ts";
import { fgetxattr, flistxattr, lgetxattr, llistxattr } from "../../shared/sys/xattr.ts";
import type { DigestStore } from "./digest-store.ts";
import { createFileMeter, type FileMeter, measureFile } from "./file-digest.ts";
import { adoptFile, closeFile, createHashPool, drainPool, type HashPool } from "./hash-pool.ts";
import { changedError, checkUnchanged } from "./hash-task.ts";

const MAX_INLINE_BYTES = 64;
const MAX_XATTR_SETS = 4096;

export interface ScanOptions {
  readonly xattrs: "all" | "user" | "none";
  /** Leave out character and block devices, and with them whiteouts. */
  readonly skipDevices: boolean;
  /** All times are 0.0. */
  readonly useEpoch: boolean;
  /** Where the content of large files is copied to. */
  readonly store: DigestStore | null;
  /** How many may hash and copy, this one included. */
  readonly threads: number;
}

interface Scan {
  readonly options: ScanOptions;
  readonly pool: HashPool;
  readonly meter: FileMeter;
  readonly records: InodeBuilder;
  /** Files with several names, by device and inode. */
  readonly linked: Map<string, LinkedFile>;
  /** Sets of xattrs seen before: files mostly share a few, and the writer knows them by identity. */
  readonly xattrSets: XattrSets;
}

type XattrSets = Map<string, Xattrs>;

/** Hashed once; names met before the digest is known wait for it. */
interface LinkedFile {
  digest: Uint8Array | null;
  readonly waiting: { readonly inode: number; readonly xattrs: Xattrs }[];
}

/** The image of what is below `path`, which is not followed when it is a symlink. */
export function planDirectory(
  path: string,
  options: ScanOptions,
  format: ErofsFormat,
): PlannedImage {
  const { store, threads } = options;
  using pool = createHashPool({ algorithm: "sha256", threads, store });
  using fd = openDirectory(null, path);
  const xattrSets: XattrSets = new Map();
  const records = createEntryRecords(format, metadataOf(options, xattrSets, fd));
  const meter = createFileMeter(pool);
  scanOpen({ options, pool, meter, records, linked: new Map(), xattrSets }, fd, ROOT_INODE);
  drainPool(pool);
  return planErofsFromRecords(records, format);
}

function scanOpen(scan: Scan, fd: Fd, inode: number): void {
  for (const entry of readDirectory(fd)) scanEntry(scan, fd, inode, entry);
}

/** The type in the directory spares asking for that of files and directories, which are opened anyway. */
function scanEntry(scan: Scan, parentFd: Fd, parent: number, { name, type }: DirEntry): void {
  if (type === "file") {
    scanFile(scan, parentFd, parent, name);
  } else if (type === "directory") {
    scanSubdirectory(scan, parentFd, parent, name);
  } else {
    const stat = fstatat(parentFd, name);
    const found = stat.mode & S_IFMT;
    if (found === S_IFREG) scanFile(scan, parentFd, parent, name);
    else if (found === S_IFDIR) scanSubdirectory(scan, parentFd, parent, name);
    else scanSpecial(scan, parentFd, parent, name, stat);
  }
}

function scanSubdirectory(scan: Scan, parentFd: Fd, parent: number, name: Uint8Array): void {
  using fd = openDirectory(parentFd, name);
  const metadata = metadataOf(scan.options, scan.xattrSets, fd);
  scanOpen(scan, fd, addDirectoryEntry(scan.records, parent, name, metadata));
}

/** Symlinks, devices, FIFOs and sockets: nothing that could be opened. */
function scanSpecial(
  { options, xattrSets, records }: Scan,
  parentFd: Fd,
  parent: number,
  name: Uint8Array,
  stat: FileStat,
): void {
  const type = stat.mode & S_IFMT;
  const isDevice = type === S_IFCHR || type === S_IFBLK;
  if (isDevice && options.skipDevices) return;
  const xattrs = namedXattrs(options, xattrSets, parentFd, name);
  const metadata = statMetadata(options, stat, xattrs);
  if (type === S_IFLNK) {
    addSymlinkEntry(records, parent, name, metadata, readlinkat(parentFd, name));
  } else {
    addSpecialEntry(records, parent, name, metadata, isDevice ? stat.rdev : 0);
  }
}

function scanFile(scan: Scan, parentFd: Fd, parent: number, name: Uint8Array): void {
  const fd = openFile(scan, parentFd, parent, name);
  if (fd === null) return;
  adoptFile(scan.pool, fd);
  const stat = fstat(fd);
  if ((stat.mode & S_IFMT) !== S_IFREG) throw changedError(fd);
  const xattrs = openXattrs(scan.options, scan.xattrSets, fd);
  const metadata = statMetadata(scan.options, stat, xattrs);
  const inode = addFileEntry(scan.records, parent, name, metadata);
  if (stat.sizeBytes > MAX_INLINE_BYTES) {
    findDigest(scan, fd, stat, inode, xattrs);
  } else {
    const content = stat.sizeBytes > 0 ? readInline(fd, stat) : NO_CONTENT;
    setFileBytes(scan.records, inode, content, xattrs);
    closeFile(scan.pool, fd);
  }
}

/** Null when the file was added without being opened: what is empty need not be readable, as in C. */
function openFile(scan: Scan, parentFd: Fd, parent: number, name: Uint8Array): Fd | null {
  try {
    // O_NONBLOCK: a FIFO that took the name meanwhile must not hang us.
    return openat(parentFd, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  } catch (error) {
    if (!isErrno(error, "EACCES")) throw error;
    const { options, xattrSets, records } = scan;
    const stat = fstatat(parentFd, name);
    if ((stat.mode & S_IFMT) !== S_IFREG || stat.sizeBytes > 0) throw error;
    const xattrs = namedXattrs(options, xattrSets, parentFd, name);
    const inode = addFileEntry(records, parent, name, statMetadata(options, stat, xattrs));
    setFileBytes(records, inode, NO_CONTENT, xattrs);
    return null;
  }
}

const NO_CONTENT = new Uint8Array(0);
const inlineBuffer = new Uint8Array(MAX_INLINE_BYTES + 1);

function readInline(fd: Fd, stat: FileStat): Uint8Array {
  const count = pread(fd, inlineBuffer, 0);
  checkUnchanged(fd, stat);
  if (count !== stat.sizeBytes) throw changedError(fd);
  return inlineBuffer.slice(0, count);
}

/** Sees to it that the inode has its content when the pool is drained. */
function findDigest(scan: Scan, fd: Fd, stat: FileStat, inode: number, xattrs: Xattrs): void {
  const { pool, records } = scan;
  const { sizeBytes } = stat;
  const linked = stat.nlink > 1 ? findLinked(scan, stat) : null;
  if (linked !== null && linked.digest !== null) {
    closeFile(pool, fd);
    setFileDigest(records, inode, sizeBytes, linked.digest, xattrs);
    return;
  }
  if (linked !== null && linked.waiting.push({ inode, xattrs }) > 1) {
    closeFile(pool, fd);
    return;
  }
  measureFile(scan.meter, fd, stat, (digest) => {
    if (linked === null) {
      setFileDigest(records, inode, sizeBytes, digest, xattrs);
      return;
    }
    linked.digest = digest.slice();
    for (const each of linked.waiting) {
      setFileDigest(records, each.inode, sizeBytes, digest, each.xattrs);
    }
  });
}

function findLinked({ linked }: Scan, { devMajor, devMinor, ino }: FileStat): LinkedFile {
  const key = `${devMajor}:${devMinor}:${ino}`;
  let known = linked.get(key);
  if (known === undefined) {
    known = { digest: null, waiting: [] };
    linked.set(key, known);
  }
  return known;
}

function metadataOf(options: ScanOptions, sets: XattrSets, fd: Fd): EntryMetadata {
  return statMetadata(options, fstat(fd), openXattrs(options, sets, fd));
}

function statMetadata(options: ScanOptions, stat: FileStat, xattrs: Xattrs): EntryMetadata {
  const { mode, uid, gid } = stat;
  const mtimeSec = options.useEpoch ? 0 : stat.mtimeSec;
  const mtimeNsec = options.useEpoch ? 0 : stat.mtimeNsec;
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

function openXattrs(options: ScanOptions, sets: XattrSets, fd: Fd): Xattrs {
  if (options.xattrs === "none") return NO_XATTRS;
  const names = flistxattr(fd);
  if (names.length === 0) return NO_XATTRS;
  return collectXattrs(options, sets, names, (name) => fgetxattr(fd, name));
}

function namedXattrs(options: ScanOptions, sets: XattrSets, parent: Fd, name: Uint8Array): Xattrs {
  if (options.xattrs === "none") return NO_XATTRS;
  // The calls know no directory to start from.
  const path = byteStringToBytes(`/proc/self/fd/${parent.number}/${bytesToByteString(name)}`);
  const names = llistxattr(path);
  if (names.length === 0) return NO_XATTRS;
  return collectXattrs(options, sets, names, (each) => lgetxattr(path, each));
}

function collectXattrs(
  options: ScanOptions,
  sets: XattrSets,
  names: readonly ByteString[],
  read: (name: ByteString) => Uint8Array | null,
): Xattrs {
  const xattrs = new Map<ByteString, Uint8Array>();
  let key = "";
  for (const name of names) {
    if (options.xattrs === "user" && !name.startsWith("user.")) continue;
    const value = read(name);
    if (value === null) continue;
    xattrs.set(name, value);
    key += `${name}\0${value.length} ${bytesToByteString(value)}`;
  }
  const known = sets.get(key);
  if (known !== undefined) return known;
  if (sets.size < MAX_XATTR_SETS) sets.set(key, xattrs);
  return xattrs;
}
