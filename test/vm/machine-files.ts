// What a machine has on disk: its overlays, UEFI variables, console log and sockets. Invariants:
// all of it lies in one directory named after machine and process; directories of dead processes
// are removed when a machine of the same name starts; a kept directory survives until then.

import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDir } from "../support/cache.ts";
import { createOverlay, type Disk, imageFormat } from "./disks.ts";
import { firmwareVars } from "./qemu-args.ts";
import { ensureSecureBootKeys, type SecureBootMode } from "./secure-boot.ts";
import { runTool } from "./tools-root.ts";

export type PlacedDisk = {
  readonly id: string;
  readonly path: string;
  readonly readOnly: boolean;
  readonly log?: string | undefined;
};

export type MachineFiles = {
  readonly dir: string;
  readonly socketDir: string;
  readonly consoleLog: string;
  /** Removes everything but the log; with `keep`, the sockets only. */
  clean(keep: boolean): Promise<void>;
};

const runsDir = join(cacheDir, "vm/runs");
const logsDir = join(cacheDir, "vm/logs");

let counter = 0;

export async function createMachineFiles(name: string): Promise<MachineFiles> {
  await mkdir(logsDir, { recursive: true });
  await mkdir(runsDir, { recursive: true });
  await removeDead(name);
  const dir = join(runsDir, `${name}.${process.pid}.${++counter}`);
  await mkdir(dir);
  // Socket addresses have room for 107 bytes only, and the checkout may lie deep.
  const socketDir = await mkdtemp(join(tmpdir(), "bootc-rig-"));
  const consoleLog = join(dir, "console.log");
  return {
    dir,
    socketDir,
    consoleLog,
    async clean(keep) {
      await rm(socketDir, { recursive: true, force: true });
      if (keep) return;
      if (existsSync(consoleLog)) await rename(consoleLog, join(logsDir, `${name}.log`));
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function removeDead(name: string): Promise<void> {
  for (const entry of await readdir(runsDir)) {
    const [owner, pid] = entry.split(".");
    if (owner !== name || pid === `${process.pid}` || existsSync(`/proc/${pid}`)) continue;
    await rm(join(runsDir, entry), { recursive: true, force: true });
  }
}

/** Puts a disk in place: itself, or a throwaway overlay over it. */
export async function placeDisk(files: MachineFiles, disk: Disk): Promise<PlacedDisk> {
  const readOnly = disk.mode === "read";
  if (disk.mode !== "overlay") return { id: disk.id, path: disk.path, readOnly, log: disk.log };
  const overlay = join(files.dir, `${disk.id}.qcow2`);
  return { id: disk.id, path: await createOverlay(overlay, disk.path), readOnly, log: disk.log };
}

/** A machine's own UEFI variables, as qcow2 so that snapshots can hold them. */
export async function placeUefiVars(
  files: MachineFiles,
  saved?: string,
  secureBoot?: SecureBootMode,
): Promise<string> {
  const path = join(files.dir, "vars.qcow2");
  const source = saved ?? (await firstVars(secureBoot));
  const words = ["-f", imageFormat(source), "-O", "qcow2", source, path];
  await runTool(["qemu-img", "convert", ...words]);
  return path;
}

async function firstVars(secureBoot: SecureBootMode | undefined): Promise<string> {
  if (secureBoot !== "enforcing") return firmwareVars;
  return (await ensureSecureBootKeys()).enforcingVars;
}
