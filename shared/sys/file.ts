// Opening, reading and writing files. Every descriptor is close-on-exec.

import { FormatError } from "../error.ts";
import { S_IFMT, S_IFREG } from "../format/tree/node.ts";
import { LOCK, O } from "./constants.ts";
import { ERRNO } from "./errno.ts";
import { type Dir, dirNumber, Fd, type Path } from "./fd.ts";
import { attempt } from "./libc.ts";
import { checkFd, checkPath, cstring, describeFd } from "./path.ts";
import { fstat } from "./stat.ts";

/** openat(2). `mode` counts for CREAT and TMPFILE and is subject to the umask. */
export function openat(dir: Dir, path: Path, flags: number, mode = 0): Fd {
  const result = attempt("openat", dirNumber(dir), cstring(path), flags | O.CLOEXEC, mode);
  return new Fd(checkPath("openat", result, dir, path));
}

/** As `openat`, but null when nothing has that name (ENOENT). */
export function openatIfExists(dir: Dir, path: Path, flags: number): Fd | null {
  const result = attempt("openat", dirNumber(dir), cstring(path), flags | O.CLOEXEC, 0);
  if (result === -ERRNO.get("ENOENT")!) return null;
  return new Fd(checkPath("openat", result, dir, path));
}

/** A new read-only description of the same file, even of one without a name; needs /proc. */
export function reopenReadOnly(fd: Fd): Fd {
  return openat(null, `/proc/self/fd/${fd.number}`, O.RDONLY);
}

/** dup3(2): `target` keeps its number and is the description of `source` from now on. */
export function replaceDescription(target: Fd, source: Fd): void {
  checkFd("dup3", attempt("dup3", source.number, target.number, O.CLOEXEC), source);
}

/**
 * Opens a regular file for reading; null when something else lies there, which is then not opened at all: to open
 * a device can have consequences (a watchdog), a FIFO waits. `flags`: O.NOFOLLOW or 0. Needs /proc.
 */
export function openRegularFile(dir: Dir, path: Path, flags = 0): Fd | null {
  using found = openat(dir, path, O.PATH | flags);
  return (fstat(found).mode & S_IFMT) === S_IFREG ? reopenReadOnly(found) : null;
}

/** read(2): bytes read, 0 at the end. */
export function read(fd: Fd, buffer: Uint8Array): number {
  return checkFd("read", attempt("read", fd.number, buffer, buffer.length), fd);
}

/** pread(2): bytes read at `offset`, 0 at the end. */
export function pread(fd: Fd, buffer: Uint8Array, offset: number): number {
  return checkFd("pread", attempt("pread", fd.number, buffer, buffer.length, offset), fd);
}

/** write(2) until everything is written. */
export function writeAll(fd: Fd, bytes: Uint8Array): void {
  let rest = bytes;
  while (rest.length > 0) {
    const count = checkFd("write", attempt("write", fd.number, rest, rest.length), fd);
    rest = rest.subarray(count);
  }
}

/** pwrite(2) until everything is written; the current position stays. */
export function pwriteAll(fd: Fd, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    const rest = done === 0 ? bytes : bytes.subarray(done);
    done += checkFd("pwrite", attempt("pwrite", fd.number, rest, rest.length, offset + done), fd);
  }
}

/** Reads from the current position to the end; FormatError("limit") beyond `limitBytes`. */
export function readAll(fd: Fd, limitBytes: number): Uint8Array {
  const expected = Math.min(fstat(fd).sizeBytes, limitBytes);
  // One byte more than expected, so that the end is seen without growing.
  let buffer = new Uint8Array(Math.max(expected + 1, 4096));
  let length = 0;
  for (;;) {
    const count = read(fd, buffer.subarray(length));
    if (count === 0) return buffer.subarray(0, length);
    length += count;
    if (length > limitBytes) {
      throw new FormatError("limit", `"${describeFd(fd)}" is larger than ${limitBytes} bytes`, {
        path: describeFd(fd),
      });
    }
    if (length === buffer.length) {
      const larger = new Uint8Array(buffer.length * 2);
      larger.set(buffer);
      buffer = larger;
    }
  }
}

export function ftruncate(fd: Fd, sizeBytes: number): void {
  checkFd("ftruncate", attempt("ftruncate", fd.number, sizeBytes), fd);
}

/** fsync(2): content and metadata of this file or directory are on the disk afterwards. */
export function fsync(fd: Fd): void {
  checkFd("fsync", attempt("fsync", fd.number), fd);
}

/** syncfs(2): everything of the file system that holds `fd` is written. */
export function syncfs(fd: Fd): void {
  checkFd("syncfs", attempt("syncfs", fd.number), fd);
}

/** flock(2). False only when `wait` is false and somebody else holds a conflicting lock. */
export function flock(
  fd: Fd,
  operation: "shared" | "exclusive" | "unlock",
  options: { readonly wait: boolean },
): boolean {
  const flag = { shared: LOCK.SH, exclusive: LOCK.EX, unlock: LOCK.UN }[operation];
  const result = attempt("flock", fd.number, options.wait ? flag : flag | LOCK.NB);
  if (result === -ERRNO.get("EAGAIN")!) return false;
  checkFd("flock", result, fd);
  return true;
}
