// A scratch machine whose running root is real: prepare-root mounts the booted deployment on a directory,
// as the initramfs would, so that what a soft reboot mounts beside it can be compared and entered.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MNT } from "../../shared/sys/constants.ts";
import { umount2 } from "../../shared/sys/mount.ts";
import { parseMountTable } from "../../updater/boot/mount-table.ts";
import type { OwnProgram } from "../../updater/boot/own-program.ts";
import { mountDeployment, nextRootPath, readMounts } from "../../updater/deploy/next-root.ts";
import { observeWorld } from "../../updater/deploy/world.ts";
import type { RunningMachine, ScratchMachine } from "./scratch-machine.ts";

/** prepare-root, in the mounts of the test. */
export const PROGRAM: OwnProgram = {
  command: [process.execPath, join(import.meta.dirname, "prepare-root.ts")],
  mountNamespace: null,
};

/** Starts the first entry of the menu; `settings` are those in the initramfs. */
export function bootReally(
  machine: ScratchMachine,
  settings: string | null = null,
): RunningMachine {
  const running = machine.boot();
  const root = join(machine.directory, "live");
  mkdirSync(root, { recursive: true });
  const { booted, boot } = running;
  const system = { ...running.system, root };
  const { cmdline } = system;
  mountDeployment(system, PROGRAM, { id: booted.id, cmdline, settings, target: root });
  const mounts = () => parseMountTable(readFileSync("/proc/self/mountinfo", "utf8"));
  return {
    ...running,
    system,
    world: () => observeWorld({ ...system, mounts: mounts() }, boot, booted),
  };
}

/** Takes every mount below the machine away but its disk. */
export function unmountRoots(machine: ScratchMachine): void {
  const roots = [join(machine.directory, "live"), nextRootPath(machine.system())];
  for (const path of roots) {
    while (readMounts(PROGRAM).some((mount) => mount.path === path)) umount2(path, MNT.DETACH);
  }
}
