// Paths on their way into the kernel (NUL-terminated) and into messages.

import { syscallError } from "./errno.ts";
import { type Dir, dirNumber, type Fd, type Path } from "./fd.ts";
import { attempt } from "./libc.ts";

const EINVAL = 22;

/** `text` with a terminating NUL; a NUL inside would silently name another file, so it is refused. */
export function cstring(text: Path): Uint8Array {
  const bytes =
    typeof text === "string" ? Buffer.from(`${text}\0`, "utf8") : Buffer.concat([text, NUL]);
  if (bytes.indexOf(0) !== bytes.length - 1) {
    throw syscallError("path", EINVAL, { path: pathText(text) }, "it contains a NUL byte");
  }
  return bytes;
}
const NUL = new Uint8Array(1);

function pathText(path: Path): string {
  return typeof path === "string" ? path : Buffer.from(path).toString("utf8");
}

/** The path for a message: what the directory is called now, then `path`. */
function describePath(dir: Dir, path: Path): string {
  const text = pathText(path);
  if (dir === null || text.startsWith("/")) return text;
  const parent = describeFd(dir);
  return text === "" ? parent : `${parent}/${text}`;
}

/** The name the kernel knows `fd` by, or "file descriptor N" without /proc. */
export function describeFd(fd: Fd): string {
  const target = new Uint8Array(4096);
  const link = cstring(`/proc/self/fd/${fd.number}`);
  const length = attempt("readlinkat", dirNumber(null), link, target, target.length);
  if (length < 0) return `file descriptor ${fd.number}`;
  return Buffer.from(target.subarray(0, length)).toString("utf8");
}

/** Passes a good `result` on; turns a negative errno into a SyscallError about `path` below `dir`. */
export function checkPath(call: string, result: number, dir: Dir, path: Path): number {
  if (result >= 0) return result;
  throw syscallError(call, -result, { path: describePath(dir, path) });
}

/** As `checkPath`, for calls that work on an open file. */
export function checkFd(call: string, result: number, fd: Fd): number {
  if (result >= 0) return result;
  throw syscallError(call, -result, { path: describeFd(fd) });
}

/** As `checkPath`, for calls with an old and a new name. */
export function checkPair(
  call: string,
  result: number,
  from: readonly [Dir, Path],
  to: readonly [Dir, Path],
): number {
  if (result >= 0) return result;
  const target = describePath(...to);
  throw syscallError(call, -result, { path: describePath(...from), target }, `to "${target}"`);
}
