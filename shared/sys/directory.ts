// Directories: making, listing, and removing whole trees without following links or leaving the
// file system.

import { bytes, struct, u8, u16 } from "../bytes/layout.ts";
import { AT, O } from "./constants.ts";
import { ERRNO, syscallError } from "./errno.ts";
import { type Dir, dirNumber, Fd, type Path } from "./fd.ts";
import { openat } from "./file.ts";
import { attempt, attemptSyscall } from "./libc.ts";
import { unlinkat } from "./link.ts";
import { checkFd, checkPath, cstring, describeFd } from "./path.ts";
import { fstat } from "./stat.ts";

export interface DirEntry {
  readonly name: Uint8Array;
  readonly type:
    | "file"
    | "directory"
    | "symlink"
    | "char"
    | "block"
    | "fifo"
    | "socket"
    | "unknown";
}

export function mkdirat(dir: Dir, path: Path, mode: number): void {
  checkPath("mkdirat", attempt("mkdirat", dirNumber(dir), cstring(path), mode), dir, path);
}

/** Makes the directory unless something with that name exists; true when it was made. */
export function mkdiratIfMissing(dir: Dir, path: Path, mode: number): boolean {
  const result = attempt("mkdirat", dirNumber(dir), cstring(path), mode);
  if (result === -ERRNO.get("EEXIST")!) return false;
  checkPath("mkdirat", result, dir, path);
  return true;
}

export function rmdirat(dir: Dir, path: Path): void {
  const result = attempt("unlinkat", dirNumber(dir), cstring(path), AT.REMOVEDIR);
  checkPath("rmdir", result, dir, path);
}

/** struct linux_dirent64 up to its name. */
export const DirentHeader = struct("linux_dirent64", 19, {
  ino: bytes(8),
  offset: bytes(8),
  recordLength: u16,
  type: u8,
});
const DIRENT_TYPES = new Map<number, DirEntry["type"]>([
  [1, "fifo"],
  [2, "char"],
  [4, "directory"],
  [6, "block"],
  [8, "file"],
  [10, "symlink"],
  [12, "socket"],
]);
const BATCH_BYTES = 65_536;
const SEEK_SET = 0;
const batch = new Uint8Array(BATCH_BYTES);
const batchView = new DataView(batch.buffer);

/** All entries but "." and "..", in the file system's order. Always starts from the beginning. */
export function readDirectory(fd: Fd): DirEntry[] {
  checkFd("lseek", attempt("lseek", fd.number, 0, SEEK_SET), fd);
  const entries: DirEntry[] = [];
  for (;;) {
    const result = attemptSyscall("getdents64", fd.number, batch, batch.length);
    const length = checkFd("getdents64", result, fd);
    if (length === 0) return entries;
    decodeEntries(length, entries);
  }
}

function decodeEntries(length: number, entries: DirEntry[]): void {
  const { offsets, sizeBytes } = DirentHeader;
  for (let at = 0; at < length; ) {
    const end = at + batchView.getUint16(at + offsets.recordLength, true);
    const start = at + sizeBytes;
    const name = batch.slice(start, batch.indexOf(0, start));
    const isDot =
      name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
    const type = DIRENT_TYPES.get(batchView.getUint8(at + offsets.type)) ?? "unknown";
    if (!isDot) entries.push({ name, type });
    at = end;
  }
}

/**
 * rm -r: removes a file or a whole directory. Never follows a symlink, never enters a mount (EBUSY).
 * A missing name is fine.
 */
export function removeTree(dir: Dir, path: Path): void {
  const result = attempt("unlinkat", dirNumber(dir), cstring(path), 0);
  if (result >= 0 || result === -ERRNO.get("ENOENT")!) return;
  // Linux says EISDIR for directories, other file systems may say EPERM; opening tells.
  const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
  const opened = attempt("openat", dirNumber(dir), cstring(path), flags | O.CLOEXEC, 0);
  if (opened < 0) {
    checkPath("unlinkat", result === -ERRNO.get("EISDIR")! ? opened : result, dir, path);
  }
  using fd = new Fd(opened);
  if (fstat(fd).isMountRoot) {
    throw syscallError(
      "removeTree",
      ERRNO.get("EBUSY")!,
      { path: describeFd(fd) },
      "it is a mount",
    );
  }
  for (const entry of readDirectory(fd)) {
    if (entry.type === "directory" || entry.type === "unknown") removeTree(fd, entry.name);
    else unlinkat(fd, entry.name);
  }
  rmdirat(dir, path);
}

/** Opens a directory for reading its entries and as a starting point; never through a symlink. */
export function openDirectory(dir: Dir, path: Path): Fd {
  return openat(dir, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
}
