// Whatever lies broken around the running deployment: every verb works or says why not, and what runs is
// never at risk; `fsck --repair` leaves no more problems than there were.

import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { applyCleanup, readCleanupScope } from "../../updater/deploy/cleanup.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { applyDelete } from "../../updater/deploy/delete.ts";
import { planDelete } from "../../updater/deploy/delete-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { inspectHost, planHostRepair, repairHost } from "../../updater/deploy/host-repair.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import {
  ADDITIONS,
  copyMachine,
  DAMAGES,
  listTargets,
  makeThree,
  type ThreeDeployments,
} from "../support/broken-world.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";

let original: ScratchMachine;
let ids: ThreeDeployments;
beforeAll(async () => {
  original = new ScratchMachine();
  ids = await makeThree(original);
});
afterAll(() => original?.[Symbol.dispose]());

const VERBS = {
  status: (running) => void makeHostState(running.system, running.repo, running.world()),
  rollback: (running) => applyRollback(running, planRollback(running.world())),
  gc: (running) => {
    const world = running.world();
    const plan = planCleanup(world, readCleanupScope(running.repo, world));
    const announced = applyCleanup(running, plan, { dryRun: true });
    expect(applyCleanup(running, plan, { dryRun: false })).toEqual(announced);
    const after = running.world();
    const rest = planCleanup(after, readCleanupScope(running.repo, after));
    expect({ ...rest, tags: [], roots: [], kept: [] }).toEqual({
      kernels: [],
      ukis: [],
      globalAddons: [],
      strays: [],
      stagedEntries: false,
      states: [],
      leftovers: [],
      stagedFile: false,
      tags: [],
      roots: [],
      kept: [],
    });
  },
  delete: (running) => {
    const world = running.world();
    applyDelete(running, world, planDelete(world, ids.rollback));
  },
  finalize: (running) => void finalizeStaged(running, running.world()),
  upgrade: async (running, machine) => {
    const path = join(machine.directory, "os.oci");
    writeScratchImage(path, { version: "4" });
    await updateScratch(running, path);
  },
  check: (running) => void planHostRepair(inspectHost(running, running.booted, false)),
  repair: (running) => {
    const before = inspectHost(running, running.booted, false);
    const { remaining, steps } = repairHost(running, running.booted, false, () => {});
    expect(remaining.length, JSON.stringify({ before, steps, remaining })).toBeLessThanOrEqual(
      before.length,
    );
  },
} satisfies Readonly<
  Record<string, (running: RunningMachine, machine: ScratchMachine) => void | Promise<void>>
>;
type Verb = keyof typeof VERBS;

/** What the running deployment needs to start again. */
function snapshot(machine: ScratchMachine) {
  const { etc, var: path } = statePaths(machine.disk, ids.booted);
  const kernel = join(machine.esp, "EFI/Linux", `bootc_composefs-${ids.booted}`);
  return {
    etc: statSync(etc).isDirectory() && readdirSync(etc).toSorted(),
    var: statSync(path).isDirectory(),
    kernel: readdirSync(kernel).map((name) => readFileSync(join(kernel, name), "utf8")),
    image: statSync(join(machine.disk, "composefs/images", ids.booted)).size,
  };
}

/** Entries that start it: an intact one stays in every menu. */
function bootedEntries(machine: ScratchMachine): number {
  const path = join(machine.esp, "loader/entries");
  if (!existsSync(path)) return 0;
  return readdirSync(path).filter(
    (name) =>
      name.endsWith(".conf") &&
      lstatSync(join(path, name)).isFile() &&
      readFileSync(join(path, name), "utf8").includes(`composefs=?${ids.booted}`),
  ).length;
}

