// A machine in a directory: a tmpfs as its disk, a directory as its boot partition, another as /run.
// "Booting" it reads the boot entries as systemd-boot would and makes / what prepare-root would.

import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { formatEntryName } from "../../shared/format/bls/entry-name.ts";
import { openRepository } from "../../shared/store/repository.ts";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import type { BootEntry } from "../../updater/boot/boot-entry.ts";
import { borrowBootDirectory, makeEspLayout } from "../../updater/boot/boot-layout.ts";
import { readMenu } from "../../updater/boot/boot-menu.ts";
import { LIVE_ENTRIES } from "../../updater/boot/entry-directory.ts";
import { parseMountTable } from "../../updater/boot/mount-table.ts";
import type { System } from "../../updater/boot/system.ts";
import { applyAssessment } from "../../updater/deploy/assess.ts";
import { planAssessment } from "../../updater/deploy/assess-plan.ts";
import { readBootRecords } from "../../updater/deploy/boot-record.ts";
import type { Deployer } from "../../updater/deploy/deployer.ts";
import { type BootedImage, detectEnvironment } from "../../updater/deploy/environment.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { observeWorld, type World } from "../../updater/deploy/world.ts";

export interface RunningMachine extends Deployer, Disposable {
  readonly booted: BootedImage;
  readonly world: () => World;
}

const LOADER_VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/** What `bootc internals assess-boot good` and `review` do. */
export function assess(running: RunningMachine, good: boolean): void {
  const { system } = running;
  const now = new Date().toISOString();
  const plan = planAssessment(running.world(), good, readBootRecords(system), now);
  applyAssessment(running, plan);
}

export class ScratchMachine implements Disposable {
  readonly directory: string;
  readonly disk: string;
  readonly esp: string;
  readonly run: string;
  readonly root: string;

  readonly #ownsDisk: boolean;

  /** `places`: file systems that are mounted already; `directory`: another process's machine. */
  constructor(
    places: { readonly directory?: string; readonly disk?: string; readonly esp?: string } = {},
  ) {
    this.directory = places.directory ?? mkdtempSync(join(tmpdir(), "machine-"));
    this.disk = places.disk ?? join(this.directory, "disk");
    this.esp = places.esp ?? join(this.directory, "esp");
    this.run = join(this.directory, "run");
    this.root = join(this.directory, "root");
    for (const path of [this.disk, this.esp, this.run, this.root])
      mkdirSync(path, { recursive: true });
    this.#ownsDisk = places.disk === undefined;
    if (this.#ownsDisk) mount("tmpfs", this.disk, "tmpfs", 0, null);
  }

  /** As the program that installs sees it. */
  system(): System {
    return {
      root: this.root,
      physicalRoot: this.disk,
      runDirectory: this.run,
      sysfs: join(this.directory, "sys"),
      devices: join(this.directory, "dev"),
      cmdline: "",
      mounts: parseMountTable(readFileSync("/proc/self/mountinfo", "utf8")),
      bootPath: this.esp,
    };
  }

  /** Starts the first entry of the menu, or the one at `position`; a `good` start is blessed. */
  boot(position = 0, good = true): RunningMachine {
    rmSync(this.run, { recursive: true });
    mkdirSync(this.run);
    const { entries } = this.#menu();
    const chosen = entries[position]!;
    this.#countDown(chosen);
    const running = this.#enter(chosen);
    if (good) assess(running, true);
    return running;
  }

  /** With what stands in unified kernels and their addons. */
  #menu() {
    return readMenu(borrowBootDirectory(this.esp, makeEspLayout("systemd", this.esp)), "live")!;
  }

  /** As systemd-boot does before it starts the kernel. */
  #countDown({ fileName, name }: BootEntry): void {
    const variables = join(this.directory, "sys/firmware/efi/efivars");
    mkdirSync(variables, { recursive: true });
    const variable = join(variables, `LoaderBootCountPath-${LOADER_VENDOR}`);
    rmSync(variable, { force: true });
    if (name.counter === null) return;
    const { left, done } = name.counter;
    const counter = { left: Math.max(left - 1, 0), done: done + 1 };
    const counted = formatEntryName({ id: name.id, counter });
    const directory = join(this.esp, LIVE_ENTRIES);
    renameSync(join(directory, fileName), join(directory, counted));
    const text = Buffer.from(`\\loader\\entries\\${counted}\0`, "utf16le");
    writeFileSync(variable, Buffer.concat([Buffer.from([6, 0, 0, 0]), text]));
  }

  /** Goes on in the deployment that runs, as a second program does: /run stays. */
  resume(id: string): RunningMachine {
    const { entries } = this.#menu();
    return this.#enter(entries.find(({ deploymentId }) => deploymentId === id)!);
  }

  #enter(chosen: BootEntry): RunningMachine {
    const id = chosen.deploymentId!;
    rmSync(join(this.root, "etc"), { force: true });
    symlinkSync(statePaths(this.disk, id).etc, join(this.root, "etc"));
    return this.#start(`${chosen.cmdline} ${chosen.addonArguments ?? ""}`.trim(), id);
  }

  #start(cmdline: string, id: string): RunningMachine {
    const plain = this.system();
    const root = plain.mounts.findLast((each) => each.path === "/")!;
    const system = {
      ...plain,
      cmdline,
      mounts: [...plain.mounts, { ...root, fileSystem: "overlay", source: `composefs:${id}` }],
    };
    const environment = detectEnvironment(system, {});
    if (environment.kind !== "composefs") throw new Error(`booted into ${environment.kind}`);
    const { booted } = environment;
    const repo = openRepository(null, join(this.disk, "composefs"));
    const boot = borrowBootDirectory(this.esp, makeEspLayout("systemd", this.esp));
    return {
      system,
      boot,
      repo,
      booted,
      world: () => observeWorld(system, boot, booted),
      [Symbol.dispose]: () => repo[Symbol.dispose](),
    };
  }

  [Symbol.dispose](): void {
    if (this.#ownsDisk) umount2(this.disk, MNT.DETACH);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
