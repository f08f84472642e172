// Names: links, symlinks, renames, device nodes.

import { AT, RENAME } from "./constants.ts";
import { ERRNO } from "./errno.ts";
import { type Dir, dirNumber, type Fd, type Path } from "./fd.ts";
import { attempt, attemptSyscall } from "./libc.ts";
import { checkPair, checkPath, cstring } from "./path.ts";

export function unlinkat(dir: Dir, path: Path): void {
  checkPath("unlinkat", attempt("unlinkat", dirNumber(dir), cstring(path), 0), dir, path);
}

/** Removes the name if there is one; true when it was there. */
export function unlinkatIfExists(dir: Dir, path: Path): boolean {
  const result = attempt("unlinkat", dirNumber(dir), cstring(path), 0);
  if (result === -ERRNO.get("ENOENT")!) return false;
  checkPath("unlinkat", result, dir, path);
  return true;
}

/** renameat2(2); `flags` from RENAME. */
export function renameat2(oldDir: Dir, oldPath: Path, newDir: Dir, newPath: Path, flags = 0): void {
  const result = attemptSyscall(
    "renameat2",
    dirNumber(oldDir),
    cstring(oldPath),
    dirNumber(newDir),
    cstring(newPath),
    flags,
  );
  checkPair(
    flags === RENAME.EXCHANGE ? "rename (exchange)" : "rename",
    result,
    [oldDir, oldPath],
    [newDir, newPath],
  );
}

/** The link at `path` says `target`, which is stored as it is. */
export function symlinkat(target: Path, dir: Dir, path: Path): void {
  const result = attempt("symlinkat", cstring(target), dirNumber(dir), cstring(path));
  checkPath("symlinkat", result, dir, path);
}

/** What a symlink says; EINVAL when it is none. */
export function readlinkat(dir: Dir, path: Path): Uint8Array {
  const buffer = new Uint8Array(4096); // no Linux file system stores longer targets
  const result = attempt("readlinkat", dirNumber(dir), cstring(path), buffer, buffer.length);
  return buffer.slice(0, checkPath("readlinkat", result, dir, path));
}

export function linkat(oldDir: Dir, oldPath: Path, newDir: Dir, newPath: Path, flags = 0): void {
  const result = attempt(
    "linkat",
    dirNumber(oldDir),
    cstring(oldPath),
    dirNumber(newDir),
    cstring(newPath),
    flags,
  );
  checkPair("linkat", result, [oldDir, oldPath], [newDir, newPath]);
}

/** Gives an O.TMPFILE its name; needs /proc. EEXIST when the name is taken. */
export function linkFd(fd: Fd, dir: Dir, path: Path): void {
  checkPath("linkat", attemptLinkFd(fd, dir, path), dir, path);
}

/** As `linkFd`; false when the name is taken. */
export function linkFdIfFree(fd: Fd, dir: Dir, path: Path): boolean {
  const result = attemptLinkFd(fd, dir, path);
  if (result === -ERRNO.get("EEXIST")!) return false;
  checkPath("linkat", result, dir, path);
  return true;
}

function attemptLinkFd(fd: Fd, dir: Dir, path: Path): number {
  const source = cstring(`/proc/self/fd/${fd.number}`);
  return attempt("linkat", AT.FDCWD, source, dirNumber(dir), cstring(path), AT.SYMLINK_FOLLOW);
}

/** mknod(2): `mode` with type bits, `rdev` as in `FileStat`. */
export function mknodat(dir: Dir, path: Path, mode: number, rdev: number): void {
  const result = attemptSyscall("mknodat", dirNumber(dir), cstring(path), mode, rdev);
  checkPath("mknodat", result, dir, path);
}
