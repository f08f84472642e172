// `bootc edit` and soft reboots on machines without a disk: as updater/cli/edit.ts and
// updater/deploy/soft-reboot.ts go about them, with what decides taken from there. /run/nextroot is a name.

import { StateError } from "../../shared/error.ts";
import { planEdit } from "../../updater/deploy/edit-plan.ts";
import { findPending } from "../../updater/deploy/pending.ts";
import { refuseSoftReboot } from "../../updater/deploy/soft-reboot.ts";
import {
  planShutdown,
  planSoftReboot,
  type SoftRebootFacts,
  type SoftRebootPlan,
} from "../../updater/deploy/soft-reboot-plan.ts";
import { parseOriginReference } from "../../updater/image/reference.ts";
import {
  type Action,
  imageOf,
  type MemoryMachine,
  observe,
  specificationOf,
} from "./memory-machine.ts";
import { finalize, rollback, stage, type Verb } from "./verb-model.ts";

const mountNext =
  (id: string | null): Action =>
  (machine) =>
    machine.nextRoot === id ? machine : { ...machine, nextRoot: id };

/** What every verb that changes what boots next ends with. */
export function noteEnd(machine: MemoryMachine): MemoryMachine {
  const pending = findPending(observe(machine))?.id ?? null;
  return machine.nextRoot === pending ? machine : mountNext(null)(machine);
}

/** Another image in the specification. */
export function editImage(digit: string): Verb {
  return function* (machine) {
    const current = specificationOf(machine);
    const image = parseOriginReference(imageOf(digit).originReference);
    const plan = planEdit(current, { ...current, image });
    if (plan.kind === "switch") yield* stage(digit, { isSwitch: true })(machine);
  };
}

/** The other boot order. */
export const editOrder: Verb = function* (machine) {
  const current = specificationOf(machine);
  const bootOrder = current.bootOrder === "default" ? "rollback" : "default";
  if (planEdit(current, { ...current, bootOrder }).kind !== "rollback")
    throw new Error("no rollback");
  yield* rollback(machine);
};

function decide(machine: MemoryMachine, id: string): SoftRebootPlan {
  const facts: SoftRebootFacts = {
    isSupported: true,
    cmdline: machine.cmdline,
    selinuxPolicy: null,
    image: (wanted) => ({ settings: null, hasInit: machine.images.has(wanted) }),
    conflicts: () => [],
  };
  return planSoftReboot(observe(machine), facts, id);
}

/** `prep-soft-reboot`, or the end of a verb with `--soft-reboot=required`. */
export const prepare: Verb = function* (machine) {
  const id = findPending(observe(machine))?.id;
  if (id === undefined) throw new StateError("missing", "Nothing else boots next");
  const plan = decide(machine, id);
  if (plan.kind === "refused") throw refuseSoftReboot(plan);
  yield mountNext(null);
  yield mountNext(id);
};

/** What the finalize unit does when systemd is on its way into a soft reboot. */
export const softShutdown: Verb = function* (machine) {
  const { booted, nextRoot } = machine;
  const plan = planShutdown(
    observe(machine),
    "soft-reboot",
    nextRoot === null ? null : { id: nextRoot },
  );
  const { mount } = plan;
  try {
    if (mount !== null && mount !== booted) {
      const decision = decide(machine, mount);
      if (decision.kind === "refused") throw refuseSoftReboot(decision);
    }
    if (plan.finalize) yield* finalize(machine);
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    // Refused before anything was changed: what runs starts once more.
    yield mountNext(booted);
    return;
  }
  if (mount === null) return;
  yield mountNext(null);
  yield mountNext(mount);
};

/** Userspace begins anew in what is mounted; /run and what the loader said stay. Null: nothing is there. */
export function enterNextRoot(machine: MemoryMachine): MemoryMachine | null {
  const { nextRoot } = machine;
  return nextRoot === null ? null : { ...machine, booted: nextRoot, nextRoot: null };
}
