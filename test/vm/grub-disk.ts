// The disks of a machine that GRUB starts: an ESP with GRUB, and /boot with entries, kernels and grubenv as
// this project's updater writes them. The kernels find no root and panic: only which one was started matters.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import type { BootDirectory } from "../../updater/boot/boot-layout.ts";
import { startGrubTrial } from "../../updater/boot/grub-counter.ts";
import type { System } from "../../updater/boot/system.ts";
import { replaceEntries } from "../../updater/deploy/entry-exchange.ts";
import { type MenuItem, planMenu } from "../../updater/deploy/menu-plan.ts";
import { GRUB_LAYOUT } from "../sim/grub-model.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import { EMPTY_WORLD, idOf } from "../support/small-world.ts";
import { createSparse, type Disk, ext4FromDir } from "./disks.ts";
import { ensureGrubImage, type GrubRelease } from "./grub-image.ts";
import { runTool } from "./tools-root.ts";

const BOOT_MEGABYTES = 96;
const ESP_MEGABYTES = 40;

const GRUB_CONFIG = `serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
source $prefix/bootc.cfg
`;

export type GrubDisks = Disposable & {
  readonly disks: readonly Disk[];
  /** Brings back a file of /boot after the machine has ended. */
  readonly read: (path: string) => Buffer;
};

export type GrubMenu = {
  readonly release: GrubRelease;
  readonly kernel: string;
  /** VERSION_IDs of the deployments "b" (new, on trial) and "a" (old). */
  readonly versions: readonly [string, string];
  /** Starts that the new one gets; null: nothing is counted. */
  readonly tries: number | null;
  /** Whether the menu is there as a script, too, as without `blscfg`. */
  readonly withScript: boolean;
};

/** The new deployment's kernel gets "deployment=new", the old one's "deployment=old". */
export async function makeGrubDisks(menu: GrubMenu): Promise<GrubDisks> {
  const directory = mkdtempSync(join(cacheDir, "vm", "grub-disks-"));
  try {
    const boot = join(directory, "boot");
    writeBoot(boot, join(directory, "run"), menu);
    const bootDisk = join(directory, "boot.raw");
    await ext4FromDir(bootDisk, boot, BOOT_MEGABYTES, "BOOT");
    const esp = join(directory, "esp.raw");
    await createSparse(esp, ESP_MEGABYTES);
    const program = await ensureGrubImage(menu.release, console.log);
    await runTool(["mkfs.vfat", "-F", "32", "-n", "ESP", esp]);
    await runTool(["mmd", "-i", esp, "::EFI", "::EFI/BOOT"]);
    await runTool(["mcopy", "-i", esp, program, "::EFI/BOOT/BOOTX64.EFI"]);
    return {
      disks: [
        { id: "esp", path: esp, mode: "write" },
        { id: "boot", path: bootDisk, mode: "write" },
      ],
      read: (path) =>
        execFileSync("debugfs", ["-R", `cat ${path}`, bootDisk], {
          stdio: ["ignore", "pipe", "ignore"],
        }),
      [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
    };
  } catch (error) {
    rmSync(directory, { recursive: true });
    throw error;
  }
}

function writeBoot(path: string, runDirectory: string, menu: GrubMenu): void {
  mkdirSync(join(path, "loader/entries"), { recursive: true });
  mkdirSync(join(path, "grub"));
  mkdirSync(runDirectory);
  writeFileSync(join(path, "grub/grub.cfg"), GRUB_CONFIG);
  copyFileSync(join(projectDir, "grub/bootc.cfg"), join(path, "grub/bootc.cfg"));
  writeFileSync(join(path, "grub/grubenv"), "# GRUB Environment Block\n".padEnd(1024, "#"));
  const boot: BootDirectory = { path, layout: GRUB_LAYOUT, [Symbol.dispose]: () => {} };
  const kernelDirectory = `bootc_composefs-${idOf("a")}`;
  mkdirSync(join(path, kernelDirectory));
  copyFileSync(menu.kernel, join(path, kernelDirectory, "vmlinuz"));
  // An archive with nothing in it.
  writeFileSync(join(path, kernelDirectory, "initrd"), emptyArchive());
  const system = { runDirectory, physicalRoot: join(runDirectory, "disk") } as System;
  const items = [item("b", menu.versions[0], "new"), item("a", menu.versions[1], "old")];
  const world = { ...EMPTY_WORLD, layout: GRUB_LAYOUT };
  const entries = planMenu(world, {
    names: "image",
    items: items.map((each) => ({ ...each, kernel: { kind: "bls", directory: kernelDirectory } })),
  });
  applyTransaction(replaceEntries(system, boot, entries));
  if (!menu.withScript) rmSync(join(path, "loader/entries/bootc-menu.cfg"));
  if (menu.tries !== null)
    startGrubTrial(boot, parseEntryName(entries[1]!.fileName)!.id, menu.tries);
}

function item(digit: string, version: string, name: string): MenuItem & { kind: "new" } {
  const cmdline = `deployment=${name} console=ttyS0 panic=1 no_timer_check note="two words"`;
  const options = parseCmdline(cmdline)
    .map(({ text }) => text)
    .join(" ");
  return {
    kind: "new",
    image: {
      id: idOf(digit),
      osRelease: new Map([
        ["ID", "debian"],
        ["VERSION_ID", version],
      ]),
    },
    kernel: { kind: "bls", directory: "" },
    options,
    extra: [],
  };
}

/** cpio, "newc": nothing but the entry that ends every archive. */
function emptyArchive(): Buffer {
  const numbers = Array.from({ length: 13 }, (_, i) => (i === 4 ? 1 : i === 11 ? 11 : 0));
  const header = numbers.map((number) => number.toString(16).padStart(8, "0")).join("");
  return Buffer.from(`070701${header}TRAILER!!!\0`.padEnd(512, "\0"));
}
