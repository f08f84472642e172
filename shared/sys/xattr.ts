// Extended attributes. Names are byte strings as in the file tree. Calls with a path never follow a
// symlink at its end and know no directory to start from (use /proc/self/fd/N/name below one).

import { type ByteString, byteStringToBytes, bytesToByteString } from "../format/tree/node.ts";
import { ERRNO } from "./errno.ts";
import type { Fd, Path } from "./fd.ts";
import { attempt } from "./libc.ts";
import { checkFd, checkPath, cstring } from "./path.ts";

/** The kernel's limits for one value and for one list of names. */
const MAX_BYTES = 65_536;
const scratch = new Uint8Array(MAX_BYTES);

/** The value, or null when there is no such attribute (or the file system has none). */
export function lgetxattr(path: Path, name: ByteString): Uint8Array | null {
  const result = attempt("lgetxattr", cstring(path), nameBytes(name), scratch, MAX_BYTES);
  if (isAbsent(result)) return null;
  return scratch.slice(0, checkPath("lgetxattr", result, null, path));
}

/** As `lgetxattr`, of an open file (not of one opened with O.PATH). */
export function fgetxattr(fd: Fd, name: ByteString): Uint8Array | null {
  const result = attempt("fgetxattr", fd.number, nameBytes(name), scratch, MAX_BYTES);
  if (isAbsent(result)) return null;
  return scratch.slice(0, checkFd("fgetxattr", result, fd));
}

/** Creates or replaces. */
export function lsetxattr(path: Path, name: ByteString, value: Uint8Array): void {
  const result = attempt("lsetxattr", cstring(path), nameBytes(name), value, value.length, 0);
  checkPath("lsetxattr", result, null, path);
}

/** A missing one is fine. */
export function lremovexattr(path: Path, name: ByteString): void {
  const result = attempt("lremovexattr", cstring(path), nameBytes(name));
  if (!isAbsent(result)) checkPath("lremovexattr", result, null, path);
}

/** Names, unsorted; empty where the file system has no attributes. */
export function llistxattr(path: Path): ByteString[] {
  const result = attempt("llistxattr", cstring(path), scratch, MAX_BYTES);
  if (isAbsent(result)) return [];
  return splitNames(checkPath("llistxattr", result, null, path));
}

/** As `llistxattr`, of an open file (not of one opened with O.PATH). */
export function flistxattr(fd: Fd): ByteString[] {
  const result = attempt("flistxattr", fd.number, scratch, MAX_BYTES);
  if (isAbsent(result)) return [];
  return splitNames(checkFd("flistxattr", result, fd));
}

function nameBytes(name: ByteString): Uint8Array {
  return cstring(byteStringToBytes(name));
}

function isAbsent(result: number): boolean {
  return result === -ERRNO.get("ENODATA")! || result === -ERRNO.get("EOPNOTSUPP")!;
}

function splitNames(length: number): ByteString[] {
  if (length === 0) return [];
  return bytesToByteString(scratch.subarray(0, length)).split("\0").slice(0, -1);
}
