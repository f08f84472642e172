// What the verbs do to a machine, action by action: the real planners decide, the real transactions are
// carried out. What a verb refuses (StateError) changes nothing.

import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { appendParameter, makeParameter } from "../../shared/format/kargs/cmdline.ts";
import type { Step } from "../../shared/txn/plan.ts";
import { extraMenuFiles } from "../../updater/boot/boot-menu.ts";
import { planAssessment } from "../../updater/deploy/assess-plan.ts";
import { beginRetry, findFailure, writeFailuresSteps } from "../../updater/deploy/boot-failure.ts";
import { planCleanup } from "../../updater/deploy/cleanup-plan.ts";
import { planDelete } from "../../updater/deploy/delete-plan.ts";
import {
  dropStaged,
  type EntryFile,
  exchangeStaged,
  replaceEntries,
  writeEntriesSteps,
} from "../../updater/deploy/entry-exchange.ts";
import { planFinalize } from "../../updater/deploy/finalize-plan.ts";
import { planKargs } from "../../updater/deploy/kargs-plan.ts";
import { planPin } from "../../updater/deploy/pin-plan.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { assignSlots } from "../../updater/deploy/slots.ts";
import { planStage } from "../../updater/deploy/stage-plan.ts";
import { formatStagedFile } from "../../updater/deploy/staged-file.ts";
import { stagedFilePath } from "../../updater/deploy/state-directory.ts";
import { isGivenUp } from "../../updater/deploy/trial.ts";
import { describeStaged } from "../../updater/deploy/world.ts";
import { stageRequest } from "../support/small-world.ts";
import { endTrial, isGrubCounting, readFallback, setFallback, startTrial } from "./grub-model.ts";
import {
  type Action,
  applyStep,
  bootOf,
  ESP,
  imageOf,
  kernelsOf,
  LIVE,
  listKernels,
  type MemoryMachine,
  NO_RECORDS,
  observe,
  STAGED,
  SYSTEM,
  transactionActions,
} from "./memory-machine.ts";

const NOW = "2026-01-01T00:00:00Z";

/** Actions, each from the machine the one before left. */
export type Verb = (machine: MemoryMachine) => Generator<Action, void, MemoryMachine>;

const steps = (list: readonly Step[]): Action[] =>
  list.map((step) => (machine) => applyStep(machine, step));

export interface StageOptions {
  readonly locked?: boolean;
  readonly retryFailed?: boolean;
  readonly isSwitch?: boolean;
}

/** `upgrade`, `switch`: as updater/deploy/update.ts goes about it. */
export function stage(digit: string, options: StageOptions = {}): Verb {
  const { locked = false, retryFailed = false, isSwitch = false } = options;
  return function* (machine) {
    const world = observe(machine);
    const image = imageOf(digit);
    const { id } = image;
    const failure = findFailure(world.failures, { id, manifestDigest: image.manifestDigest });
    if (failure !== null && !retryFailed) {
      if (isSwitch) throw new StateError("conflict", "It did not start when it was tried");
      return;
    }
    const own = world.live.filter(({ deploymentId }) => deploymentId === id);
    const isLive = own.some((entry) => !(retryFailed && isGivenUp(entry)));
    if (!isSwitch && world.booted?.id === id) return;
    if (!isSwitch && world.stagedFile?.id === id) {
      const text = formatStagedFile({ id, locked });
      const path = stagedFilePath(SYSTEM);
      const bytes = Buffer.from(text);
      if (world.stagedFile.locked !== locked) {
        yield* steps([{ kind: "write", path, bytes, mode: 0o644 }]);
      }
      return;
    }
    yield (before) => ({ ...before, images: new Set([...before.images, id]) });
    if (!isSwitch && failure === null && isLive) return;
    const kernels = listKernels(machine).map((name) => ({
      name,
      bootDigest: digestOf(machine, name),
    }));
    const plan = planStage(world, stageRequest(image, { kernels, locked, retryFailed }));
    yield (before) => ({ ...before, states: new Set([...before.states, id]) });
    if (plan.kernel.kind === "bls" && plan.kernel.write) {
      const directory = `${kernelsOf(machine)}${plan.kernel.directory}`;
      const part = (name: string): Step => ({
        kind: "copy",
        from: image.bootDigest,
        to: `${directory}/${name}`,
        mode: 0o644,
      });
      yield* steps([
        { kind: "mkdir", path: directory, mode: 0o755 },
        part("vmlinuz"),
        part("initrd"),
      ]);
    }
    const path = stagedFilePath(SYSTEM);
    yield* steps([
      { kind: "remove", path },
      ...writeEntriesSteps(bootOf(machine), plan.entries),
      { kind: "write", path, bytes: Buffer.from(plan.stagedFile), mode: 0o644 },
    ]);
    if (plan.failures !== null)
      yield* steps(writeFailuresSteps(SYSTEM.physicalRoot, plan.failures));
    yield* collect(yield (same) => same);
  };
}

