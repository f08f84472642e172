// Reading an /etc from disk into the tree that the merge works on.
//
// The live /etc may change while it is read: an entry that vanished is taken as absent. What is
// mounted below it (a bind-mounted resolv.conf, systemd's transient machine-id) is not part of it:
// reading starts from a private clone of its mount, without the mounts inside, where the kernel
// grants that. Sockets belong to running programs and are skipped; FIFOs and devices are kept.

import { FormatError, isErrno } from "../../shared/error.ts";
import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  type DirectoryNode,
  type FileNode,
  type Leaf,
  NO_XATTRS,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import { type VerityAlgorithm, VerityHasher } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { copyFileContents } from "../../shared/sys/copy.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import { ERRNO, syscallError } from "../../shared/sys/errno.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openRegularFile, read } from "../../shared/sys/file.ts";
import { readlinkat } from "../../shared/sys/link.ts";
import { openTree } from "../../shared/sys/mount.ts";
import { describeFd } from "../../shared/sys/path.ts";
import { type FileStat, fstat, fstatat } from "../../shared/sys/stat.ts";
import { lgetxattr, llistxattr } from "../../shared/sys/xattr.ts";

const MAX_DEPTH = 256;
const MAX_ENTRIES = 1_000_000;
const CHUNK_BYTES = 1 << 20;
/** In front of the names of what `etc reset` is still putting together; such names are not part of /etc. */
export const PARTIAL_NAME = ".bootc-partial-";
/** Bound to an inode or to one overlay mount: without meaning in a copy. */
const FOREIGN_XATTR = /^(?:(?:trusted|user)\.overlay\.|security\.evm$)/;

/** Opens the directory `path` without the mounts below it. */
export function openEtc(path: string): Fd {
  try {
    using clone = openTree(null, path, { clone: true });
    return openDirectory(clone, ".");
  } catch (error) {
    // No privilege, an old kernel, or a mount that must not be cloned.
    if (!isErrno(error, "EPERM", "ENOSYS", "EINVAL")) throw error;
    return openat(null, path, O.RDONLY | O.DIRECTORY);
  }
}

/** How often a file that is being written to is copied again before what there is must do. */
const COPIES = 5;

/** Copies all of `input`, which belongs to a running system; again when it changed meanwhile. */
export function copySteadily(input: Fd, output: Fd): void {
  for (let copy = 1; ; copy++) {
    const before = fstat(input);
    // Every copy begins with an empty file, at its beginning.
    using target = openat(null, `/proc/self/fd/${output.number}`, O.WRONLY | O.TRUNC);
    const { sizeBytes } = copyFileContents(input, target);
    const after = fstat(input);
    const isSteady =
      before.mtimeSec === after.mtimeSec &&
      before.mtimeNsec === after.mtimeNsec &&
      after.sizeBytes === sizeBytes;
    if (isSteady || copy === COPIES) return;
  }
}

/** Opens the regular file at `path` below `root`; ELOOP or ENOTDIR when something else lies there by now. */
export function openBeneath(root: Fd, path: ByteString): Fd {
  const slash = path.indexOf("/");
  if (slash < 0) return openFile(root, byteStringToBytes(path));
  using directory = openDirectory(root, byteStringToBytes(path.slice(0, slash)));
  return openBeneath(directory, path.slice(slash + 1));
}

/** What has become a symlink, FIFO or device since it was listed is not opened. */
function openFile(dir: Fd, name: Uint8Array): Fd {
  const fd = openRegularFile(dir, name, O.NOFOLLOW);
  if (fd !== null) return fd;
  const path = `${describeFd(dir)}/${Buffer.from(name).toString()}`;
  throw syscallError("openat", ERRNO.get("ELOOP")!, { path }, "it is no regular file any more");
}

interface Reading {
  readonly algorithm: VerityAlgorithm;
  readonly chunk: Uint8Array;
  /** Leaves with several names, by device and inode. */
  readonly linked: Map<string, Leaf>;
  entries: number;
}

