// Locks that belong to an open file description (fcntl(2), F_OFD_SETLK). ostree locks its repositories and the
// system root this way; flock(2) is another kind, which it neither takes nor sees.

import { bytes, struct, u16, u64, zeros } from "../bytes/layout.ts";
import { ERRNO } from "./errno.ts";
import type { Fd } from "./fd.ts";
import { attempt } from "./libc.ts";
import { checkFd } from "./path.ts";

/** struct flock of 64-bit machines; from 0 for length 0 is the whole file. */
export const FlockRange = struct("flock", 32, {
  type: u16,
  whence: u16,
  pad: zeros(4),
  start: u64,
  length: u64,
  pid: bytes(8), // 0, and padding
});
export const F_OFD = { SETLK: 37, SETLKW: 38 } as const;
export const F_LOCK = { RDLCK: 0, WRLCK: 1, UNLCK: 2 } as const;

/**
 * Locks the whole file; the lock goes when the last descriptor of this opening is closed. "shared" needs it open
 * for reading, "exclusive" for writing. False only when `wait` is false and somebody else holds a
 * conflicting lock.
 */
export function lockFile(
  fd: Fd,
  kind: "shared" | "exclusive",
  options: { readonly wait: boolean },
): boolean {
  const range = FlockRange.encode({ type: kind === "shared" ? F_LOCK.RDLCK : F_LOCK.WRLCK });
  const result = attempt("fcntl", fd.number, options.wait ? F_OFD.SETLKW : F_OFD.SETLK, range);
  if (result === -ERRNO.get("EAGAIN")! || result === -ERRNO.get("EACCES")!) return false;
  checkFd("fcntl", result, fd);
  return true;
}