function digestOf(machine: MemoryMachine, name: string): string | null {
  const [vmlinuz, initrd] = ["vmlinuz", "initrd"].map((part) =>
    machine.files.get(`${kernelsOf(machine)}${name}/${part}`),
  );
  return vmlinuz !== undefined && vmlinuz === initrd ? vmlinuz : null;
}

/** Garbage collection, as every verb that makes garbage ends with it. */
export const collect: Verb = function* (machine) {
  const plan = planCleanup(observe(machine), { tags: [], kernelsOnly: false });
  if (plan.stagedFile) yield* steps([{ kind: "remove", path: stagedFilePath(SYSTEM) }]);
  if (plan.stagedEntries) yield* steps([{ kind: "remove", path: STAGED.slice(0, -1) }]);
  yield* removeStrays(plan.strays);
  yield* removeKernels(machine, plan.kernels);
  for (const id of plan.states) {
    yield (before) => ({ ...before, states: new Set([...before.states].filter((x) => x !== id)) });
  }
  const roots = new Set(plan.roots);
  yield (before) => ({
    ...before,
    images: new Set([...before.images].filter((id) => roots.has(id))),
  });
};

function removeStrays(names: readonly string[]): Action[] {
  return steps(names.map((name) => ({ kind: "remove", path: join(ESP, name) })));
}

function* removeKernels(
  machine: MemoryMachine,
  names: readonly string[],
): Generator<Action, void, MemoryMachine> {
  for (const name of names) {
    const directory = `${kernelsOf(machine)}${name}`;
    yield* steps(
      [`${directory}/vmlinuz`, `${directory}/initrd`, directory].map((path) => ({
        kind: "remove",
        path,
      })),
    );
  }
}

/** What shutdown does. */
export const finalize: Verb = function* (machine) {
  const world = observe(machine);
  const plan = planFinalize(world);
  if (plan.kind === "nothing") return;
  if (plan.kind === "merge-and-exchange") {
    const present = (world.staged ?? []).map(({ fileName }) => fileName);
    yield* startMenuTrial(machine, plan.entries);
    yield* transactionActions(exchangeStaged(SYSTEM, bootOf(machine), plan.entries, present));
  } else {
    yield* transactionActions(dropStaged(SYSTEM, bootOf(machine)));
  }
  const staged = describeStaged(world.stagedFile, world.states);
  const begun = staged === null ? null : beginRetry(world.failures, staged);
  if (begun !== null) yield* steps(writeFailuresSteps(SYSTEM.physicalRoot, begun));
  const after = observe(yield (same) => same);
  const garbage = planCleanup(after, { tags: [], kernelsOnly: true });
  yield* removeStrays(garbage.strays);
  yield* removeKernels(machine, garbage.kernels);
};

/** As entry-exchange.ts: where GRUB counts, before the menu goes live. */
function startMenuTrial({ loader }: MemoryMachine, entries: readonly EntryFile[]): Action[] {
  if (loader !== "grub") return [];
  return [(machine) => startTrial(machine, secondId(entries))];
}

export const rollback: Verb = function* (machine) {
  yield* replaceMenu(machine, planRollback(observe(machine)).entries, "order");
};

/** As entry-exchange.ts. */
function* replaceMenu(
  machine: MemoryMachine,
  entries: readonly EntryFile[],
  changes: "order" | "texts",
): Generator<Action, void, MemoryMachine> {
  const isCounting = machine.loader === "grub" && isGrubCounting(machine);
  if (isCounting)
    yield (now) => (changes === "order" ? startTrial(now, null) : setFallback(now, null));
  yield* transactionActions(replaceEntries(SYSTEM, bootOf(machine), entries));
  if (isCounting) yield (now) => setFallback(now, secondId(entries));
}

function secondId(entries: readonly Pick<EntryFile, "fileName">[]): string | null {
  return entries[1]?.fileName.replace(/\.conf$/, "") ?? null;
}

