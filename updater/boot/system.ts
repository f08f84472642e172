// The machine as the updater sees it: where its parts lie, and what does not change while a verb runs.
//
// Everything that touches the system takes this, so tests run whole verbs on a scratch directory.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type MountPoint, parseMountTable } from "./mount-table.ts";

export interface System {
  /** The running root: `/etc` and `/usr/lib/os-release` are read from here. */
  readonly root: string;
  /** Where the disk's own root is: holds `composefs/` and `state/`. */
  readonly physicalRoot: string;
  /** `/run` */
  readonly runDirectory: string;
  /** `/sys` */
  readonly sysfs: string;
  /** `/dev` */
  readonly devices: string;
  /** Text of `/proc/cmdline`. */
  readonly cmdline: string;
  readonly mounts: readonly MountPoint[];
  /** The boot loader's directory when it is known already; null: find and mount the ESP. */
  readonly bootPath: string | null;
}

/** The machine this program runs on. */
export function readSystem(): System {
  return {
    root: "/",
    physicalRoot: "/sysroot",
    runDirectory: "/run",
    sysfs: "/sys",
    devices: "/dev",
    cmdline: readFileSync("/proc/cmdline", "utf8").trim(),
    mounts: parseMountTable(readFileSync("/proc/self/mountinfo", "utf8")),
    bootPath: null,
  };
}

/** Whether systemd is the service manager here (sd_booted(3)). */
export function hasSystemd(system: System): boolean {
  return existsSync(join(system.runDirectory, "systemd/system"));
}
