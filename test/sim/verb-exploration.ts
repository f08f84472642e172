// All sequences of verbs up to a length, with interruptions, over a few images: breadth first over machines
// that can be told apart.

import { grubTriesLeft } from "./grub-model.ts";
import { loaderMenu, loaderTarget, startMachine } from "./loader-model.ts";
import {
  findBootFaults,
  findGhost,
  findLawFaults,
  findRestFaults,
  findRisen,
} from "./machine-invariants.ts";
import {
  installMachine,
  type Loader,
  type MemoryMachine,
  machineKey,
  specificationOf,
} from "./memory-machine.ts";
import {
  editImage,
  editOrder,
  enterNextRoot,
  noteEnd,
  prepare,
  softShutdown,
} from "./soft-reboot-model.ts";
import {
  assess,
  collect,
  finalize,
  kargs,
  pin,
  remove,
  rollback,
  runVerb,
  stage,
  type Verb,
} from "./verb-model.ts";

export interface ExplorationOptions {
  readonly loader: Loader;
  readonly images: readonly string[];
  readonly verbs: number;
  readonly crashes: number;
}

export interface Exploration {
  /** Different machines, at rest. */
  readonly states: number;
  /** Verbs run to their end. */
  readonly runs: number;
  /** Interruptions, by power cut and by SIGKILL. */
  readonly crashes: number;
  readonly refusals: ReadonlyMap<string, number>;
  readonly faults: readonly string[];
}

interface Place {
  readonly machine: MemoryMachine;
  readonly crashes: number;
  readonly path: readonly string[];
}

const FAULT_LIMIT = 20;

export function exploreVerbs(options: ExplorationOptions): Exploration {
  const verbs = makeVerbs(options.images);
  const faults: string[] = [];
  const refusals = new Map<string, number>();
  /** Most crashes still allowed with which each machine was reached. */
  const seen = new Map<string, number>();
  let [runs, crashes] = [0, 0];
  let places: Place[] = [{ machine: installMachine(options.loader), crashes: 0, path: [] }];
  const report = (path: readonly string[], found: readonly string[]) => {
    for (const fault of found)
      if (faults.length < FAULT_LIMIT) faults.push(`${path.join(", ")}: ${fault}`);
  };
  const next: Place[] = [];
  const enter = (place: Place) => {
    const key = machineKey(place.machine);
    const known = seen.get(key);
    if (known !== undefined && known <= place.crashes) return;
    seen.set(key, place.crashes);
    if (known === undefined) {
      report(place.path, findRestFaults(place.machine));
      report(place.path, findLawFaults(place.machine));
    }
    next.push(place);
  };
  for (const place of places) enter(place);
  for (let depth = 0; depth < options.verbs; depth++) {
    places = next.splice(0);
    for (const place of places) {
      for (const { name, verb, finish, check, ends, mayRaise } of verbs) {
        const path = [...place.path, name];
        const run = runVerb(verb, place.machine);
        runs += 1;
        if (run.refusal !== null) {
          const text = run.refusal.replaceAll(/[0-9a-f]{12,}/g, "…");
          refusals.set(text, (refusals.get(text) ?? 0) + 1);
        }
        const end = finish(run.machines.at(-1) ?? place.machine);
        report(path, check(place.machine, end, run.refusal));
        // A shutdown that is cut may leave what has proved itself counted.
        if (ends === failAlways && place.crashes === 0) report(path, findTrap(end));
        if (!name.startsWith("reboot")) report(path, findGhost(place.machine, end));
        if (!mayRaise) report(path, findRisen(place.machine, end));
        for (const machine of ends(end)) enter({ machine, crashes: place.crashes, path });
        if (place.crashes >= options.crashes) continue;
        for (const [index, cut] of run.machines.entries()) {
          crashes += 2;
          const where = [...place.path, `${name}/${index + 1}`];
          report(where, findBootFaults(cut));
          if (faults.length >= FAULT_LIMIT) break;
          enter({ machine: boot(cut), crashes: place.crashes + 1, path: [...where, "power cut"] });
          if (name.startsWith("reboot")) continue;
          enter({ machine: cut, crashes: place.crashes + 1, path: [...where, "killed"] });
        }
      }
    }
  }
  return { states: seen.size, runs, crashes, refusals, faults };
}

