// Paths below a root that is not ours yet: symlinks are followed as that root will follow them, so
// absolute ones start at it, where the kernel would now lead into the initramfs.

import { S_IFDIR, S_IFLNK, S_IFMT } from "../shared/format/tree/node.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { readlinkat } from "../shared/sys/link.ts";
import { fstatatIfExists } from "../shared/sys/stat.ts";

const MAX_LINKS = 40;

/** A root, and its directories looked up so far: only once each, for the sake of slow machines. */
export interface PathRoot {
  readonly fd: Fd;
  readonly directories: Map<string, string | null>;
}

export interface PathBelow {
  /** Without symlinks, absolute; "" is the root itself. */
  readonly path: string;
  readonly isDirectory: boolean;
}

/** Null when nothing is there, or after too many links. `..` never leads out of the root. */
export function resolveBelow(
  root: PathRoot,
  path: string,
  linksLeft = MAX_LINKS,
): PathBelow | null {
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  const folder = slash <= 0 ? "" : resolveFolderBelow(root, path.slice(0, slash), linksLeft);
  if (folder === null) return null;
  if (name === "" || name === ".") return { path: folder, isDirectory: true };
  if (name === "..") return { path: folder.slice(0, folder.lastIndexOf("/")), isDirectory: true };
  const here = `${folder}/${name}`;
  const stat = fstatatIfExists(root.fd, here.slice(1));
  if (stat === null) return null;
  const type = stat.mode & S_IFMT;
  if (type !== S_IFLNK) return { path: here, isDirectory: type === S_IFDIR };
  if (linksLeft === 0) return null;
  const target = Buffer.from(readlinkat(root.fd, here.slice(1))).toString("utf8");
  const next = target.startsWith("/") ? target : `${folder}/${target}`;
  return resolveBelow(root, next, linksLeft - 1);
}

/** As `resolveBelow`, for directories only. */
export function resolveFolderBelow(
  root: PathRoot,
  path: string,
  linksLeft = MAX_LINKS,
): string | null {
  const known = root.directories.get(path);
  if (known !== undefined) return known;
  const found = resolveBelow(root, path, linksLeft);
  const folder = found?.isDirectory === true ? found.path : null;
  root.directories.set(path, folder);
  return folder;
}
