// A directory as a file tree with its hard links, as composefs-rs reads one and `mkcomposefs --hardlinks`:
// the names of one file share a node that counts them. directory-scan.ts is the fast way without them.
//
// A file is opened before it is looked at, and one that changes while it is read is an error.

import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  type DirectoryNode,
  type FileContent,
  type FileNode,
  type Leaf,
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  sortedNames,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import {
  objectPath,
  type VerityAlgorithm,
  VerityHasher,
} from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, pread } from "../../shared/sys/file.ts";
import { readlinkat } from "../../shared/sys/link.ts";
import { type FileStat, fstat, fstatat } from "../../shared/sys/stat.ts";
import { lgetxattr, llistxattr } from "../../shared/sys/xattr.ts";
import type { ScanOptions } from "./directory-scan.ts";
import { changedError, checkUnchanged } from "./hash-task.ts";

const MAX_INLINE_BYTES = 64;
const BUFFER_BYTES = 1 << 20;

export interface TreeScanOptions extends Pick<ScanOptions, "xattrs" | "skipDevices" | "useEpoch"> {
  readonly algorithm: VerityAlgorithm;
  /** Called once for each file whose content is outside the image. */
  readonly onContent?: (file: Fd, digest: string, sizeBytes: number) => void;
}

interface Scan {
  readonly options: TreeScanOptions;
  readonly buffer: Uint8Array;
  /** By device and inode. */
  readonly leaves: Map<string, Leaf>;
}

/** The tree below `path`, which is not followed when it is a symlink. */
export function scanTree(path: string, options: TreeScanOptions): DirectoryNode {
  using fd = openDirectory(null, path);
  const root = scanOpen({ options, buffer: new Uint8Array(BUFFER_BYTES), leaves: new Map() }, fd);
  nameHomes(root);
  return root;
}

/** The first name, depth-first in byte order, carries a file with several; composefs-rs does the same. */
function nameHomes(directory: DirectoryNode): void {
  for (const name of sortedNames(directory)) {
    const node = directory.entries.get(name)!;
    if (node.kind === "directory") nameHomes(node);
    else if (node.nlink > 1) node.home ??= { directory, name };
  }
}

function scanOpen(scan: Scan, fd: Fd): DirectoryNode {
  const metadata = metadataOf(scan, fstat(fd), xattrsOf(scan, fd, "."));
  const node: DirectoryNode = { kind: "directory", ...metadata, entries: new Map() };
  for (const { name } of readDirectory(fd)) {
    const child = scanEntry(scan, fd, name);
    if (child !== null) node.entries.set(bytesToByteString(name), child);
  }
  return node;
}

function scanEntry(scan: Scan, parent: Fd, name: Uint8Array): TreeNode | null {
  const stat = fstatat(parent, name);
  const type = stat.mode & S_IFMT;
  if (type === S_IFDIR) {
    using fd = openDirectory(parent, name);
    return scanOpen(scan, fd);
  }
  const isDevice = type === S_IFCHR || type === S_IFBLK;
  if (isDevice && scan.options.skipDevices) return null;
  // A whiteout stands for no file, so it cannot be the same one twice.
  const isWhiteout = type === S_IFCHR && stat.rdev === 0;
  const key = `${stat.devMajor}:${stat.devMinor}:${stat.ino}`;
  const known = isWhiteout ? undefined : scan.leaves.get(key);
  if (known !== undefined) {
    known.nlink += 1;
    return known;
  }
  const leaf =
    type === S_IFREG ? scanFile(scan, parent, name) : scanOther(scan, parent, name, stat);
  scan.leaves.set(key, leaf);
  return leaf;
}

/** Symlinks, devices, FIFOs and sockets: nothing that could be opened. */
function scanOther(scan: Scan, parent: Fd, name: Uint8Array, stat: FileStat): Leaf {
  const type = stat.mode & S_IFMT;
  const xattrs = xattrsOf(scan, parent, bytesToByteString(name));
  const metadata = { ...metadataOf(scan, stat, xattrs), nlink: 1 };
  if (type === S_IFLNK) {
    return { kind: "symlink", ...metadata, target: bytesToByteString(readlinkat(parent, name)) };
  }
  const isDevice = type === S_IFCHR || type === S_IFBLK;
  return { kind: "special", ...metadata, rdev: isDevice ? stat.rdev : 0 };
}

function scanFile(scan: Scan, parent: Fd, name: Uint8Array): FileNode {
  // O_NONBLOCK: a FIFO that took the name meanwhile must not hang us.
  using fd = openat(parent, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  const stat = fstat(fd);
  if ((stat.mode & S_IFMT) !== S_IFREG) throw changedError(fd);
  const xattrs = xattrsOf(scan, parent, bytesToByteString(name));
  const content = readContent(scan, fd, stat.sizeBytes);
  checkUnchanged(fd, stat);
  return { kind: "file", ...metadataOf(scan, stat, xattrs), nlink: 1, content };
}

function readContent({ options, buffer }: Scan, fd: Fd, sizeBytes: number): FileContent {
  if (sizeBytes <= MAX_INLINE_BYTES) {
    const count = pread(fd, buffer.subarray(0, MAX_INLINE_BYTES + 1), 0);
    if (count !== sizeBytes) throw changedError(fd);
    return { kind: "inline", bytes: buffer.slice(0, count) };
  }
  const hasher = new VerityHasher(options.algorithm);
  for (let offset = 0; ; ) {
    const count = pread(fd, buffer, offset);
    if (count === 0) break;
    hasher.update(buffer.subarray(0, count));
    offset += count;
  }
  const digest = hasher.digestHex();
  options.onContent?.(fd, digest, sizeBytes);
  return { kind: "external", sizeBytes, digest, payload: objectPath(digest) };
}

function metadataOf({ options }: Scan, stat: FileStat, xattrs: Xattrs) {
  const { mode, uid, gid } = stat;
  const mtimeSec = options.useEpoch ? 0 : stat.mtimeSec;
  const mtimeNsec = options.useEpoch ? 0 : stat.mtimeNsec;
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

/** The xattr calls take paths only. */
function xattrsOf({ options }: Scan, directory: Fd, name: ByteString): Xattrs {
  if (options.xattrs === "none") return NO_XATTRS;
  const path = byteStringToBytes(`/proc/self/fd/${directory.number}/${name}`);
  const names = llistxattr(path).filter(
    (each) => options.xattrs === "all" || each.startsWith("user."),
  );
  if (names.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const each of names) {
    const value = lgetxattr(path, each);
    if (value !== null) xattrs.set(each, value);
  }
  return xattrs;
}
