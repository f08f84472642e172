// Saved machines: memory and disks in a directory from which any number of machines can go on.
// Invariants: the saved disks are frozen (every resumed machine writes to overlays of its own), so
// one boot serves many tests; memory is stored by QEMU's migration to a file.

import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { MachineOptions } from "./machine.ts";
import type { Qmp } from "./qmp.ts";

export type SavedState = { readonly dir: string; readonly options: MachineOptions };

const capabilities = [{ capability: "events", state: true }];

/** Saves a machine and ends it; those of its `files` that are its own move into `dir`. */
export async function saveState(
  qmp: Qmp,
  dir: string,
  ended: () => Promise<void>,
  files: readonly string[],
  options: MachineOptions,
): Promise<void> {
  await mkdir(dir, { recursive: true });
  await qmp.execute("stop");
  await qmp.execute("migrate-set-capabilities", { capabilities });
  const done = migrationEnd(qmp);
  await qmp.execute("migrate", { uri: `file:${join(dir, "memory")}` });
  await done;
  await qmp.execute("quit").catch(() => {});
  await ended();
  for (const file of files) await rename(file, join(dir, basename(file)));
  const { onLine: _, ...plain } = options;
  await writeFile(join(dir, "machine.json"), JSON.stringify(plain));
}

/** What `saveState` left in `dir`. */
export async function readState(dir: string): Promise<SavedState> {
  const saved = JSON.parse(await readFile(join(dir, "machine.json"), "utf8")) as MachineOptions;
  const { uefiVars, ...options } = saved;
  // Names without a directory are the state's own files; it may have been renamed since.
  const disks = saved.disks.map((disk) => ({ ...disk, path: resolve(dir, disk.path) }));
  const vars = uefiVars === undefined ? {} : { uefiVars: resolve(dir, uefiVars) };
  return { dir, options: { ...options, ...vars, disks } };
}

/** Loads the memory into a QEMU started with `-incoming defer`, and lets it run. */
export async function loadState(qmp: Qmp, state: SavedState): Promise<void> {
  await qmp.execute("migrate-set-capabilities", { capabilities });
  const done = migrationEnd(qmp);
  await qmp.execute("migrate-incoming", { uri: `file:${join(state.dir, "memory")}` });
  await done;
  await qmp.execute("cont");
}

async function migrationEnd(qmp: Qmp): Promise<void> {
  const final = await qmp.waitForEvent(
    ({ event, data }) =>
      event === "MIGRATION" && ["completed", "failed"].includes(String(data["status"])),
  );
  if (final.data["status"] === "failed") throw new Error("QEMU could not store or load its memory");
}
