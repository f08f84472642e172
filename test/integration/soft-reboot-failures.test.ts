// The shutdown of a prepared soft reboot, with system calls of bootc failing (ENOSPC, EIO), once and from some call on
// always. systemd then enters the new deployment, made live and with its merged /etc, or the running one again with
// the old menu, or the machine restarts as a whole; and a later start finishes the update.

import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { describeError } from "../../shared/error.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { mountNextRoot, readNextRoot } from "../../updater/deploy/next-root.ts";
import { decideSoftReboot, finishRunning } from "../../updater/deploy/soft-reboot.ts";
import { CALL_FAULTS, type CallFault, injectFault, judgeError } from "../sim/call-faults.ts";
import {
  CrashMachine,
  makeScratch,
  removeScratch,
  restoreMachine,
  type SavedMachine,
  saveMachine,
  update,
} from "../sim/crash-lab.ts";
import { ContentStore } from "../sim/observed-tree.ts";
import type { CallHooks } from "../sim/system-calls.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import type { RunningMachine } from "../support/scratch-machine.ts";
import { bootReally, PROGRAM, unmountRoots } from "../support/soft-reboot-machine.ts";

const control = vi.hoisted(() => ({ hooks: null as CallHooks | null }));
vi.mock("../../shared/sys/libc.ts", async (load) => {
  const { interceptCalls } = await import("../sim/system-calls.ts");
  return interceptCalls(await load(), control);
});

/** Of the calls, one in so many fails. */
const EVERY = process.env["TEST_ALL"] === undefined ? 101 : 7;
const UNIT = "usr/lib/systemd/system/soft-reboot.target";

let scratch: string;
beforeAll(() => {
  scratch = makeScratch();
  const folders = ["usr/lib/systemd/", "usr/lib/systemd/system/", "usr/lib/composefs/"];
  for (const version of ["1", "2"]) {
    writeScratchImage(join(scratch, `os${version}`), {
      version,
      kernel: "same",
      etc: { hosts: "image\n", [`from-${version}`]: version },
      members: [
        ...folders.map((name) => ({ name, type: "5" as const, mode: 0o755 })),
        { name: "usr/lib/systemd/systemd", content: "#!/bin/sh\n", mode: 0o755 },
        { name: UNIT, content: "[Unit]\n" },
      ],
    });
  }
});
afterAll(() => removeScratch(scratch));

interface Start {
  readonly saved: SavedMachine;
  readonly store: ContentStore;
  readonly old: string;
  readonly next: string;
}

/** Version 1 is installed, version 2 staged. */
async function stage(): Promise<Start> {
  const store = new ContentStore();
  using machine = new CrashMachine();
  const { id: old } = await installScratch(machine, join(scratch, "os1"));
  using running = machine.boot();
  const outcome = await update(running, join(scratch, "os2"));
  if (outcome.kind !== "staged") throw new Error(outcome.kind);
  return { saved: saveMachine(machine, store), store, old, next: outcome.id };
}

/** Version 1 runs, its root is mounted, version 2 is staged and prepared, and then something changes in /etc. */
function prepare(machine: CrashMachine, { next }: Start): RunningMachine {
  const running = bootReally(machine);
  // A start takes the note of staging away; here it was staged since.
  mkdirSync(join(machine.run, "composefs"), { recursive: true });
  const note = JSON.stringify({ depl_id: next, finalization_locked: false });
  writeFileSync(join(machine.run, "composefs/staged-deployment"), note);
  const plan = decideSoftReboot(running, running.world(), next);
  if (plan.kind === "refused") throw new Error(plan.reasons.join());
  mountNextRoot(running.system, PROGRAM, plan);
  writeFileSync(join(running.system.root, "etc/local"), "kept");
  return running;
}

interface Outcome {
  readonly reached: boolean;
  readonly end: "new" | "old" | "restart";
  readonly faults: readonly string[];
}

