// A scratch machine that GRUB starts: kernels and entries in /boot of the disk, grubenv beside them.
// Invariants: which entry starts is decided as grub/bootc.cfg does it (test/vm/grub.test.ts shows that a
// real GRUB does the same): from the script beside the entries, by the counter in grubenv.

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { changeEnvironment, parseEnvironment } from "../../shared/format/grub/environment.ts";
import { openRepository } from "../../shared/store/repository.ts";
import { openBootDirectory } from "../../updater/boot/boot-directory.ts";
import { borrowBootDirectory } from "../../updater/boot/boot-layout.ts";
import { readEntryDirectory } from "../../updater/boot/entry-directory.ts";
import { detectEnvironment } from "../../updater/deploy/environment.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { observeWorld } from "../../updater/deploy/world.ts";
import type { RunningMachine, ScratchMachine } from "./scratch-machine.ts";

export const EMPTY_ENVIRONMENT = "# GRUB Environment Block\n".padEnd(1024, "#");

export const grubPaths = (machine: ScratchMachine) => {
  const boot = join(machine.disk, "boot");
  return {
    boot,
    entries: join(boot, "loader/entries"),
    staged: join(boot, "loader/entries.staged"),
    script: join(boot, "loader/entries/bootc-menu.cfg"),
    environment: join(boot, "grub/grubenv"),
  };
};

/** Turns what was installed for systemd-boot into what bootc installs for GRUB. */
export function moveToGrub(machine: ScratchMachine): void {
  const { boot, entries, environment } = grubPaths(machine);
  mkdirSync(entries, { recursive: true });
  mkdirSync(join(boot, "grub"));
  const kernels = join(machine.esp, "EFI/Linux");
  // The disk and the boot partition are two file systems.
  for (const name of readdirSync(kernels))
    cpSync(join(kernels, name), join(boot, name), { recursive: true });
  const live = join(machine.esp, "loader/entries");
  for (const name of readdirSync(live)) {
    const text = readFileSync(join(live, name), "utf8").replaceAll("/EFI/Linux/", "/boot/");
    writeFileSync(join(entries, name), text);
  }
  for (const name of readdirSync(machine.esp)) rmSync(join(machine.esp, name), { recursive: true });
  cpSync(new URL("../../grub/bootc.cfg", import.meta.url).pathname, join(boot, "grub/bootc.cfg"));
  writeFileSync(environment, EMPTY_ENVIRONMENT);
}

/** What GRUB does until it starts a kernel; returns the file name of the entry. */
export function countStart(machine: ScratchMachine): string {
  const { entries, script, environment } = grubPaths(machine);
  const menu = existsSync(script)
    ? [...readFileSync(script, "utf8").matchAll(/ --id '([^']*)' \{$/gm)].map(
        (match) => `${match[1]}.conf`,
      )
    : readEntryDirectory(entries, "grub")!.entries.map(({ fileName }) => fileName);
  const block = readFileSync(environment);
  const variables = parseEnvironment(block);
  const left = variables.get("boot_counter");
  if (left === undefined || variables.get("boot_success") === "1") return menu[0]!;
  const isUsedUp = left === "0";
  const counted = { boot_counter: isUsedUp ? "0" : `${Number(left) - 1}` };
  const changes = isUsedUp ? { ...counted, boot_fallback: "1" } : counted;
  writeFileSync(environment, changeEnvironment(block, changes));
  if (!isUsedUp) return menu[0]!;
  const fallback = `${variables.get("bootc_fallback")}.conf`;
  return menu.includes(fallback) ? fallback : menu[0]!;
}

/** Starts what GRUB starts. */
export function startGrub(machine: ScratchMachine): RunningMachine {
  const { entries } = grubPaths(machine);
  const chosen = countStart(machine);
  rmSync(machine.run, { recursive: true });
  mkdirSync(machine.run);
  const menu = readEntryDirectory(entries, "grub")!.entries;
  const entry = menu.find(({ fileName }) => fileName === chosen)!;
  const id = entry.deploymentId!;
  rmSync(join(machine.root, "etc"), { force: true });
  symlinkSync(statePaths(machine.disk, id).etc, join(machine.root, "etc"));
  const plain = machine.system();
  const root = plain.mounts.findLast((each) => each.path === "/")!;
  const system = {
    ...plain,
    bootPath: null,
    cmdline: entry.entry.options,
    mounts: [...plain.mounts, { ...root, fileSystem: "overlay", source: `composefs:${id}` }],
  };
  const environment = detectEnvironment(system, {});
  if (environment.kind !== "composefs") throw new Error(`booted into ${environment.kind}`);
  const { booted } = environment;
  const opened = openBootDirectory(system, "write");
  // GRUB cannot write to the tmpfs that this disk is; on a real one it can.
  const boot = borrowBootDirectory(opened.path, {
    ...opened.layout,
    counting: "grubenv",
    countingProblem: null,
  });
  const repo = openRepository(null, join(machine.disk, "composefs"));
  return {
    system,
    boot,
    repo,
    booted,
    world: () => observeWorld(system, boot, booted),
    [Symbol.dispose]: () => repo[Symbol.dispose](),
  };
}
