// What a file or file system is: statx(2) and fstatfs(2).
//
// The kernel structs are declared for their offsets; only the fields that are used are read, because
// a status call is made for every file of an update.

import { bytes, struct, u16, u32, u64, u64n } from "../bytes/layout.ts";
import { AT } from "./constants.ts";
import { ERRNO } from "./errno.ts";
import { type Dir, dirNumber, type Fd, type Path } from "./fd.ts";
import { attempt, attemptSyscall } from "./libc.ts";
import { checkFd, checkPath, cstring } from "./path.ts";

export interface FileStat {
  /** Full st_mode. */
  readonly mode: number;
  readonly sizeBytes: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  /** dev_t of a device node, low 32 bits, new encoding. */
  readonly rdev: number;
  readonly ino: number;
  readonly devMajor: number;
  readonly devMinor: number;
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
  /** Something is mounted here (also when the file system is the same). */
  readonly isMountRoot: boolean;
}

export const Statx = struct("statx", 256, {
  mask: u32,
  blockSize: u32,
  attributes: u64,
  nlink: u32,
  uid: u32,
  gid: u32,
  mode: u16,
  pad1: u16,
  ino: u64,
  size: u64,
  blocks: u64,
  attributesMask: u64,
  atime: bytes(16),
  btime: bytes(16),
  ctime: bytes(16),
  mtimeSec: u64,
  mtimeNsec: u32,
  mtimePad: u32,
  rdevMajor: u32,
  rdevMinor: u32,
  devMajor: u32,
  devMinor: u32,
  rest: bytes(112),
});
const STATX_BASIC_STATS = 0x7ff;
const STATX_ATTR_MOUNT_ROOT = 0x2000;

const buffer = new Uint8Array(Statx.sizeBytes);
const view = new DataView(buffer.buffer);
const EMPTY = cstring("");

/** Status of an open file (also one opened with O.PATH). */
export function fstat(fd: Fd): FileStat {
  const result = statx(fd.number, EMPTY, AT.EMPTY_PATH);
  checkFd("statx", result, fd);
  return decodeStatx();
}

/** Status of a name; a symlink at its end is followed only when `follow` is set. */
export function fstatat(
  dir: Dir,
  path: Path,
  options: { readonly follow?: boolean } = {},
): FileStat {
  const flags = (options.follow === true ? 0 : AT.SYMLINK_NOFOLLOW) | AT.NO_AUTOMOUNT;
  checkPath("statx", statx(dirNumber(dir), cstring(path), flags), dir, path);
  return decodeStatx();
}

/** As `fstatat` without following, but null when nothing has that name (ENOENT, ENOTDIR). */
export function fstatatIfExists(dir: Dir, path: Path): FileStat | null {
  const result = statx(dirNumber(dir), cstring(path), AT.SYMLINK_NOFOLLOW | AT.NO_AUTOMOUNT);
  if (result === -ERRNO.get("ENOENT")! || result === -ERRNO.get("ENOTDIR")!) return null;
  checkPath("statx", result, dir, path);
  return decodeStatx();
}

function statx(dir: number, path: Uint8Array, flags: number): number {
  return attemptSyscall("statx", dir, path, flags, STATX_BASIC_STATS, buffer);
}

function decodeStatx(): FileStat {
  const at = Statx.offsets;
  const u32At = (offset: number) => view.getUint32(offset, true);
  const u64At = (offset: number) => u32At(offset) + u32At(offset + 4) * 2 ** 32;
  return {
    mode: view.getUint16(at.mode, true),
    sizeBytes: u64At(at.size),
    uid: u32At(at.uid),
    gid: u32At(at.gid),
    nlink: u32At(at.nlink),
    rdev: encodeDevice(u32At(at.rdevMajor), u32At(at.rdevMinor)),
    ino: u64At(at.ino),
    devMajor: u32At(at.devMajor),
    devMinor: u32At(at.devMinor),
    mtimeSec: Number(view.getBigInt64(at.mtimeSec, true)),
    mtimeNsec: u32At(at.mtimeNsec),
    isMountRoot: (u32At(at.attributes) & STATX_ATTR_MOUNT_ROOT) !== 0,
  };
}

/** dev_t of a device: major in bits 8-19, minor in 0-7 and 20-31 (the kernel's new_encode_dev). */
export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export interface FsStat {
  /** FS_MAGIC. */
  readonly type: number;
  readonly blockSizeBytes: number;
  readonly blocks: number;
  /** Blocks free for ordinary users. */
  readonly blocksAvailable: number;
  /** Inodes; 0 where the file system does not count them. */
  readonly files: number;
  readonly filesFree: number;
  readonly readOnly: boolean;
}

/** struct statfs of 64-bit machines. */
export const Statfs = struct("statfs", 120, {
  type: u64n,
  blockSize: u64n,
  blocks: u64n,
  blocksFree: u64n,
  blocksAvailable: u64n,
  files: u64n,
  filesFree: u64n,
  fsid: u64,
  nameMax: u64n,
  fragmentSize: u64n,
  flags: u64n,
  spare: bytes(32),
});
const ST_RDONLY = 1;

/** fstatfs(2): room and kind of the file system that holds `fd`. */
export function fstatfs(fd: Fd): FsStat {
  const raw = new Uint8Array(Statfs.sizeBytes);
  checkFd("fstatfs", attempt("fstatfs", fd.number, raw), fd);
  const value = Statfs.decode(raw);
  return {
    type: value.type,
    // f_blocks counts in fragments where a file system has them (statvfs does the same).
    blockSizeBytes: value.fragmentSize === 0 ? value.blockSize : value.fragmentSize,
    blocks: value.blocks,
    blocksAvailable: value.blocksAvailable,
    files: value.files,
    filesFree: value.filesFree,
    readOnly: (value.flags & ST_RDONLY) !== 0,
  };
}
