// Which directory of the root disk is to become the root: the symlink that the command line names,
// followed on that disk and never out of it (ostree.md 1.1).

import { StateError } from "../../shared/error.ts";
import { S_IFLNK, S_IFMT } from "../../shared/format/tree/node.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { encodeDevice, fstatat, fstatatIfExists } from "../../shared/sys/stat.ts";
import { type PathRoot, resolveBelow, resolveFolderBelow } from "../path-below.ts";

export interface Deployment {
  /** Absolute path on the root disk, without symlinks. */
  readonly path: string;
  /** The commit that was deployed, as the directory's name tells it; not checked. */
  readonly commit: string;
  readonly device: { readonly number: bigint; readonly inode: bigint };
}

/** StateError when `target` is no symlink to a directory of the root disk. */
export function findDeployment(sysroot: Fd, target: string): Deployment {
  const root: PathRoot = { fd: sysroot, directories: new Map() };
  const slash = target.lastIndexOf("/");
  const folder = slash <= 0 ? "" : resolveFolderBelow(root, target.slice(0, slash));
  const name = target.slice(slash + 1);
  const link = folder === null || name === "" ? null : `${folder}/${name}`.slice(1);
  const stat = link === null ? null : fstatatIfExists(sysroot, link);
  if (link === null || stat === null) throw unusable(target, "is not there");
  if ((stat.mode & S_IFMT) !== S_IFLNK) throw unusable(target, "is no symlink to a deployment");
  const found = resolveBelow(root, `/${link}`);
  if (found === null) throw unusable(target, "is a symlink to a deployment that is gone");
  if (!found.isDirectory || found.path === "") throw unusable(target, "leads to no deployment");
  const { path } = found;
  const { devMajor, devMinor, ino } = fstatat(sysroot, path.slice(1));
  return {
    path,
    commit: path.slice(path.lastIndexOf("/") + 1).split(".", 1)[0]!,
    device: { number: BigInt(encodeDevice(devMajor, devMinor)), inode: BigInt(ino) },
  };
}

function unusable(target: string, problem: string): StateError {
  return new StateError(
    "missing",
    `"${target}", which the kernel command line names, ${problem} on the root disk: choose another boot entry, or check root=`,
    { path: target },
  );
}
