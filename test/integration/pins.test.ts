// Pinned deployments through real updates: they keep entry, state, kernel and image, whatever is installed,
// and are ordinary ones again when unpinned. And deleting deployments one by one, down to what runs.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { collectGarbage } from "../../shared/store/gc.ts";
import { openImage } from "../../shared/store/images.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { applyDelete } from "../../updater/deploy/delete.ts";
import { planDelete } from "../../updater/deploy/delete-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { applyPin } from "../../updater/deploy/pin.ts";
import { planPin } from "../../updater/deploy/pin-plan.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { stageScratch } from "../support/scratch-update.ts";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

async function stage(running: RunningMachine, version: string): Promise<string> {
  writeScratchImage(imagePath, { version, etc: { f: version } });
  return await stageScratch(running, imagePath);
}

/** One program has the repository open at a time. */
async function stageAndShutDown(version: string): Promise<string> {
  using running = machine.boot();
  const id = await stage(running, version);
  finalizeStaged(running, running.world());
  return id;
}

/** Stages, shuts down, boots and cleans up; the machine then runs what was staged. */
async function upgrade(version: string): Promise<string> {
  const id = await stageAndShutDown(version);
  using next = machine.boot();
  expect(next.booted.id).toBe(id);
  clean(next);
  return id;
}

function clean(running: RunningMachine): void {
  const world = running.world();
  applyCleanup(running, planCleanup(world, readCleanupScope(running.repo, world)), {
    dryRun: false,
  });
}

/** Everything that makes a deployment one. */
function isWhole(running: RunningMachine, id: string): boolean {
  const entry = running.world().live.find(({ deploymentId }) => deploymentId === id);
  const state = existsSync(join(machine.disk, "state/deploy", id, "etc/f"));
  const kernel = existsSync(join(machine.esp, "EFI/Linux", entry?.artefact ?? "none", "vmlinuz"));
  try {
    openImage(running.repo, id).fd.close();
  } catch {
    return false;
  }
  return entry !== undefined && state && kernel;
}
const isGone = (id: string) =>
  !existsSync(join(machine.disk, "state/deploy", id)) &&
  !existsSync(join(machine.esp, "EFI/Linux", `bootc_composefs-${id}`));
const menu = (running: RunningMachine) =>
  running
    .world()
    .live.map(({ entry }) => entry.version)
    .join(" ");

test("a pinned deployment outlives updates, rollbacks and cleanups, until it is unpinned", async () => {
  writeScratchImage(imagePath, { version: "1", etc: { f: "1" } });
  const { id: a } = await installScratch(machine, imagePath);
  {
    using running = machine.boot();
    applyPin(running.system, planPin(running.world(), a, true));
  }
  const b = await upgrade("2");
  const c = await upgrade("3");
  const d = await upgrade("4");
  {
    using running = machine.boot();
    expect(menu(running)).toBe("4 3 1");
    expect([a, c, d].map((id) => isWhole(running, id))).toEqual([true, true, true]);
    expect(isGone(b)).toBe(true);
    applyRollback(running, planRollback(running.world()));
  }
  {
    using running = machine.boot();
    expect(running.booted.id).toBe(c);
    expect(menu(running)).toBe("3 4 1");
    clean(running);
    expect(isWhole(running, a)).toBe(true);
    expect(running.world().problems).toEqual([]);
    // It is a deployment like any other, which the next update leaves behind.
    applyPin(running.system, planPin(running.world(), a, false));
    expect(isWhole(running, a)).toBe(true);
  }
  const e = await upgrade("5");
  using last = machine.boot();
  expect(last.booted.id).toBe(e);
  expect(menu(last)).toBe("5 3");
  expect([isGone(a), isGone(d)]).toEqual([true, true]);
});

test("deployments go one by one, and take with them only what nobody else uses", async () => {
  writeScratchImage(imagePath, { version: "1", etc: { f: "1" } });
  const { id: a } = await installScratch(machine, imagePath);
  {
    using running = machine.boot();
    applyPin(running.system, planPin(running.world(), a, true));
  }
  const b = await upgrade("2");
  const c = await stageAndShutDown("3");
  using running = machine.boot(0, false);
  const d = await stage(running, "4");
  const remove = (id: string) => {
    const world = running.world();
    return applyDelete(running, world, planDelete(world, id));
  };
  expect(() => remove(a)).toThrow("is pinned");
  expect(() => remove(c)).toThrow("Cannot delete currently booted deployment");
  applyPin(running.system, planPin(running.world(), a, false));
  expect(remove(a).imagesPruned).toBeGreaterThan(0);
  expect(isGone(a)).toBe(true);
  expect([b, c].map((id) => isWhole(running, id))).toEqual([true, true]);
  expect(running.world().stagedFile?.id).toBe(d);
  remove(d);
  expect([isGone(d), running.world().stagedFile, running.world().staged]).toEqual([
    true,
    null,
    null,
  ]);
  // The running deployment is on trial: b is the only way back.
  expect(() => remove(b)).toThrow("falls back to");
  expect(isWhole(running, b)).toBe(true);
  expect(readdirSync(join(machine.disk, "state/deploy")).sort()).toEqual([b, c].sort());
  expect(collectGarbage(running.repo, { roots: [b, c], dryRun: true }).objectsRemoved).toBe(0);
});
