// The EFI system partition: which one it is, and a mount of it that only this process sees.
//
// A composefs root is an overlay, and systemd's automatic ESP mount refuses those, so nothing is assumed
// to be mounted (boot-counting-and-esp.md 5). The partition the boot loader says it came from is right;
// else the first ESP on the disk of the physical root.

import { existsSync, mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import { MNT, MS } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { listDiskPartitions, probeDevice } from "./block-device.ts";
import { type BootDirectory, borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { readLoaderPartition } from "./efi-variable.ts";
import { findMount, type MountPoint } from "./mount-table.ts";
import type { System } from "./system.ts";
import { mountWritable } from "./writable-mount.ts";

const ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/** Partition types of an ESP in an MBR table. */
const ESP_MBR_TYPES = ["0xef", "0x6"];

/** Directories below an install target that may have the ESP mounted. */
const ESP_MOUNT_DIRECTORIES = ["boot", "efi", "boot/efi"] as const;

/** The booted machine's ESP, mounted for this process; `advice` ends the message when there is none. */
export function openEsp(system: System, advice: string): BootDirectory {
  return mountEsp(
    system,
    findBootedEsp(system) ?? findDiskEsp(system, system.physicalRoot, advice),
  );
}

/** At install: the vfat mounted at one of the usual places in the target, else the disk's ESP. */
export function openTargetBootDirectory(system: System, target: string): BootDirectory {
  if (system.bootPath !== null) return borrowEsp(system.bootPath);
  for (const directory of ESP_MOUNT_DIRECTORIES) {
    const path = join(target, directory);
    if (findMount(system.mounts, path)?.fileSystem === "vfat") {
      return borrowEsp(path);
    }
  }
  const advice = `mount one at "${join(target, "boot")}" or create one of type ${ESP_TYPE}`;
  return mountEsp(system, findDiskEsp(system, target, advice));
}

function findBootedEsp(system: System): string | null {
  const uuid = readLoaderPartition(system);
  if (uuid === null) return null;
  const link = join(system.devices, "disk/by-partuuid", uuid);
  return existsSync(link) ? realpathSync(link) : null;
}

/** `advice` ends the message when there is none. */
function findDiskEsp(system: System, physicalRoot: string, advice: string): string {
  const root = findMount(system.mounts, physicalRoot);
  if (root === null) {
    throw new StateError("missing", `"${physicalRoot}" is not a mount point`, {
      path: physicalRoot,
    });
  }
  const partitions = listPartitions(system, root, advice);
  const esp = partitions.find((device) => {
    const type = probeDevice(device).get("PART_ENTRY_TYPE")?.toLowerCase() ?? "";
    return type === ESP_TYPE || ESP_MBR_TYPES.includes(type);
  });
  if (esp !== undefined) return esp;
  throw new StateError(
    "missing",
    `The disk of "${physicalRoot}" has no EFI system partition (looked at: ${
      partitions.join(", ") || "no partitions"
    }); ${advice}`,
    { path: physicalRoot },
  );
}

function listPartitions(system: System, root: MountPoint, advice: string): readonly string[] {
  try {
    return listDiskPartitions(system, root);
  } catch (cause) {
    throw new StateError(
      "missing",
      `Cannot find the EFI system partition of "${root.path}"; ${advice}`,
      { path: root.path },
      { cause },
    );
  }
}

function mountEsp(system: System, device: string): BootDirectory {
  const path = join(system.runDirectory, "bootc/mounts/esp");
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const layout = makeEspLayout("systemd", path);
  try {
    mount(device, path, "vfat", MS.NOEXEC | MS.NOSUID | MS.NODEV, "fmask=0177,dmask=0077");
  } catch (cause) {
    // Read-only elsewhere: one file system cannot be mounted both ways at once.
    const elsewhere = isErrno(cause, "EBUSY") ? findDeviceMount(system, device) : null;
    if (elsewhere !== null) {
      const copy = mountWritable(elsewhere, path);
      return { path, layout, [Symbol.dispose]: () => copy[Symbol.dispose]() };
    }
    const hint = isErrno(cause, "ENODEV") ? " (this kernel has no vfat: load the module)" : "";
    throw new StateError(
      "command-failed",
      `Cannot mount the EFI system partition "${device}"${hint}`,
      { path: device },
      { cause },
    );
  }
  return { path, layout, [Symbol.dispose]: () => umount2(path, MNT.DETACH) };
}

function findDeviceMount({ mounts }: System, device: string): MountPoint | null {
  const isMeant = ({ source }: MountPoint) =>
    source.startsWith("/") && existsSync(source) && realpathSync(source) === realpathSync(device);
  return mounts.findLast(isMeant) ?? null;
}

function borrowEsp(path: string): BootDirectory {
  return borrowBootDirectory(path, makeEspLayout("systemd", path));
}
