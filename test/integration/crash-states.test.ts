// Interruptions of every verb that changes deployments (issue 5): the real code runs with its system calls
// written down, a model of the disks says what a power cut at any of them may leave, and what SIGKILL does.
// Each such machine must boot the old or the new, whole, and the next run must finish.

import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
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
  writeVersions,
} from "../sim/crash-lab.ts";
import { type CrashState, createRecorder, type Recording } from "../sim/crash-recorder.ts";
import { SCENARIOS, type Scenario, VERSIONS } from "../sim/crash-scenarios.ts";
import { makeRandom } from "../sim/seeded-random.ts";
import type { CallHooks } from "../sim/system-calls.ts";
import { UNIFIED_SCENARIOS, writeSealedVersions } from "../sim/unified-scenarios.ts";

const control = vi.hoisted(() => ({ hooks: null as CallHooks | null }));
vi.mock("../../shared/sys/libc.ts", async (load) => {
  const { interceptCalls } = await import("../sim/system-calls.ts");
  return interceptCalls(await load(), control);
});

/** Of the complete run, on a machine that others use. */
const LIMIT_MS = 3_600_000;
const ALL = process.env["TEST_ALL"] !== undefined;
const SEED = Number(process.env["CRASH_SEED"] ?? 1);

let scratch: string;
beforeAll(async () => {
  scratch = makeScratch();
  writeVersions(scratch, VERSIONS);
  await writeSealedVersions(scratch, VERSIONS);
});
afterAll(() => removeScratch(scratch));

interface Reference {
  readonly bootedId: string;
  /** Menus before and after the verb. */
  readonly menus: readonly string[];
  readonly final: ReturnType<typeof describeMachine>;
  readonly recording: Recording;
}

/** Runs the verb undisturbed, once to see its end and once to write its calls down. */
async function record(scenario: Scenario): Promise<Reference> {
  using machine = new CrashMachine();
  using running = await scenario.prepare(machine, scratch);
  copyFirmware(machine, join(scratch, "firmware"));
  const before = menuOf(machine);
  const random = makeRandom(SEED);
  const recorder = createRecorder(machine, ALL ? 8 : 2, random);
  control.hooks = recorder.hooks;
  try {
    await scenario.verb(running, scratch);
  } finally {
    control.hooks = null;
  }
  const recording = recorder.finish();
  const menus = [before, menuOf(machine)];
  await scenario.finish(machine, running, scratch);
  return { bootedId: running.booted.id, menus, final: describeMachine(machine), recording };
}

/** What a verb did is safe when it returns. */
function findUnsafe({ recording, menus }: Reference): string[] {
  using machine = restoreMachine(recording.afterwards, recording.store);
  return menuOf(machine) === menus[1] ? [] : ["the verb returned, but its menu is not safe"];
}

/** Old or new, whole; everything else is a fault. */
async function judge(scenario: Scenario, reference: Reference, state: CrashState, finish: boolean) {
  const faults: string[] = [];
  using machine = restoreMachine(state, reference.recording.store);
  const menu = menuOf(machine);
  if (!reference.menus.includes(menu)) faults.push(`the menu is neither old nor new: ${menu}`);
  if (state.kind === "kill") restoreFirmware(machine, join(scratch, "firmware"));
  try {
    using running =
      state.kind === "kill" ? machine.resume(reference.bootedId) : machine.boot(0, false);
    for (const entry of running.world().live) {
      const found = findBootFaults(running, entry);
      faults.push(...found.map((fault) => `${entry.fileName}: ${fault}`));
    }
    if (!finish || faults.length > 0) return faults;
    await scenario.finish(machine, running, scratch);
    faults.push(...compareMachines(describeMachine(machine), reference.final));
  } catch (error) {
    faults.push(`the next run: ${(error as Error).message}`);
  }
  return faults;
}

test.each(
  [...SCENARIOS, ...UNIFIED_SCENARIOS].map((scenario) => [scenario.name, scenario] as const),
)(
  "%s, interrupted anywhere",
  async (name, scenario) => {
    const started = performance.now();
    const reference = await record(scenario);
    const { states, callCount } = reference.recording;
    const recordMs = performance.now() - started;
    const faults: string[] = [];
    const random = makeRandom(SEED + 1);
    const every = ALL ? 1 : Math.max(1, Math.floor(states.length / 40));
    let finished = 0;
    for (const state of states) {
      const finish = random(every) === 0;
      if (finish) finished += 1;
      const found = await judge(scenario, reference, state, finish);
      faults.push(...found.map((fault) => `${state.kind} after ${state.label}: ${fault}`));
    }
    const { afterwards } = reference.recording;
    faults.push(...(await judge(scenario, reference, afterwards, true)));
    faults.push(...findUnsafe(reference));
    const kinds = Object.groupBy(states, ({ kind }) => kind);
    const counts = Object.entries(kinds).map(([kind, list]) => `${kind} ${list.length}`);
    const ms = Math.round(performance.now() - started);
    process.env["CRASH_REPORT"] &&
      (await import("node:fs")).appendFileSync(
        process.env["CRASH_REPORT"],
        `${name}: ${callCount} calls, ${states.length} states (${counts.join(", ")}), ${finished} finished, ${faults.length} faults, ${Math.round(recordMs)} + ${ms} ms\n${faults.join("\n")}\n`,
      );
    expect(faults).toEqual([]);
    expect(states.length).toBeGreaterThan(3);
  },
  LIMIT_MS,
);
