// The verbs that change deployments, each from a machine on which it has something to do to the end of what
// the administrator wanted. `finish` works from wherever an interruption left the machine.

import { join } from "node:path";
import { makeParameter, replaceParameter } from "../../shared/format/kargs/cmdline.ts";
import { applyDelete } from "../../updater/deploy/delete.ts";
import { planDelete } from "../../updater/deploy/delete-plan.ts";
import { type HostSpecification, planEdit } from "../../updater/deploy/edit-plan.ts";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { applyKargs } from "../../updater/deploy/kargs.ts";
import { planKargs } from "../../updater/deploy/kargs-plan.ts";
import { applyPin } from "../../updater/deploy/pin.ts";
import { planPin } from "../../updater/deploy/pin-plan.ts";
import { applyRollback } from "../../updater/deploy/rollback.ts";
import { planRollback } from "../../updater/deploy/rollback-plan.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { makeHost } from "../../updater/spec/make-host.ts";
import { installScratch } from "../support/scratch-install.ts";
import { assess, type RunningMachine } from "../support/scratch-machine.ts";
import { type CrashMachine, cleanUp, update } from "./crash-lab.ts";

export const VERSIONS = ["1", "2", "3"] as const;

type Finish = (machine: CrashMachine, running: RunningMachine, images: string) => Promise<void>;

/** Machines before a verb, by what happened to them. */
export interface Scenario {
  readonly name: string;
  /** Ends in a machine that runs. */
  readonly prepare: (machine: CrashMachine, images: string) => Promise<RunningMachine>;
  readonly verb: (running: RunningMachine, images: string) => Promise<unknown> | unknown;
  /** From whatever a boot finds to the verb's end. */
  readonly finish: Finish;
}

const image = (images: string, version: string) => join(images, `os${version}`);

/** Stages an image, shuts down and starts into it. */
async function updateTo(
  machine: CrashMachine,
  running: RunningMachine,
  path: string,
): Promise<RunningMachine> {
  await update(running, path);
  finalizeStaged(running, running.world());
  // The repository's lock goes with the program.
  running[Symbol.dispose]();
  return machine.boot(0, false);
}

function settle(running: RunningMachine): RunningMachine {
  assess(running, true);
  cleanUp(running);
  return running;
}

/** Version 2 runs and has proved itself, 1 is behind it. */
async function updated(machine: CrashMachine, images: string): Promise<RunningMachine> {
  await installScratch(machine, image(images, "1"));
  return settle(await updateTo(machine, machine.boot(0, false), image(images, "2")));
}

async function staged(machine: CrashMachine, images: string): Promise<RunningMachine> {
  const running = await updated(machine, images);
  await update(running, image(images, "3"));
  return running;
}

/** Version 3 runs, on trial. */
async function tried(machine: CrashMachine, images: string): Promise<RunningMachine> {
  return updateTo(machine, await updated(machine, images), image(images, "3"));
}

/** Version 3 was tried three times; 2 runs again. */
async function fallen(machine: CrashMachine, images: string): Promise<RunningMachine> {
  (await tried(machine, images))[Symbol.dispose]();
  for (;;) {
    const running = machine.boot(0, false);
    const { live } = running.world();
    const entry = live.find(({ deploymentId }) => deploymentId === running.booted.id);
    if (entry?.entry.version === "2") return running;
    running[Symbol.dispose]();
  }
}

/** Stages what is to be staged, shuts down, and starts again. */
const updateFully: Finish = async (machine, running, images) => {
  using next = await updateTo(machine, running, image(images, "3"));
  settle(next);
};

function restart(machine: CrashMachine, running: RunningMachine): void {
  running[Symbol.dispose]();
  using next = machine.boot(0, false);
  settle(next);
}

const roll = (running: RunningMachine) => applyRollback(running, planRollback(running.world()));

/** As long as there is something to delete. */
export function deleteRollback(running: RunningMachine): void {
  const world = running.world();
  const found = world.live.find((entry) => entry.deploymentId !== running.booted.id);
  if (found !== undefined) applyDelete(running, world, planDelete(world, found.deploymentId!));
}

