// Every system call of every verb that changes deployments fails once, and from some call on always: a full
// disk (ENOSPC) and a broken one (EIO). The verb says so in one line, the machine still boots the old or the
// new, whole, and when the disk is well again the next run finishes.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { describeError } from "../../shared/error.ts";
import { CALL_FAULTS, type CallFault, injectFault, judgeError } from "../sim/call-faults.ts";
import {
  CrashMachine,
  compareMachines,
  copyFirmware,
  describeMachine,
  findBootFaults,
  makeScratch,
  menuOf,
  removeScratch,
  restoreFirmware,
  restoreMachine,
  type SavedMachine,
  saveMachine,
  writeVersions,
} from "../sim/crash-lab.ts";
import { SCENARIOS, type Scenario, VERSIONS } from "../sim/crash-scenarios.ts";
import { ContentStore } from "../sim/observed-tree.ts";
import type { CallHooks } from "../sim/system-calls.ts";

const control = vi.hoisted(() => ({ hooks: null as CallHooks | null }));
vi.mock("../../shared/sys/libc.ts", async (load) => {
  const { interceptCalls } = await import("../sim/system-calls.ts");
  return interceptCalls(await load(), control);
});

/** Of the complete run, on a machine that others use. */
const LIMIT_MS = 3_600_000;
const ALL = process.env["TEST_ALL"] !== undefined;
/** Of the calls of each verb, one in so many fails; a whole update makes many. */
const everyOf = (verb: string) => (STEPS.get(verb) ?? [9, 1])[ALL ? 1 : 0]!;
const STEPS: ReadonlyMap<string, readonly [some: number, all: number]> = new Map([
  ["stage", [47, 1]],
  ["edit: image", [97, 7]],
  ["retry what failed", [97, 7]],
]);

let scratch: string;
beforeAll(() => {
  scratch = makeScratch();
  writeVersions(scratch, VERSIONS);
});
afterAll(() => removeScratch(scratch));

interface Start {
  readonly saved: SavedMachine;
  readonly store: ContentStore;
  readonly bootedId: string;
  readonly before: ReturnType<typeof describeMachine>;
  readonly menus: readonly string[];
  readonly final: ReturnType<typeof describeMachine>;
}

async function prepare(scenario: Scenario): Promise<Start> {
  const store = new ContentStore();
  using machine = new CrashMachine();
  using running = await scenario.prepare(machine, scratch);
  const saved = saveMachine(machine, store);
  copyFirmware(machine, join(scratch, "firmware"));
  const before = describeMachine(machine);
  const first = menuOf(machine);
  await scenario.verb(running, scratch);
  const menus = [first, menuOf(machine)];
  await scenario.finish(machine, running, scratch);
  const final = describeMachine(machine);
  return { saved, store, bootedId: running.booted.id, before, menus, final };
}

interface Trial {
  readonly faults: readonly string[];
  readonly reached: boolean;
  readonly failed: boolean;
}

/** The verb with the fault, then a look, then the next run. */
async function tryOnce(
  scenario: Scenario,
  start: Start,
  fault: CallFault,
  at: number,
): Promise<Trial> {
  const faults: string[] = [];
  using machine = restoreMachine(start.saved, start.store);
  restoreFirmware(machine, join(scratch, "firmware"));
  const injection = injectFault(machine.esp, fault, at);
  let failure: unknown = null;
  {
    using running = machine.resume(start.bootedId);
    control.hooks = injection;
    try {
      await scenario.verb(running, scratch);
    } catch (error) {
      failure = error;
    } finally {
      control.hooks = null;
    }
  }
  if (failure !== null) faults.push(...judgeError(failure, describeError));
  if (!start.menus.includes(menuOf(machine)))
    faults.push(`the menu is neither: ${menuOf(machine)}`);
  const where = `${fault.name} at call ${at} (${injection.name})`;
  const reached = injection.calls >= at;
  const sum = () => ({
    faults: faults.map((text) => `${where}: ${text}`),
    reached,
    failed: failure !== null,
  });
  if (faults.length > 0) return sum();
  // Half of them go on in the same boot, half after a power cut.
  using running = at % 2 === 0 ? machine.resume(start.bootedId) : machine.boot(0, false);
  for (const entry of running.world().live) {
    faults.push(...findBootFaults(running, entry).map((each) => `${entry.fileName}: ${each}`));
  }
  if (faults.length === 0) faults.push(...(await finish(scenario, start, machine, running)));
  return sum();
}

async function finish(
  scenario: Scenario,
  start: Start,
  machine: CrashMachine,
  running: Parameters<Scenario["finish"]>[1],
): Promise<string[]> {
  try {
    await scenario.finish(machine, running, scratch);
    return compareMachines(describeMachine(machine), start.final);
  } catch (error) {
    return [`the next run: ${describeError(error)}`];
  }
}

// The two verbs after each other have no calls of their own.
const SINGLE = SCENARIOS.filter(({ name }) => name !== "stage and finalize");

test.each(SINGLE.map((scenario) => [scenario.name, scenario] as const))(
  "%s, with every call failing",
  async (name, scenario) => {
    const started = performance.now();
    const start = await prepare(scenario);
    const faults: string[] = [];
    const every = everyOf(name);
    let [points, failed] = [0, 0];
    for (const fault of CALL_FAULTS) {
      for (let at = 1; ; at += every) {
        const trial = await tryOnce(scenario, start, fault, at);
        if (!trial.reached) break;
        points += 1;
        if (trial.failed) failed += 1;
        faults.push(...trial.faults);
      }
    }
    const report = process.env["CRASH_REPORT"];
    const ms = Math.round(performance.now() - started);
    if (report !== undefined) {
      const line = `${name}: ${points} failing calls, ${failed} failed the verb, ${faults.length} faults, ${ms} ms`;
      appendFileSync(report, `${[line, ...faults].join("\n")}\n`);
    }
    expect(faults).toEqual([]);
    expect(failed).toBeGreaterThan(0);
  },
  LIMIT_MS,
);
