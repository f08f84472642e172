// Removing trees in which somebody made files immutable or append-only (chattr +i, +a): root may not
// remove those either before the flag is gone. For what belongs to us alone; whoever set such a flag on a
// file in use wants it to stay.

import { isErrno } from "../error.ts";
import { IOCTL, O } from "./constants.ts";
import { openDirectory, readDirectory, removeTree } from "./directory.ts";
import type { Dir, Fd, Path } from "./fd.ts";
import { openat } from "./file.ts";
import { attempt } from "./libc.ts";

/** FS_IMMUTABLE_FL and FS_APPEND_FL (linux/fs.h). */
const FROZEN = 0x10 | 0x20;

/** As `removeTree`, also where flags forbid it. */
export function removeFrozenTree(dir: Dir, path: Path): void {
  try {
    removeTree(dir, path);
  } catch (error) {
    if (!isErrno(error, "EPERM")) throw error;
    thawTree(dir, path);
    removeTree(dir, path);
  }
}

/** Clears the flags of every regular file and directory. Never enters a symlink. */
function thawTree(dir: Dir, path: Path): void {
  using fd = openat(dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  thaw(fd);
  for (const { name, type } of listIfDirectory(fd)) {
    if (type === "file" || type === "directory") thawTree(fd, name);
  }
}

function listIfDirectory(fd: Fd) {
  try {
    using directory = openDirectory(fd, ".");
    return readDirectory(directory);
  } catch (error) {
    if (isErrno(error, "ENOTDIR")) return [];
    throw error;
  }
}

/** What cannot be cleared shows when the file is removed. */
function thaw(fd: Fd): void {
  const flags = Buffer.alloc(8); // the kernel uses an int, the call's number says long
  if (attempt("ioctl", fd.number, IOCTL.FS_IOC_GETFLAGS, flags) < 0) return;
  const value = flags.readUInt32LE();
  if ((value & FROZEN) === 0) return;
  flags.writeUInt32LE((value & ~FROZEN) >>> 0);
  attempt("ioctl", fd.number, IOCTL.FS_IOC_SETFLAGS, flags);
}