/** Debug with this value, whatever it was. */
export function setArgument(running: RunningMachine, value: string): void {
  const world = running.world();
  const plan = planKargs(world, ({ options, extra }) => ({
    options: replaceParameter(options, makeParameter("debug", value)),
    extra,
  }));
  applyKargs(running, plan, world.stagedFile);
}

export const pinBooted = (running: RunningMachine, pinned = true) =>
  applyPin(running.system, planPin(running.world(), running.booted.id, pinned));

/** What `bootc edit` does with an image that is another than the specification's. */
async function editImage(running: RunningMachine, path: string): Promise<void> {
  const plan = planEdit(specificationOf(running), {
    ...specificationOf(running),
    image: makeImageReference("oci", path),
  });
  if (plan.kind === "switch") await update(running, path, { kind: "switch" });
}

/** The other boot order, unless it is that already. */
function editOrder(running: RunningMachine): void {
  const current = specificationOf(running);
  if (planEdit(current, { ...current, bootOrder: "rollback" }).kind === "rollback") roll(running);
}

function specificationOf(running: RunningMachine): HostSpecification {
  const { spec } = makeHost(makeHostState(running.system, running.repo, running.world()));
  const { image, bootOrder } = spec;
  return { image: image && makeImageReference(image.transport, image.image), bootOrder };
}

/** Version 3 failed, and that is written down. */
async function failed(machine: CrashMachine, images: string): Promise<RunningMachine> {
  const running = await fallen(machine, images);
  assess(running, false);
  return running;
}

const retry = (running: RunningMachine, images: string) =>
  update(running, image(images, "3"), { retryFailed: true });

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "stage",
    prepare: updated,
    verb: (running, images) => update(running, image(images, "3")),
    finish: updateFully,
  },
  {
    name: "finalize",
    prepare: staged,
    verb: (running) => finalizeStaged(running, running.world()),
    finish: updateFully,
  },
  {
    // What staging left unsynced is what finalizing builds upon.
    name: "stage and finalize",
    prepare: updated,
    verb: async (running, images) => {
      await update(running, image(images, "3"));
      finalizeStaged(running, running.world());
    },
    finish: updateFully,
  },
  {
    name: "rollback",
    prepare: updated,
    verb: roll,
    finish: async (machine, running) => {
      if (running.world().live[0]?.entry.version === "2") roll(running);
      restart(machine, running);
    },
  },
  {
    name: "cleanup",
    prepare: async (machine, images) => {
      const running = await tried(machine, images);
      assess(running, true);
      return running;
    },
    verb: cleanUp,
    finish: async (_machine, running) => cleanUp(running),
  },
  {
    name: "bless",
    prepare: tried,
    verb: (running) => assess(running, true),
    finish: async (_machine, running) => void settle(running),
  },
  {
    name: "record of a failure",
    prepare: fallen,
    verb: (running) => assess(running, false),
    finish: async (_machine, running) => assess(running, false),
  },
  {
    name: "kernel arguments",
    prepare: updated,
    verb: (running) => setArgument(running, "1"),
    finish: async (machine, running) => {
      setArgument(running, "1");
      restart(machine, running);
    },
  },
  {
    name: "delete",
    prepare: updated,
    verb: deleteRollback,
    finish: async (_machine, running) => {
      deleteRollback(running);
      cleanUp(running);
    },
  },
  {
    name: "pin",
    prepare: updated,
    verb: (running) => pinBooted(running),
    finish: async (_machine, running) => pinBooted(running),
  },
  {
    name: "edit: boot order",
    prepare: updated,
    verb: editOrder,
    finish: async (machine, running) => {
      if (running.world().live[0]?.entry.version === "2") editOrder(running);
      restart(machine, running);
    },
  },
  {
    name: "edit: image",
    prepare: updated,
    verb: (running, images) => editImage(running, image(images, "3")),
    finish: async (machine, running, images) => {
      await editImage(running, image(images, "3"));
      await updateFully(machine, running, images);
    },
  },
  {
    name: "retry what failed",
    prepare: failed,
    verb: retry,
    finish: async (machine, running, images) => {
      await retry(running, images);
      finalizeStaged(running, running.world());
      running[Symbol.dispose]();
      using next = machine.boot(0, false);
      settle(next);
    },
  },
];
