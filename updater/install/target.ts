// What must be true of the file system an image is installed to, found out before anything is written
// (bootc.md 9.2, 9.4).

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isErrno, StateError, UnsupportedError } from "../../shared/error.ts";
import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat, reopenReadOnly, writeAll } from "../../shared/sys/file.ts";
import { fstatat } from "../../shared/sys/stat.ts";
import { enableVerity } from "../../shared/sys/verity.ts";
import { probeDevice } from "../boot/block-device.ts";
import { findMount, type MountPoint } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";

/** StateError unless `target` is a directory with a writable file system mounted on it, and empty. */
export function checkTarget(system: System, target: string): MountPoint {
  let isMountRoot: boolean;
  try {
    isMountRoot = fstatat(null, target, { follow: true }).isMountRoot;
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new StateError(
      "missing",
      `Cannot install to "${target}": there is no such directory; make it and mount the new file system on it`,
      { path: target },
    );
  }
  const mount = findMount(system.mounts, target);
  if (!isMountRoot || mount === null) {
    throw new StateError(
      "missing",
      `Cannot install to "${target}": it is not a mount point; mount the new file system on it first`,
      { path: target },
    );
  }
  if (mount.readOnly) {
    throw new StateError(
      "conflict",
      `Cannot install to "${target}": it is mounted read-only; make it writable with "mount -o remount,rw"`,
      { path: target },
    );
  }
  const foreign = readdirSync(target).find(
    (name) => name !== "lost+found" && !isOnlyMounts(system, join(target, name)),
  );
  if (foreign !== undefined) {
    throw new StateError(
      "exists",
      `Non-empty root file system "${target}": found "${foreign}"; make a new file system, or empty this one`,
      { path: target },
    );
  }
  return mount;
}

/** A mount point, or a directory with nothing but mount points in it. */
function isOnlyMounts(system: System, path: string): boolean {
  if (findMount(system.mounts, path) !== null) return true;
  try {
    const names = readdirSync(path);
    return names.length > 0 && names.every((name) => isOnlyMounts(system, join(path, name)));
  } catch (error) {
    if (isErrno(error, "ENOTDIR")) return false;
    throw error;
  }
}

/** UnsupportedError when files below `target` cannot have fs-verity. Leaves nothing behind. */
export function checkVerity(target: string, mount: MountPoint, algorithm: VerityAlgorithm): void {
  try {
    using file = openat(null, target, O.TMPFILE | O.RDWR, 0o600);
    writeAll(file, Buffer.from("probe"));
    using readable = reopenReadOnly(file);
    file.close();
    enableVerity(readable, algorithm);
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    // Its own advice is for file systems that hold something already; the kernel's reason stays.
    const { cause } = error;
    throw new UnsupportedError(
      "no-fsverity",
      `"${target}" (${mount.fileSystem}) cannot protect files with fs-verity; ` +
        `for ext4 create it with "mkfs.ext4 -O verity -b 4096", or use --allow-missing-verity`,
      { path: target },
      { cause },
    );
  }
}

/** `UUID=…` of the mounted file system. */
export function findRootSpec(mount: MountPoint): string {
  const uuid = mount.source.startsWith("/") ? probeDevice(mount.source).get("UUID") : undefined;
  if (uuid !== undefined) return `UUID=${uuid}`;
  throw new StateError(
    "missing",
    `The file system on "${mount.path}" has no UUID; say how to find it with --root-mount-spec`,
    { path: mount.path },
  );
}

/** The type of the partition that is mounted at `target`, lower case; null when it is on none. */
export function findPartitionType(system: System, target: string): string | null {
  const source = findMount(system.mounts, target)?.source ?? "";
  if (!source.startsWith("/")) return null;
  return probeDevice(source).get("PART_ENTRY_TYPE")?.toLowerCase() ?? null;
}
