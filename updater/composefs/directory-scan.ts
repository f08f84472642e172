// A directory as a file tree, the way C's mkcomposefs sees it (composefs.md 2.9): every name is a file
// of its own (hard links are broken, link count 1), up to 64 bytes are stored inline, larger files by
// their fs-verity digest.
//
// A file is opened before it is looked at, and one that changes while it is read is an error: the image
// must not promise a digest of content that nobody ever had.

import { StateError } from "../../shared/error.ts";
import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  type DirectoryNode,
  type FileContent,
  type Leaf,
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, readAll } from "../../shared/sys/file.ts";
import { readlinkat } from "../../shared/sys/link.ts";
import { describeFd } from "../../shared/sys/path.ts";
import { type FileStat, fstat, fstatat } from "../../shared/sys/stat.ts";
import { lgetxattr, llistxattr } from "../../shared/sys/xattr.ts";
import { type DigestStore, storeFile } from "./digest-store.ts";
import { createFileMeter, type FileMeter, measureFile } from "./file-digest.ts";

const MAX_INLINE_BYTES = 64;

export interface ScanOptions {
  readonly xattrs: "all" | "user" | "none";
  /** Leave out character and block devices, and with them whiteouts. */
  readonly skipDevices: boolean;
  /** All times are 0.0. */
  readonly useEpoch: boolean;
  /** Where the content of large files is copied to. */
  readonly store: DigestStore | null;
}

interface Scan {
  readonly options: ScanOptions;
  readonly meter: FileMeter;
  /** Digests of files with several names, by device and inode. */
  readonly linked: Map<string, string>;
}

/** The tree below `path`, which is not followed when it is a symlink. */
export function scanDirectory(path: string, options: ScanOptions): DirectoryNode {
  using fd = openDirectory(null, path);
  const scan: Scan = { options, meter: createFileMeter("sha256"), linked: new Map() };
  return scanOpen(scan, fd);
}

function scanOpen(scan: Scan, fd: Fd): DirectoryNode {
  const { mode, ...metadata } = metadataOf(scan, fstat(fd), xattrsOf(scan, pathOf(fd, ".")));
  const node: DirectoryNode = { kind: "directory", mode, ...metadata, entries: new Map() };
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
  const xattrs = xattrsOf(scan, pathOf(parent, bytesToByteString(name)));
  if (type === S_IFREG) return scanFile(scan, parent, name, xattrs);
  const metadata = { ...metadataOf(scan, stat, xattrs), nlink: 1 };
  if (type === S_IFLNK) {
    const target = bytesToByteString(readlinkat(parent, name));
    return { kind: "symlink", ...metadata, target };
  }
  return { kind: "special", ...metadata, rdev: isDevice ? stat.rdev : 0 };
}

function scanFile(scan: Scan, parent: Fd, name: Uint8Array, xattrs: Xattrs): Leaf {
  // O_NONBLOCK: a FIFO that took the name meanwhile must not hang us.
  using fd = openat(parent, name, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  const stat = fstat(fd);
  if ((stat.mode & S_IFMT) !== S_IFREG) throw changed(fd);
  const content = contentOf(scan, fd, stat);
  const after = fstat(fd);
  const isSame =
    after.sizeBytes === stat.sizeBytes &&
    after.mtimeSec === stat.mtimeSec &&
    after.mtimeNsec === stat.mtimeNsec;
  if (!isSame) throw changed(fd);
  return { kind: "file", ...metadataOf(scan, stat, xattrs), nlink: 1, content };
}

function contentOf(scan: Scan, fd: Fd, stat: FileStat): FileContent {
  const { sizeBytes } = stat;
  if (sizeBytes <= MAX_INLINE_BYTES) {
    const bytes = readAll(fd, MAX_INLINE_BYTES);
    if (bytes.length !== sizeBytes) throw changed(fd);
    return { kind: "inline", bytes };
  }
  const { devMajor, devMinor, ino } = stat;
  const key = stat.nlink > 1 ? `${devMajor}:${devMinor}:${ino}` : null;
  let digest = key === null ? undefined : scan.linked.get(key);
  if (digest === undefined) {
    const measured = measureFile(scan.meter, fd);
    if (measured.sizeBytes !== null && measured.sizeBytes !== sizeBytes) throw changed(fd);
    digest = measured.digest;
    if (scan.options.store !== null) storeFile(scan.options.store, fd, digest, sizeBytes);
    if (key !== null) scan.linked.set(key, digest);
  }
  return { kind: "external", sizeBytes, digest, payload: objectPath(digest) };
}

function changed(fd: Fd): StateError {
  return new StateError("conflict", `"${describeFd(fd)}" was changed while it was read; try again`);
}

function metadataOf({ options }: Scan, stat: FileStat, xattrs: Xattrs) {
  const { mode, uid, gid } = stat;
  const mtimeSec = options.useEpoch ? 0 : stat.mtimeSec;
  const mtimeNsec = options.useEpoch ? 0 : stat.mtimeNsec;
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

/** The xattr calls take paths only. */
function pathOf(directory: Fd, name: ByteString): Uint8Array {
  return byteStringToBytes(`/proc/self/fd/${directory.number}/${name}`);
}

function xattrsOf({ options }: Scan, path: Uint8Array): Xattrs {
  if (options.xattrs === "none") return NO_XATTRS;
  const names = llistxattr(path).filter(
    (name) => options.xattrs === "all" || name.startsWith("user."),
  );
  if (names.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const name of names) {
    const value = lgetxattr(path, name);
    if (value !== null) xattrs.set(name, value);
  }
  return xattrs;
}
