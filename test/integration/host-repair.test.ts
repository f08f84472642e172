// Cleaning and mending the host side of machines in a directory: what an interrupted collection leaves, what a
// repair makes of damage, and kernels with names from before bootc 1.16.

import { execFileSync } from "node:child_process";
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { checkHostSide } from "../../updater/cli/fsck-host.ts";
import { applyCleanup, readCleanupScope, removeArtefacts } from "../../updater/deploy/cleanup.ts";
import { type CleanupPlan, planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { inspectHost, repairHost } from "../../updater/deploy/host-repair.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import { copyMachine, makeThree, type ThreeDeployments } from "../support/broken-world.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";

let original: ScratchMachine;
let ids: ThreeDeployments;
let machine: ScratchMachine;
let running: RunningMachine;
beforeAll(async () => {
  original = new ScratchMachine();
  ids = await makeThree(original);
});
afterAll(() => original?.[Symbol.dispose]());
beforeEach(() => {
  machine = copyMachine(original);
  running = machine.resume(ids.booted);
});
afterEach(() => {
  running[Symbol.dispose]();
  machine[Symbol.dispose]();
});

const kernelOf = (id: string) => join(machine.esp, "EFI/Linux", `bootc_composefs-${id}`);
const entries = join("loader", "entries");
const listEntries = () => readdirSync(join(machine.esp, entries)).toSorted();
const entryOf = (id: string) =>
  listEntries().find((name) =>
    readFileSync(join(machine.esp, entries, name), "utf8").includes(`composefs=?${id}`),
  )!;
const kinds = () => inspectHost(running, running.booted, false).map(({ kind }) => kind);

function repair(): readonly string[] {
  const { steps, remaining } = repairHost(running, running.booted, false, () => {});
  expect(steps.filter(({ error }) => error !== null)).toEqual([]);
  expect(remaining).toEqual([]);
  return steps.map(({ step }) => step.kind);
}

describe("a repair", () => {
  test("copies a damaged kernel and a missing one again", () => {
    truncateSync(join(kernelOf(ids.rollback), "initrd"), 10);
    expect(kinds()).toEqual(["kernel-damaged"]);
    expect(repair()).toEqual(["copy-kernel"]);
    rmSync(kernelOf(ids.rollback), { recursive: true });
    expect(kinds()).toEqual(["kernel-missing"]);
    expect(repair()).toEqual(["copy-kernel"]);
  });

  test.each<[string, (path: string) => void]>([
    ["empty", (path) => writeFileSync(path, "")],
    ["cut off", (path) => truncateSync(path, 40)],
  ])("writes an entry again that is %s, so that a rollback works", (_, damage) => {
    const name = entryOf(ids.rollback);
    damage(join(machine.esp, entries, name));
    expect(kinds()).toEqual(["entry-broken"]);
    // Until then nothing it may need is cleaned away.
    const world = running.world();
    const plan = planCleanup(world, readCleanupScope(running.repo, world));
    expect(plan).toMatchObject({ kernels: [], states: [] });
    expect(repair()).toEqual(["write-entry"]);
    expect(entryOf(ids.rollback)).toBe(name);
    applyRollback(running, planRollback(running.world()));
    running[Symbol.dispose]();
    running = machine.boot();
    expect(running.booted.id).toBe(ids.rollback);
  });

  test("writes the running deployment's entry again, with its arguments", () => {
    const before = readFileSync(join(machine.esp, entries, entryOf(ids.booted)), "utf8");
    rmSync(join(machine.esp, entries, entryOf(ids.booted)));
    expect(kinds()).toContain("entry-missing");
    repairHost(running, running.booted, false, () => {});
    const after = readFileSync(join(machine.esp, entries, entryOf(ids.booted)), "utf8");
    const line = (text: string, key: string) => new RegExp(`^${key} (.*)$`, "m").exec(text)?.[1];
    for (const key of ["linux", "initrd", "version", "title"]) {
      expect(line(after, key)).toBe(line(before, key));
    }
    expect(line(after, "options")?.split(" ").toSorted()).toEqual(
      line(before, "options")?.split(" ").toSorted(),
    );
  });

  test.each(["loader", entries])(
    "makes the lost directory %s again, with its entry",
    async (lost) => {
      rmSync(join(machine.esp, lost), { recursive: true });
      expect(kinds()).toContain("entry-missing");
      const { steps } = repairHost(running, running.booted, false, () => {});
      expect(steps.filter(({ error }) => error !== null)).toEqual([]);
      expect(listEntries()).toEqual([entryOf(ids.booted)]);
      const layout = join(machine.directory, "os.oci");
      writeScratchImage(layout, { version: "4" });
      expect(await updateScratch(running, layout)).toMatchObject({ kind: "staged" });
      finalizeStaged(running, running.world());
      expect(listEntries()).toHaveLength(2);
    },
  );

  test.each<[string, (path: string) => void]>([
    ["a file", (path) => writeFileSync(path, "")],
    ["a link to nothing", (path) => symlinkSync("nowhere", path)],
    ["a loop of links", (path) => symlinkSync("bootc", path)],
    ["a FIFO", (path) => execFileSync("mkfifo", [path])],
  ])("removes %s where records of starts are kept, so that updates work", async (_, make) => {
    const path = join(machine.disk, "state/bootc");
    rmSync(path, { recursive: true });
    make(path);
    expect(running.world().problems.join()).toContain('state/bootc" is not a directory');
    const layout = join(machine.directory, "os.oci");
    writeScratchImage(layout, { version: "4" });
    await expect(updateScratch(running, layout)).rejects.toMatchObject({ kind: "state" });
    expect([...new Set(repair())]).toEqual(["remove"]);
    expect(running.world().problems).toEqual([]);
    expect(await updateScratch(running, layout)).toMatchObject({ kind: "staged" });
    finalizeStaged(running, running.world());
  });

  test("writes an origin again, all but where the image is from", () => {
    const { origin } = statePaths(machine.disk, ids.rollback);
    const before = readFileSync(origin, "utf8");
    rmSync(origin);
    expect(kinds()).toEqual(["origin-broken"]);
    expect(repair()).toEqual(["write-origin"]);
    const lines = before.split("\n").filter((line) => !/^\[origin\]|^container/.test(line));
    expect(readFileSync(origin, "utf8")).toBe(lines.join("\n"));
  });

  test("takes back the word that a restart is called for, with what was staged", () => {
    const word = join(machine.run, "reboot-required");
    writeFileSync(word, "bootc: Reboot required for image: x\n");
    rmSync(statePaths(machine.disk, ids.staged).directory, { recursive: true });
    const ignore = () => {};
    const terminal = {
      ...{ write: ignore, line: ignore, note: ignore, progress: ignore },
      ...{ columns: null, isInteractive: false },
    };
    const session = { ...running, problems: [], [Symbol.dispose]: ignore };
    const options = { metadataOnly: false, repair: true, dryRun: true };
    checkHostSide(terminal, session, options);
    expect(existsSync(word)).toBe(true);
    expect(checkHostSide(terminal, session, { ...options, dryRun: false }).findings).toEqual([]);
    expect(existsSync(word)).toBe(false);
  });

  test("gives up a staged deployment that cannot be applied; the next update stages it again", async () => {
    rmSync(statePaths(machine.disk, ids.staged).directory, { recursive: true });
    expect(kinds()).toContain("staged-unusable");
    expect(() => finalizeStaged(running, running.world())).toThrow("stage it again");
    expect(repair()).toContain("drop-staged");
    expect(await updateScratch(running, join(machine.directory, "os.oci"))).toMatchObject({
      kind: "staged",
      id: ids.staged,
    });
    expect(kinds()).toEqual([]);
  });
});

test("a collection that was interrupted anywhere is finished by the next", () => {
  rmSync(join(machine.run, "composefs"), { recursive: true });
  const world = running.world();
  const plan = planCleanup(world, readCleanupScope(running.repo, world));
  expect(plan).toMatchObject({ stagedEntries: true, states: [ids.staged] });
  const collect = (each: ScratchMachine) => {
    using resumed = each.resume(ids.booted);
    const now = resumed.world();
    applyCleanup(resumed, planCleanup(now, readCleanupScope(resumed.repo, now)), { dryRun: false });
    return observe(each);
  };
  using undisturbed = copyMachine(machine);
  const wanted = collect(undisturbed);
  for (const part of prefixes(plan)) {
    using cut = copyMachine(machine);
    {
      using begun = cut.resume(ids.booted);
      removeArtefacts(begun, part);
    }
    expect(collect(cut)).toEqual(wanted);
  }
});

/** The plan, stopped after each kind of thing. */
function prefixes(plan: CleanupPlan): readonly CleanupPlan[] {
  const nothing: CleanupPlan = { ...plan, stagedEntries: false, kernels: [], states: [] };
  return [
    nothing,
    { ...nothing, stagedEntries: plan.stagedEntries },
    { ...nothing, stagedEntries: plan.stagedEntries, kernels: plan.kernels },
    { ...plan },
  ];
}

function observe(each: ScratchMachine) {
  const list = (path: string) => (existsSync(path) ? readdirSync(path).toSorted() : []);
  return {
    kernels: list(join(each.esp, "EFI/Linux")),
    loader: list(join(each.esp, "loader")),
    states: list(join(each.disk, "state/deploy")),
    images: list(join(each.disk, "composefs/images")),
    streams: list(join(each.disk, "composefs/streams")),
    objects: list(join(each.disk, "composefs/objects")).flatMap((name) =>
      list(join(each.disk, "composefs/objects", name)),
    ),
  };
}

describe("names from before bootc 1.16", () => {
  /** As bootc 1.15 would have left this machine. */
  function makeOld(): void {
    rmSync(join(machine.run, "composefs"), { recursive: true });
    for (const id of [ids.rollback, ids.booted]) {
      renameSync(kernelOf(id), join(machine.esp, "EFI/Linux", id));
      const path = join(machine.esp, entries, entryOf(id));
      const text = readFileSync(path, "utf8");
      writeFileSync(path, text.replaceAll(`bootc_composefs-${id}`, id));
      const { origin, imageRecord } = statePaths(machine.disk, id);
      writeFileSync(origin, readFileSync(origin, "utf8").replace(/\[image\]\n.*\n/, ""));
      const config = { digest: "sha256:00" };
      writeFileSync(imageRecord, JSON.stringify({ config: {}, manifest: { config, layers: [] } }));
    }
  }

  test("are read; nothing of them is cleaned away", () => {
    makeOld();
    const world = running.world();
    expect(world.problems).toEqual([]);
    expect(world.live.map(({ artefact }) => artefact)).toEqual([ids.booted, ids.rollback]);
    const plan = planCleanup(world, readCleanupScope(running.repo, world));
    expect(plan.kernels).toEqual([`bootc_composefs-${ids.staged}`]);
    expect(plan.states).toEqual([ids.staged]);
    expect(plan.tags).toHaveLength(1);
  });

  test("are migrated by a repair, which also completes the origins", () => {
    makeOld();
    expect(repair()).toEqual(
      expect.arrayContaining(["rename-artefacts", "drop-staged", "write-origin"]),
    );
    const kernels = readdirSync(join(machine.esp, "EFI/Linux"));
    expect(kernels.every((name) => name.startsWith("bootc_composefs-"))).toBe(true);
    running[Symbol.dispose]();
    running = machine.boot();
    expect(running.booted.id).toBe(ids.booted);
  });

  test("are migrated before the next staging", async () => {
    makeOld();
    const path = join(machine.directory, "os.oci");
    writeScratchImage(path, { version: "4" });
    expect(await updateScratch(running, path)).toMatchObject({ kind: "staged" });
    finalizeStaged(running, running.world());
    const names = listEntries().map((name) =>
      readFileSync(join(machine.esp, entries, name), "utf8"),
    );
    expect(names.join("")).not.toMatch(/Linux\/[0-9a-f]{128}/);
    running[Symbol.dispose]();
    running = machine.boot();
    // Of the deployment that ran; the new one's is complete.
    expect(kinds()).toEqual(["origin-incomplete"]);
  });
});
