// PID-1 mode only: mounts the disk that `root=` names. With systemd, sysroot.mount has done it.

import { isErrno, StateError, UnsupportedError } from "../shared/error.ts";
import { S_IFBLK, S_IFMT } from "../shared/format/tree/node.ts";
import { MOUNT_ATTR, O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, readAll } from "../shared/sys/file.ts";
import {
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  fsopen,
  moveMount,
} from "../shared/sys/mount.ts";
import { fstatat } from "../shared/sys/stat.ts";
import type { BootParameters } from "./boot-parameters.ts";

/** Those that may be modules and are then not yet in /proc/filesystems. */
const USUAL_TYPES = ["ext4", "xfs", "btrfs"];
const FILESYSTEMS_LIMIT_BYTES = 1 << 16;

/** Mounts read-write. No waiting: the device must be there, or this is an error. */
export function mountPhysicalRoot(parameters: BootParameters, target: string): void {
  const { root, rootFlags, rootType } = parameters;
  if (root === null) {
    throw new StateError("missing", "No root= on the kernel command line: add root=/dev/<disk>");
  }
  if (!root.startsWith("/dev/")) {
    throw new UnsupportedError(
      "feature",
      `Cannot find "root=${root}" without systemd: give the device, root=/dev/<disk>`,
    );
  }
  if (!isBlockDevice(root)) {
    throw new StateError(
      "missing",
      `There is no disk "${root}", as root= says: check the name, and that its driver is in the initramfs`,
    );
  }
  const types = rootType?.split(",") ?? [...new Set([...listTypes(), ...USUAL_TYPES])];
  using mounted = mountAny(root, types, rootFlags?.split(",") ?? []);
  moveMount(mounted, null, target);
}

function isBlockDevice(path: string): boolean {
  try {
    return (fstatat(null, path, { follow: true }).mode & S_IFMT) === S_IFBLK;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return false;
    throw error;
  }
}

/** File systems of block devices that the kernel knows now. */
function listTypes(): string[] {
  using file = openat(null, "/proc/filesystems", O.RDONLY);
  return Buffer.from(readAll(file, FILESYSTEMS_LIMIT_BYTES))
    .toString("utf8")
    .split("\n")
    .filter((line) => line.startsWith("\t"))
    .map((line) => line.trim());
}

function mountAny(device: string, types: readonly string[], options: readonly string[]): Fd {
  let last: unknown;
  for (const type of types) {
    try {
      return mountAs(device, type, options);
    } catch (error) {
      // ENODEV: no such type; EINVAL: not this type's data. Anything else is the disk's own trouble.
      if (!isErrno(error, "ENODEV", "EINVAL")) throw error;
      last = error;
    }
  }
  throw new StateError(
    "missing",
    `No file system on "${device}" that could be mounted (tried ${types.join(", ")}): check root=, rootfstype= and rootflags=`,
    {},
    { cause: last },
  );
}

function mountAs(device: string, type: string, options: readonly string[]): Fd {
  using context = fsopen(type);
  fsconfigString(context, "source", device);
  let attributes = 0;
  for (const option of options) {
    const equals = option.indexOf("=");
    if (option === "noatime") attributes |= MOUNT_ATTR.NOATIME;
    else if (equals < 0) fsconfigFlag(context, option);
    else fsconfigString(context, option.slice(0, equals), option.slice(equals + 1));
  }
  fsconfigCreate(context);
  return fsmount(context, attributes);
}
