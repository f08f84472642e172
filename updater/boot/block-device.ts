// From a mounted file system to the disk below it and that disk's partitions, by sysfs.
//
// A device-mapper or RAID device leads to its members through `slaves/`, a partition to its disk
// through the parent directory. What a partition is for comes from `blkid -p`, which reads the table
// itself and so needs no udev.

import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { StateError } from "../../shared/error.ts";
import type { MountPoint } from "./mount-table.ts";
import { runProgram } from "./program.ts";
import type { System } from "./system.ts";

const DEPTH_LIMIT = 16;

/** Device nodes of all partitions on the disks below the mount, in partition order. */
export function listDiskPartitions(system: System, mount: MountPoint): readonly string[] {
  return findDisks(system, deviceDirectory(system, mount)).flatMap((disk) =>
    readdirSync(disk)
      .filter((name) => existsSync(join(disk, name, "partition")))
      .map((name) => ({ name, index: readNumber(join(disk, name, "partition")) }))
      .sort((a, b) => a.index - b.index)
      .map(({ name }) => join(system.devices, name)),
  );
}

/** Whether the device itself refuses writes, e.g. a CD. False where there is no device. */
export function isReadOnlyDevice(system: System, mount: MountPoint): boolean {
  if (mount.devMajor === 0) return false;
  const path = join(system.sysfs, "dev/block", `${mount.devMajor}:${mount.devMinor}`, "ro");
  return existsSync(path) && readNumber(path) !== 0;
}

/** The mounted device's directory in sysfs. btrfs has no device number of its own, only its source. */
function deviceDirectory(system: System, mount: MountPoint): string {
  let { devMajor, devMinor } = mount;
  if (devMajor === 0 && mount.source.startsWith("/")) {
    const { rdev } = statSync(mount.source);
    devMajor = (rdev >> 8) & 0xfff;
    devMinor = (rdev & 0xff) | ((rdev >> 12) & 0xfff00);
  }
  const path = join(system.sysfs, "dev/block", `${devMajor}:${devMinor}`);
  if (!existsSync(path)) {
    throw new StateError(
      "missing",
      `Cannot find the disk of "${mount.path}": its ${mount.fileSystem} is on no block device`,
      { path: mount.path },
    );
  }
  return realpathSync(path);
}

function findDisks(system: System, device: string, depth = 0): readonly string[] {
  if (depth > DEPTH_LIMIT) return [];
  if (existsSync(join(device, "partition"))) return [dirname(device)];
  const members = existsSync(join(device, "slaves")) ? readdirSync(join(device, "slaves")) : [];
  if (members.length === 0) return [device];
  const disks = members.flatMap((name) =>
    findDisks(system, realpathSync(join(device, "slaves", name)), depth + 1),
  );
  return [...new Set(disks)];
}

function readNumber(path: string): number {
  return Number(readFileSync(path, "utf8").trim());
}

/** What `blkid` says about a device: its own tags and, with the PART_ENTRY_ prefix, its table entry. */
export function probeDevice(device: string): ReadonlyMap<string, string> {
  // Exit code 2: nothing recognised.
  const text = runProgram("blkid", ["-p", "-o", "export", device], {
    package: "util-linux",
    accept: [2],
  });
  return new Map(
    text
      .split("\n")
      .map((line) => /^([A-Z0-9_]+)=(.*)$/.exec(line))
      .filter((match) => match !== null)
      .map((match) => [match[1]!, match[2]!.replaceAll("\\ ", " ")]),
  );
}
