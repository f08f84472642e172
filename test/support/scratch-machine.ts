// A machine in a directory: a tmpfs as its disk, a directory as its boot partition, another as /run.
// "Booting" it reads the boot entries as systemd-boot would and makes / what prepare-root would.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openRepository } from "../../shared/store/repository.ts";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { LIVE_ENTRIES, readEntryDirectory } from "../../updater/boot/entry-directory.ts";
import { parseMountTable } from "../../updater/boot/mount-table.ts";
import type { System } from "../../updater/boot/system.ts";
import type { Deployer } from "../../updater/deploy/deployer.ts";
import { type BootedImage, detectEnvironment } from "../../updater/deploy/environment.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { observeWorld, type World } from "../../updater/deploy/world.ts";

export interface RunningMachine extends Deployer, Disposable {
  readonly booted: BootedImage;
  readonly world: () => World;
}

export class ScratchMachine implements Disposable {
  readonly directory = mkdtempSync(join(tmpdir(), "machine-"));
  readonly disk = join(this.directory, "disk");
  readonly esp = join(this.directory, "esp");
  readonly run = join(this.directory, "run");
  readonly root = join(this.directory, "root");

  constructor() {
    for (const path of [this.disk, this.esp, this.run, this.root]) mkdirSync(path);
    mount("tmpfs", this.disk, "tmpfs", 0, null);
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

  /** Starts the first entry of the menu, or the one at `position`. */
  boot(position = 0): RunningMachine {
    rmSync(this.run, { recursive: true });
    mkdirSync(this.run);
    const { entries } = readEntryDirectory(join(this.esp, LIVE_ENTRIES))!;
    const chosen = entries[position]!;
    const id = chosen.deploymentId!;
    rmSync(join(this.root, "etc"), { force: true });
    symlinkSync(statePaths(this.disk, id).etc, join(this.root, "etc"));
    return this.#start(chosen.entry.options, id);
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
    const boot = { path: this.esp, [Symbol.dispose]: () => {} };
    return {
      system,
      boot,
      repo,
      booted,
      world: () => observeWorld(system, this.esp, booted),
      [Symbol.dispose]: () => repo[Symbol.dispose](),
    };
  }

  [Symbol.dispose](): void {
    umount2(this.disk, MNT.DETACH);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
