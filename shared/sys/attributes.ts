// Owner, mode and times. None of these follows a symlink at the end of the path.

import { struct, u64, u64n } from "../bytes/layout.ts";
import { AT, O } from "./constants.ts";
import { type Dir, dirNumber, type Fd, type Path } from "./fd.ts";
import { openat } from "./file.ts";
import { attempt } from "./libc.ts";
import { checkFd, checkPath, cstring } from "./path.ts";

/** chmod(2) of an open file; `mode` is taken exactly, without the umask. */
export function fchmod(fd: Fd, mode: number): void {
  checkFd("fchmod", attempt("fchmod", fd.number, mode), fd);
}

/** chmod(2) of a name; a symlink has no mode of its own and is refused with EOPNOTSUPP. */
export function fchmodat(dir: Dir, path: Path, mode: number): void {
  using fd = openat(dir, path, O.PATH | O.NOFOLLOW);
  // fchmod(2) refuses O_PATH descriptors; the file behind this name cannot be exchanged any more.
  const link = cstring(`/proc/self/fd/${fd.number}`);
  const result = attempt("fchmodat", AT.FDCWD, link, mode, 0);
  checkPath("fchmodat", result, dir, path);
}

/** chown(2) of a name, also of a symlink itself. Clears set-id bits: set the mode afterwards. */
export function fchownat(dir: Dir, path: Path, uid: number, gid: number): void {
  const result = attempt("fchownat", dirNumber(dir), cstring(path), uid, gid, AT.SYMLINK_NOFOLLOW);
  checkPath("fchownat", result, dir, path);
}

export const Timespec = struct("timespec", 16, { sec: u64, nsec: u64n });
/** tv_nsec of a time that stays as it is. */
const UTIME_OMIT = 0x3ffffffe;

/** Sets the modification time of a name, also of a symlink itself; the access time stays. */
export function utimensat(dir: Dir, path: Path, mtimeSec: number, mtimeNsec: number): void {
  const times = new Uint8Array(2 * Timespec.sizeBytes);
  Timespec.encodeInto(times, 0, { nsec: UTIME_OMIT });
  Timespec.encodeInto(times, Timespec.sizeBytes, { sec: BigInt(mtimeSec), nsec: mtimeNsec });
  const result = attempt("utimensat", dirNumber(dir), cstring(path), times, AT.SYMLINK_NOFOLLOW);
  checkPath("utimensat", result, dir, path);
}