async function play(
  damage: (machine: ScratchMachine) => void,
  verbs: readonly Verb[],
): Promise<void> {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  damage(machine);
  const before = snapshot(machine);
  const hadEntry = bootedEntries(machine) > 0;
  for (const verb of verbs) {
    try {
      await VERBS[verb](running, machine);
    } catch (error) {
      if (!(error as { kind?: string }).kind) throw error;
      expect(error).toMatchObject({
        kind: expect.stringMatching(/^(state|format|integrity|syscall|unsupported)$/),
      });
      expect(describeError(error)).not.toMatch(/undefined|null|\[object|TypeError|\n/);
    }
    expect(snapshot(machine), verb).toEqual(before);
    if (hadEntry) expect(bootedEntries(machine), verb).toBeGreaterThan(0);
  }
}

const allVerbs = Object.keys(VERBS) as Verb[];

test("undamaged: nothing to report, nothing to mend", () => {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  expect(inspectHost(running, running.booted, false)).toEqual([]);
  expect(running.world().problems).toEqual([]);
});

const everything = process.env["TEST_ALL"] === "1";

test("an entry of an unknown digest is a problem, not a deployment", () => {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  ADDITIONS["entry of an unknown digest"](machine);
  const state = makeHostState(running.system, running.repo, running.world());
  expect(state.problems).toEqual([
    expect.stringMatching(/^Boot entry "bootc_fedora-9-1.conf" starts deployment eeee.* no state$/),
  ]);
  expect(state).toMatchObject({ rollback: { id: ids.rollback }, others: [] });
});

test("files that are no entries are in every menu that follows", async () => {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  const path = join(machine.esp, "loader/entries/memtest.conf.off");
  writeFileSync(path, "title M\n");
  for (const verb of ["finalize", "rollback", "upgrade", "finalize"] as const) {
    await VERBS[verb](running, machine);
    expect(readFileSync(path, "utf8"), verb).toBe("title M\n");
  }
});

test.each([
  ["esp/EFI/Linux/bootc", DAMAGES.empty],
  ["esp/EFI/Linux/bootc", DAMAGES.loop],
  ["esp/loader/addons", DAMAGES.empty],
])(
  "what is no directory at %s is a problem and stops no verb but those that remove",
  async (place, inflict) => {
    using machine = copyMachine(original);
    using running = machine.resume(ids.booted);
    inflict(join(machine.directory, place));
    for (const verb of [
      "status",
      "check",
      "repair",
      "gc",
      "upgrade",
      "finalize",
      "rollback",
    ] as const) {
      await VERBS[verb](running, machine);
    }
  },
);

test("an origin that does not say where its image is from is a problem", () => {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  const origin = join(machine.disk, "state/deploy", ids.rollback, `${ids.rollback}.origin`);
  writeFileSync(origin, "[origin]\nrefspec=fedora/x\n");
  const state = makeHostState(running.system, running.repo, running.world());
  expect(state).toMatchObject({ rollback: { id: ids.rollback, image: null } });
  expect(state.problems).toEqual([expect.stringContaining("no image reference in its origin")]);
});

test("what runs is shown without its origin, too", () => {
  using machine = copyMachine(original);
  using running = machine.resume(ids.booted);
  rmSync(join(machine.disk, "state/deploy", ids.booted, `${ids.booted}.origin`));
  const state = makeHostState(running.system, running.repo, running.world());
  expect(state).toMatchObject({ booted: { id: ids.booted, image: null, bootType: "bls" } });
  expect(state.problems.join()).toContain("no usable origin");
});

describe("one damage, every verb in turn", () => {
  const verbs = ["status", "gc", "rollback", "delete", "finalize", "upgrade", "repair"] as const;
  test.each(Object.entries(DAMAGES))("%s", async (name, inflict) => {
    const cases = listTargets(original, ids).flatMap((target) =>
      verbs.map((verb) => ({ place: target.replace(original.directory, ""), verb })),
    );
    // A fifteenth of them, each time others for each damage.
    const picked = cases.filter((_, i) => everything || i % 15 === name.length);
    for (const { place, verb } of picked) {
      await play((machine) => inflict(join(machine.directory, place)), [verb, "repair", "status"]);
    }
  });
});

test.each(Object.entries(ADDITIONS))("%s", async (_, add) => {
  const picked = everything ? allVerbs : (["gc", "upgrade", "repair"] as const);
  for (const verb of picked) await play((machine) => add(machine, ids), [verb, "gc"]);
});

test("any damage, any verbs", async () => {
  const damage = fc.tuple(fc.nat(), fc.constantFrom(...Object.values(DAMAGES)));
  await fc.assert(
    fc.asyncProperty(
      fc.array(damage, { minLength: 1, maxLength: 5 }),
      fc.subarray(Object.values(ADDITIONS)),
      fc.array(fc.constantFrom(...allVerbs), { minLength: 1, maxLength: 4 }),
      async (damages, additions, verbs) => {
        const apply = (machine: ScratchMachine) => {
          const targets = listTargets(original, ids);
          for (const add of additions) add(machine, ids);
          for (const [index, inflict] of damages) {
            const place = targets[index % targets.length]!.replace(original.directory, "");
            inflict(join(machine.directory, place));
          }
        };
        await play(apply, verbs);
      },
    ),
    { numRuns: everything ? 600 : 25 },
  );
});
