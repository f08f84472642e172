// A boot partition that somebody mounted read-only, made writable for this process: a second mount of the same
// file system, whose own flag the first one keeps. The caller has a mount namespace of its own.

import { mkdirSync } from "node:fs";
import { MNT, MOUNT_ATTR, MS } from "../../shared/sys/constants.ts";
import { mount, mountSetattr, openTree, umount2 } from "../../shared/sys/mount.ts";
import type { MountPoint } from "./mount-table.ts";

/** Puts it at `path`, which is made; disposing takes it away and leaves the file system as it was. */
export function mountWritable(source: MountPoint, path: string): Disposable {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  mount(source.path, path, null, MS.BIND, null);
  using resources = new DisposableStack();
  resources.defer(() => umount2(path, MNT.DETACH));
  using tree = openTree(null, path);
  mountSetattr(tree, { clear: MOUNT_ATTR.RDONLY });
  if (source.superReadOnly) {
    mount(null, path, null, MS.REMOUNT, null);
    resources.defer(() => protect(path));
  }
  return resources.move();
}

/** When somebody else writes by now it stays writable, which is what they want. */
function protect(path: string): void {
  try {
    mount(null, path, null, MS.REMOUNT | MS.RDONLY, null);
  } catch {
    // Everything is on the disk already.
  }
}