interface NamedVerb {
  readonly name: string;
  readonly verb: Verb;
  /** The last thing it does, beside what boots. */
  readonly finish: (machine: MemoryMachine) => MemoryMachine;
  /** What is wrong with its end. */
  readonly check: (
    before: MemoryMachine,
    after: MemoryMachine,
    refusal: string | null,
  ) => readonly string[];
  /** The machines that may run afterwards. */
  readonly ends: (machine: MemoryMachine) => readonly MemoryMachine[];
  readonly mayRaise: boolean;
}

const same = (machine: MemoryMachine) => machine;
const GIVE_UP = 8;

function makeVerb(name: string, verb: Verb, changes: Partial<NamedVerb> = {}): NamedVerb {
  const ends = (machine: MemoryMachine) => [machine];
  return { name, verb, finish: same, check: () => [], ends, mayRaise: false, ...changes };
}

function makeVerbs(images: readonly string[]): readonly NamedVerb[] {
  const plain = (name: string, verb: Verb, changes: Partial<NamedVerb> = {}) =>
    makeVerb(name, verb, { finish: noteEnd, ...changes });
  const last = images.at(-1)!;
  return [
    ...images.map((image) => plain(`stage ${image}`, stage(image))),
    plain(`download ${last}`, stage(last, { locked: true })),
    plain(`retry ${last}`, stage(last, { retryFailed: true }), { mayRaise: true }),
    plain(`edit: image ${last}`, editImage(last), {
      check: (_, after, refusal) =>
        refusal !== null || specificationOf(after).image.image.endsWith(`/${last}`)
          ? []
          : ["the specification does not name the image that was asked for"],
    }),
    plain("edit: boot order", editOrder, {
      check: (before, after, refusal) =>
        refusal !== null || specificationOf(before).bootOrder !== specificationOf(after).bootOrder
          ? []
          : ["the boot order is as it was"],
    }),
    plain("rollback", rollback),
    makeVerb("bless", assess(true)),
    makeVerb("cleanup", collect),
    plain("kargs", kargs, { mayRaise: true }),
    makeVerb("pin", pin),
    plain("delete", remove),
    makeVerb("prepare a soft reboot", prepare),
    makeVerb("reboot softly", softShutdown, { ends: bootSoftly }),
    makeVerb("reboot", finalize, { ends: (machine) => [boot(machine)] }),
    makeVerb("reboot, one start fails", finalize, { ends: failOnce }),
    makeVerb("reboot, it never starts", finalize, { ends: failAlways }),
    makeVerb("reboot, it never starts, its record is cut", finalize, { ends: cutReview }),
  ];
}

/** A start that gets as far as looking at what happened before. */
function boot(machine: MemoryMachine): MemoryMachine {
  return review(startMachine(machine).machine);
}

function review(machine: MemoryMachine): MemoryMachine {
  return runVerb(assess(false), machine).machines.at(-1) ?? machine;
}

function bootSoftly(machine: MemoryMachine): readonly MemoryMachine[] {
  const next = enterNextRoot(machine);
  return [next === null ? boot(machine) : review(next)];
}

function failOnce(machine: MemoryMachine): readonly MemoryMachine[] {
  return [boot(startMachine(machine).machine)];
}

/** The first choice never starts; what has proved itself does. */
function failAlways(machine: MemoryMachine): readonly MemoryMachine[] {
  const fallen = fallBack(machine);
  return fallen === null ? [] : [review(fallen)];
}

/** What takes over; null: nothing does. */
function fallBack(machine: MemoryMachine): MemoryMachine | null {
  let current = startMachine(machine);
  if (current.entry.left === null && machine.loader === "systemd") return null;
  const bad = current.machine.booted;
  for (let n = 0; n < GIVE_UP; n++) {
    current = startMachine(current.machine);
    if (current.machine.booted !== bad) return current.machine;
  }
  return null;
}

/** The power goes while it is written down which one failed. */
function cutReview(machine: MemoryMachine): readonly MemoryMachine[] {
  const fallen = fallBack(machine);
  if (fallen === null) return [];
  return runVerb(assess(false), fallen).machines.map(boot);
}

/** What is counted, and has another deployment behind it, leads back to that. */
function findTrap(machine: MemoryMachine): readonly string[] {
  const menu = loaderMenu(machine);
  const first = loaderTarget(menu[0]!);
  const own = menu.filter((entry) => loaderTarget(entry) === first);
  const others = menu.filter((entry) => !own.includes(entry));
  const left = machine.loader === "grub" ? [grubTriesLeft(machine)] : own.map((each) => each.left);
  if (
    !left.every((tries) => tries !== null && tries > 0) ||
    others.length === 0 ||
    fallBack(machine) !== null
  )
    return [];
  return ["what never starts is started for ever"];
}