async function tryOnce(start: Start, fault: CallFault, at: number): Promise<Outcome> {
  using machine = restoreMachine(start.saved, start.store);
  try {
    return await failShutdown(machine, start, fault, at);
  } finally {
    unmountRoots(machine);
  }
}

async function failShutdown(
  machine: CrashMachine,
  start: Start,
  fault: CallFault,
  at: number,
): Promise<Outcome> {
  const faults: string[] = [];
  const injection = injectFault(machine.esp, fault, at);
  let forced = 0;
  let end: Outcome["end"];
  {
    using running = prepare(machine, start);
    const tools = {
      program: PROGRAM,
      shutdown: "soft-reboot",
      forceReboot: () => void forced++,
    } as const;
    const world = running.world();
    control.hooks = injection;
    try {
      finishRunning(running, world, tools);
    } catch (error) {
      faults.push(...judgeError(error, describeError));
    } finally {
      control.hooks = null;
    }
    const entered = readNextRoot(running.system, PROGRAM)?.id ?? null;
    end = forced > 0 ? "restart" : entered === start.next ? "new" : "old";
    faults.push(...judgeNextRoot(machine, start, running, forced > 0 ? "" : entered));
  }
  unmountRoots(machine);
  faults.push(...(await finishLater(machine, start)));
  const where = `${fault.name} at call ${at} (${injection.name}), ${end}`;
  return {
    reached: injection.calls >= at,
    end,
    faults: faults.map((text) => `${where}: ${text}`),
  };
}

/** `entered`: what systemd goes on in; "": the machine restarts. */
function judgeNextRoot(
  machine: CrashMachine,
  { next, old }: Start,
  running: RunningMachine,
  entered: string | null,
): string[] {
  const first = running.world().live[0]?.deploymentId;
  if (first !== old && first !== next) return ["the menu starts neither"];
  if (entered === "") return [];
  if (entered !== old && entered !== next) return ["there is no root to go on in"];
  if (entered !== first) return ["what systemd enters is not what the menu starts"];
  const local = join(machine.run, "nextroot/etc/local");
  const isKept = existsSync(local) && readFileSync(local, "utf8") === "kept";
  return isKept ? [] : ["a change of /etc is not there"];
}

/** After a restart with a disk that is well again. */
async function finishLater(machine: CrashMachine, { next }: Start): Promise<string[]> {
  try {
    const wasApplied = (running: RunningMachine) => running.booted.id === next;
    using running = machine.boot(0, false);
    if (!wasApplied(running)) {
      await update(running, join(scratch, "os2"));
      finalizeStaged(running, running.world());
      running[Symbol.dispose]();
    }
    using later = machine.boot(0, false);
    if (!wasApplied(later)) return ["the next run did not finish"];
    const local = join(machine.disk, "state/deploy", next, "etc/local");
    return existsSync(local) ? [] : ["a change of /etc did not come along"];
  } catch (error) {
    return [`the next run: ${describeError(error)}`];
  }
}

test("a soft reboot's shutdown, with calls failing", async () => {
  const start = await stage();
  const faults: string[] = [];
  const ends = { new: 0, old: 0, restart: 0 };
  for (const fault of CALL_FAULTS) {
    for (let at = 1; ; at += EVERY) {
      const outcome = await tryOnce(start, fault, at);
      if (!outcome.reached) break;
      ends[outcome.end] += 1;
      faults.push(...outcome.faults);
    }
  }
  const report = process.env["CRASH_REPORT"];
  if (report !== undefined) {
    const line = `soft reboot: ${ends.new} entered the new, ${ends.old} the old, ${ends.restart} restarted, ${faults.length} faults`;
    appendFileSync(report, `${[line, ...faults].join("\n")}\n`);
  }
  expect(faults).toEqual([]);
  expect(ends.old + ends.restart).toBeGreaterThan(0);
}, 3_600_000);