/** The start is looked at: what failed before is written down, and with `good` this one is blessed. */
export function assess(good: boolean): Verb {
  return function* (machine) {
    const plan = planAssessment(observe(machine), good, NO_RECORDS, NOW);
    if (plan.bless !== null) {
      const { from, to } = plan.bless;
      yield* steps([
        { kind: "write", path: join(LIVE, to.fileName), bytes: Buffer.from(to.text), mode: 0o644 },
        { kind: "remove", path: join(LIVE, from) },
      ]);
    }
    const noted =
      plan.failures === null ? [] : steps(writeFailuresSteps(SYSTEM.physicalRoot, plan.failures));
    if (plan.grubMenu !== null) {
      yield* noted;
      yield* transactionActions(replaceEntries(SYSTEM, bootOf(machine), plan.grubMenu));
    }
    if (plan.grubMenu !== null || plan.blessGrub) yield endTrial;
    yield* noted;
  };
}

/** Another argument every time it is not there, and away again. */
export const kargs: Verb = function* (machine) {
  const world = observe(machine);
  const parameter = makeParameter("debug", "1");
  const plan = planKargs(world, ({ options, extra }) => {
    const without = options.filter((each) => each.key !== "debug");
    const changed = without.length < options.length ? without : appendParameter(options, parameter);
    return { options: changed, extra };
  });
  const { change } = plan;
  if (change.kind === "nothing") return;
  if (change.kind === "staged") {
    yield* steps([writeEntry(STAGED, change.entry)]);
    return;
  }
  if (change.isCounted) yield* startMenuTrial(machine, change.entries);
  yield* replaceMenu(machine, change.entries, "texts");
  if (change.restage === null || world.stagedFile === null) return;
  const bytes = Buffer.from(formatStagedFile(world.stagedFile));
  yield* steps([
    ...writeEntriesSteps(bootOf(machine), change.restage),
    { kind: "write", path: stagedFilePath(SYSTEM), bytes, mode: 0o644 },
  ]);
};

function writeEntry(
  directory: string,
  { fileName, text }: Pick<EntryFile, "fileName" | "text">,
): Step {
  return { kind: "write", path: join(directory, fileName), bytes: Buffer.from(text), mode: 0o644 };
}

/** Pins what runs, or takes the pin away. */
export const pin: Verb = function* (machine) {
  const { booted, pins } = machine;
  const plan = planPin(observe(machine), booted, !pins.has(booted));
  if (!plan.changes) return;
  yield (before) => {
    const others = [...before.pins].filter((id) => id !== plan.id);
    return { ...before, pins: new Set(plan.pinned ? [...others, plan.id] : others) };
  };
};

/** What is staged, else the rollback, else what comes after it. */
export const remove: Verb = function* (machine) {
  const world = observe(machine);
  const slots = assignSlots(world);
  const id = (slots.staged ?? slots.rollback ?? slots.others[0])?.deploymentId;
  if (id === undefined || id === null) return;
  const plan = planDelete(world, id);
  if (plan.dropsStaged) yield* transactionActions(dropStaged(SYSTEM, bootOf(machine)));
  for (const which of ["staged", "live"] as const) {
    const [kept, before] = [plan[which], world[which] ?? []];
    if (kept === null) continue;
    const directory = which === "staged" ? STAGED : LIVE;
    const counts = machine.loader === "grub" && which === "live" && isGrubCounting(machine);
    const fallback = counts ? readFallback(machine) : null;
    if (fallback !== null && !kept.some(({ fileName }) => fileName === `${fallback}.conf`))
      yield (now) => setFallback(now, secondId(kept));
    yield* removeStrays(world.strays);
    const extra = extraMenuFiles(bootOf(machine).layout, kept);
    yield* extra.map(
      (file): Action =>
        (now) =>
          applyStep(now, writeEntry(directory, file)),
    );
    const gone = before.filter((entry) => !kept.includes(entry)).reverse();
    yield* steps(gone.map(({ fileName }) => ({ kind: "remove", path: join(directory, fileName) })));
  }
  yield* collect(yield (same) => same);
};

export interface Run {
  /** After each action; the last one is the verb's end. */
  readonly machines: readonly MemoryMachine[];
  readonly refusal: string | null;
}

/** The verb to its end, or to its refusal; any other error is a bug and passes through. */
export function runVerb(verb: Verb, machine: MemoryMachine): Run {
  const machines: MemoryMachine[] = [];
  let current = machine;
  try {
    const actions = verb(machine);
    for (let next = actions.next(); !next.done; next = actions.next(current)) {
      const after = next.value(current);
      if (after !== current) machines.push(after);
      current = after;
    }
    return { machines, refusal: null };
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    return { machines, refusal: error.message };
  }
}
