// The link that tells systemd which disk is behind an overlay root.
//
// systemd-gpt-auto-generator finds the EFI system partition next to the root file system, and asks
// this link when the root is an overlay (systemd issue 35017). It must stay for the whole uptime.

import { isErrno } from "../shared/error.ts";
import { S_IFBLK, S_IFMT } from "../shared/format/tree/node.ts";
import { O } from "../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../shared/sys/directory.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, readAll } from "../shared/sys/file.ts";
import { symlinkat } from "../shared/sys/link.ts";
import { type FileStat, fstat, fstatat } from "../shared/sys/stat.ts";
import { findMountSource } from "./mount-source.ts";

const MOUNTINFO_LIMIT_BYTES = 1 << 20;

/**
 * Makes the link below `run`, unless there is one or the root is on no block device. `preferred`, when
 * it is a block device, is taken for the root's.
 */
export function linkVolatileRoot(
  sysroot: Fd,
  sysrootPath: string,
  run: string,
  preferred: string | null = null,
): void {
  const named = preferred === null ? null : numbersOf(preferred);
  const device = named ?? findDeviceNumber(sysroot, sysrootPath);
  if (device === null) return;
  mkdiratIfMissing(null, `${run}/systemd`, 0o755);
  try {
    symlinkat(`/dev/block/${device}`, null, `${run}/systemd/volatile-root`);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
}

/** "major:minor" of the device that holds the root; null for network file systems, tmpfs and the like. */
export function findDeviceNumber(sysroot: Fd, sysrootPath: string): string | null {
  const { devMajor, devMinor } = fstat(sysroot);
  if (devMajor !== 0) return `${devMajor}:${devMinor}`;
  // btrfs shows an invented number; the device stands in the mount table.
  const source = findMountSource(readMountinfo(), sysrootPath);
  return source === null ? null : numbersOf(source);
}

/** "major:minor" of a block device, null for anything else. */
function numbersOf(path: string): string | null {
  const stat = statDevice(path);
  if (stat === null || (stat.mode & S_IFMT) !== S_IFBLK) return null;
  const { rdev } = stat;
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`;
}

function readMountinfo(): string {
  using file = openat(null, "/proc/self/mountinfo", O.RDONLY);
  return Buffer.from(readAll(file, MOUNTINFO_LIMIT_BYTES)).toString("utf8");
}

function statDevice(path: string): FileStat | null {
  try {
    return fstatat(null, path, { follow: true });
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
}
