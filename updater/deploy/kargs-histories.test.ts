// Whole histories of a machine with changes of kernel arguments in between, beside a model that only knows
// which deployment has which: every sequence of four steps, and longer ones at random.

import fc from "fast-check";
import { expect, test } from "vitest";
import { StateError } from "../../shared/error.ts";
import { parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import {
  afterAssessment,
  afterRollback,
  afterShutdown,
  afterStage,
  afterStart,
  foreignEntry,
  installWorld,
  makeEntry,
  makeImage,
  stageRequest,
} from "../../test/support/small-world.ts";
import { type BootEntry, sortEntries } from "../boot/boot-entry.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { parseEdits } from "./kargs-edit.ts";
import { planKargs } from "./kargs-plan.ts";
import { type SourcedOptions, setSourceOptions } from "./kargs-source.ts";
import { planRollback } from "./rollback-plan.ts";
import { planStage } from "./stage-plan.ts";
import type { World } from "./world.ts";

const STEPS = [
  "stage",
  "download",
  "kargs",
  "source",
  "restart",
  "fail",
  "cut",
  "rollback",
] as const;
type StepName = (typeof STEPS)[number];

/** What a deployment's arguments are, as far as this test sets them. */
interface Arguments {
  readonly hand: boolean;
  /** Of the source. */
  readonly value: string | null;
}
interface Machine {
  readonly world: World;
  /** By deployment. */
  readonly live: ReadonlyMap<string, Arguments>;
  readonly staged: Arguments | null;
}

const PLAIN: Arguments = { hand: false, value: null };
const first = makeImage("a");
const START: Machine = {
  world: withForeign(installWorld(first)),
  live: new Map([[first.id, PLAIN]]),
  staged: null,
};

function withForeign(world: World): World {
  return { ...world, live: inMenu([...world.live, foreignEntry()]) };
}

function inMenu(entries: readonly BootEntry[]): BootEntry[] {
  return sortEntries(entries, "systemd");
}

function readFiles(files: readonly EntryFile[]): BootEntry[] {
  return inMenu(files.map(({ fileName, text }) => makeEntry(fileName, text)));
}

function next(machine: Machine, step: StepName): Machine {
  switch (step) {
    case "stage":
    case "download":
      return stage(machine, step === "download");
    case "kargs":
      return change(machine, toggleHand, "hand");
    case "source":
      return change(machine, turnSource, "value");
    case "restart":
      return start(shutDown(machine), true);
    case "fail":
      return start(shutDown(machine), false);
    case "cut":
      return start(machine, true);
    case "rollback":
      return rollBack(machine);
  }
}

function stage(machine: Machine, locked: boolean): Machine {
  const { world, live, staged } = machine;
  const known = new Set(
    [...world.live, ...(world.staged ?? [])].map((entry) => entry.deploymentId),
  );
  const digit = ["b", "c", "d", "e", "f"].find((each) => !known.has(makeImage(each).id));
  const image = makeImage(digit!);
  const ids = [world.booted!.id, ...(world.stagedFile === null ? [] : [world.stagedFile.id])];
  const imageKargs = new Map(ids.map((id) => [id, []]));
  const plan = planStage(world, stageRequest(image, { locked, imageKargs }));
  return {
    world: afterStage(world, plan),
    live,
    staged: staged ?? live.get(world.booted!.id)!,
  };
}

function shutDown(machine: Machine): Machine {
  const { world, staged } = machine;
  const { stagedFile } = world;
  if (stagedFile === null || stagedFile.locked || staged === null) return machine;
  const live = new Map([...machine.live, [stagedFile.id, staged] as const]);
  return { world: afterShutdown(world), live, staged: null };
}

function start({ world, live }: Machine, good: boolean): Machine {
  return { world: afterAssessment(afterStart(world), good), live, staged: null };
}

function rollBack({ world, live }: Machine): Machine {
  return { world: afterRollback(world, planRollback(world)), live, staged: null };
}

const hasHand = ({ options }: SourcedOptions) => options.some(({ key }) => key === "hand");

function toggleHand(current: SourcedOptions): SourcedOptions {
  const text = 'hand="x y"';
  const none = { delete: [], deleteIfPresent: [], replace: [], append: [], appendIfMissing: [] };
  const edit = parseEdits(
    hasHand(current) ? { ...none, delete: ["hand"] } : { ...none, append: [text] },
  );
  return { options: edit(current.options), extra: current.extra };
}

const turn = (value: string | null) =>
  value === null ? "t=1 u" : value === "t=1 u" ? "t=2" : null;

function turnSource(current: SourcedOptions): SourcedOptions {
  const value = current.extra.find(([key]) => key === "x-options-source-one")?.[1] ?? null;
  return setSourceOptions(current, "one", turn(value));
}

function change(
  { world, live, staged }: Machine,
  edit: (current: SourcedOptions) => SourcedOptions,
  what: keyof Arguments,
): Machine {
  const model = ({ hand, value }: Arguments): Arguments =>
    what === "hand" ? { hand: !hand, value } : { hand, value: turn(value) };
  const plan = planKargs(world, edit);
  if (plan.change.kind === "staged") {
    const { fileName, text } = plan.change.entry;
    const files = world.staged!.filter((entry) => entry.fileName !== fileName);
    return {
      world: { ...world, staged: inMenu([...files, makeEntry(fileName, text)]) },
      live,
      staged: model(staged!),
    };
  }
  if (plan.change.kind === "nothing") throw new Error("every change is one");
  const { entries, restage } = plan.change;
  const changed = model(live.get(plan.id)!);
  return {
    world: {
      ...world,
      live: readFiles(entries),
      staged: restage === null ? null : readFiles(restage),
      stagedFile: restage === null ? null : world.stagedFile,
    },
    live: new Map([...live, [plan.id, changed]]),
    // A download gets what changed, and keeps what it has besides.
    staged: restage === null ? null : { ...staged!, [what]: changed[what] },
  };
}

function argumentsOf({ entry }: BootEntry): Arguments {
  const options = parseCmdline(entry.options);
  const value = entry.extra.find(([key]) => key === "x-options-source-one")?.[1] ?? null;
  const set = options.filter(({ key }) => key === "t" || key === "u").map(({ text }) => text);
  expect(set.join(" ")).toBe(value ?? "");
  return { hand: hasHand({ options, extra: [] }), value };
}

/** What holds after every step. */
function check({ world, live, staged }: Machine): void {
  const own = world.live.filter(({ deploymentId }) => deploymentId !== null);
  expect(world.live.length).toBe(own.length + 1);
  for (const entry of own) expect(argumentsOf(entry)).toEqual(live.get(entry.deploymentId!));
  expect(staged === null).toBe(world.stagedFile === null);
  if (world.stagedFile === null) return;
  for (const entry of world.staged!.filter(({ deploymentId }) => deploymentId !== null)) {
    const isNew = entry.deploymentId === world.stagedFile.id;
    expect(argumentsOf(entry)).toEqual(isNew ? staged : live.get(entry.deploymentId!));
  }
}

/** As the program does: what cannot be done changes nothing. */
function attempt(machine: Machine, step: StepName): Machine {
  let after: Machine;
  try {
    after = next(machine, step);
  } catch (error) {
    if (error instanceof StateError) return machine;
    throw error;
  }
  check(after);
  return after;
}

test("every sequence of four steps", () => {
  let machines: readonly Machine[] = [START];
  let count = 0;
  for (let depth = 0; depth < 4; depth += 1) {
    machines = machines.flatMap((machine) => STEPS.map((step) => attempt(machine, step)));
    count += machines.length;
  }
  expect(count).toBe(8 + 8 ** 2 + 8 ** 3 + 8 ** 4);
});

test("long sequences", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...STEPS), { minLength: 5, maxLength: 25 }), (steps) => {
      steps.reduce(attempt, START);
    }),
    { numRuns: 150 },
  );
});