/**
 * The tree below `root`, with fs-verity digests for file contents. FormatError("limit") beyond 256
 * levels or a million entries; ENOENT, ENOTDIR and ELOOP when a directory changed under the reader.
 */
export function readEtcTree(root: Fd, algorithm: VerityAlgorithm): DirectoryNode {
  const chunk = new Uint8Array(CHUNK_BYTES);
  return readTree({ algorithm, chunk, linked: new Map(), entries: 0 }, root, 0);
}

function readTree(reading: Reading, fd: Fd, depth: number): DirectoryNode {
  const entries = new Map<ByteString, TreeNode>();
  for (const { name } of readDirectory(fd)) {
    if (isPartial(name)) continue;
    if (++reading.entries > MAX_ENTRIES || depth > MAX_DEPTH) throw tooLarge();
    try {
      const node = readNode(reading, fd, name, depth);
      if (node !== null) entries.set(bytesToByteString(name), node);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }
  return { kind: "directory", ...metadata(fstat(fd), entryPath(fd, DOT)), entries };
}
const DOT = Buffer.from(".");
const PARTIAL_BYTES = Buffer.from(PARTIAL_NAME);

export function isPartial(name: Uint8Array): boolean {
  return name[0] === PARTIAL_BYTES[0] && Buffer.from(name).indexOf(PARTIAL_BYTES) === 0;
}

function readNode(reading: Reading, dir: Fd, name: Uint8Array, depth: number): TreeNode | null {
  const stat = fstatat(dir, name, { follow: false });
  const type = stat.mode & S_IFMT;
  if (type === S_IFSOCK) return null;
  if (type === S_IFDIR) {
    using fd = openDirectory(dir, name);
    return readTree(reading, fd, depth + 1);
  }
  const inode = `${stat.devMajor}:${stat.devMinor}:${stat.ino}`;
  const known = reading.linked.get(inode);
  if (known !== undefined) return known;
  const leaf = type === S_IFREG ? readFile(reading, dir, name) : readOther(stat, dir, name);
  if (stat.nlink > 1) reading.linked.set(inode, leaf);
  return leaf;
}

function readFile(reading: Reading, dir: Fd, name: Uint8Array): FileNode {
  using fd = openFile(dir, name);
  const stat = fstat(fd);
  const hasher = new VerityHasher(reading.algorithm);
  let sizeBytes = 0;
  for (let count = -1; count !== 0; sizeBytes += count) {
    count = read(fd, reading.chunk);
    hasher.update(reading.chunk.subarray(0, count));
  }
  const content = { kind: "external" as const, sizeBytes, digest: hasher.digestHex() };
  return { kind: "file", ...metadata(stat, entryPath(dir, name)), nlink: stat.nlink, content };
}

function readOther(stat: FileStat, dir: Fd, name: Uint8Array): Leaf {
  const common = { ...metadata(stat, entryPath(dir, name)), nlink: stat.nlink };
  if ((stat.mode & S_IFMT) !== S_IFLNK) return { kind: "special", ...common, rdev: stat.rdev };
  return { kind: "symlink", ...common, target: bytesToByteString(readlinkat(dir, name)) };
}

function metadata({ mode, uid, gid, mtimeSec, mtimeNsec }: FileStat, path: Uint8Array) {
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs: readXattrs(path) };
}

function readXattrs(path: Uint8Array): Xattrs {
  const names = llistxattr(path).filter((name) => !FOREIGN_XATTR.test(name));
  if (names.length === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const name of names.sort()) {
    const value = lgetxattr(path, name);
    if (value !== null) xattrs.set(name, value);
  }
  return xattrs;
}

/** A path for the calls on names that take no directory descriptor. */
export function entryPath(dir: Fd, name: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${dir.number}/`), name]);
}

function tooLarge(): FormatError {
  const what = `more than ${MAX_ENTRIES} entries or ${MAX_DEPTH} levels`;
  return new FormatError("limit", `This /etc has ${what}`, { format: "etc" });
}
