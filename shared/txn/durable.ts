// Making names durable, on every file system that boots machines.
//
// fsync of a directory is enough on ext4, XFS, btrfs. Not on vfat (boot-counting-and-esp.md 4): a rename
// there dirties only the moved inodes, whose directory entries are written by syncfs (or fsync of the
// inode), while the disk is told to flush by fsync of the directory. So on vfat syncfs comes first, then fsync.

import { S_IFDIR, S_IFMT } from "../format/tree/node.ts";
import { FS_MAGIC, O } from "../sys/constants.ts";
import { openDirectory, readDirectory } from "../sys/directory.ts";
import type { Dir, Fd, Path } from "../sys/fd.ts";
import { fsync, openat, syncfs } from "../sys/file.ts";
import { fstat, fstatfs } from "../sys/stat.ts";

export function isFat(fd: Fd): boolean {
  return fstatfs(fd).type === FS_MAGIC.VFAT;
}

/** Whatever names were made, moved or removed in this directory are on the disk afterwards. */
export function syncDirectory(fd: Fd): void {
  if (isFat(fd)) syncfs(fd);
  fsync(fd);
}

/** A file or directory: its content and, for a directory, its names. */
export function syncPath(path: string): void {
  using fd = openat(null, path, O.RDONLY | O.NONBLOCK);
  if (isDirectory(fd)) syncDirectory(fd);
  else fsync(fd);
}

/** Every regular file and directory from `path` down; the innermost first. */
export function syncTree(dir: Dir, path: Path): void {
  using fd = openat(dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (isDirectory(fd)) {
    using listing = openDirectory(fd, ".");
    for (const { name, type } of readDirectory(listing)) {
      if (type === "file" || type === "directory") syncTree(fd, name);
    }
  }
  fsync(fd);
}

export function isDirectory(fd: Fd): boolean {
  return (fstat(fd).mode & S_IFMT) === S_IFDIR;
}
