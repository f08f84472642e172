// All sequences of verbs up to a length, with interruptions, over a few images: breadth first over machines
// that can be told apart.

import { startMachine } from "./loader-model.ts";
import {
  findBootFaults,
  findGhost,
  findLawFaults,
  findRestFaults,
  findRisen,
} from "./machine-invariants.ts";
import { installMachine, type MemoryMachine, machineKey } from "./memory-machine.ts";
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
  let places: Place[] = [{ machine: installMachine(), crashes: 0, path: [] }];
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
      for (const { name, verb, ends, mayRaise } of verbs) {
        const path = [...place.path, name];
        const run = runVerb(verb, place.machine);
        runs += 1;
        if (run.refusal !== null) {
          const text = run.refusal.replaceAll(/[0-9a-f]{12,}/g, "…");
          refusals.set(text, (refusals.get(text) ?? 0) + 1);
        }
        const end = run.machines.at(-1) ?? place.machine;
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
  /** The machines that may run afterwards. */
  readonly ends: (machine: MemoryMachine) => readonly MemoryMachine[];
  readonly mayRaise: boolean;
}

const same = (machine: MemoryMachine) => [machine];
const GIVE_UP = 8;

function makeVerbs(images: readonly string[]): readonly NamedVerb[] {
  const plain = (name: string, verb: Verb, mayRaise = false): NamedVerb => ({
    name,
    verb,
    ends: same,
    mayRaise,
  });
  return [
    ...images.map((image) => plain(`stage ${image}`, stage(image, false))),
    plain(`download ${images.at(-1)}`, stage(images.at(-1)!, true)),
    plain("rollback", rollback),
    plain("bless", assess(true)),
    plain("cleanup", collect),
    plain("kargs", kargs, true),
    plain("pin", pin),
    plain("delete", remove),
    { name: "reboot", verb: finalize, ends: (machine) => [boot(machine)], mayRaise: false },
    { name: "reboot, one start fails", verb: finalize, ends: failOnce, mayRaise: false },
    { name: "reboot, it never starts", verb: finalize, ends: failAlways, mayRaise: false },
  ];
}

/** A start that gets as far as looking at what happened before. */
function boot(machine: MemoryMachine): MemoryMachine {
  const { machine: started } = startMachine(machine);
  return runVerb(assess(false), started).machines.at(-1) ?? started;
}

function failOnce(machine: MemoryMachine): readonly MemoryMachine[] {
  return [boot(startMachine(machine).machine)];
}

/** The first choice never starts; what has proved itself does. */
function failAlways(machine: MemoryMachine): readonly MemoryMachine[] {
  let current = startMachine(machine);
  if (current.entry.left === null) return [];
  const bad = current.machine.booted;
  for (let n = 0; n < GIVE_UP; n++) {
    current = startMachine(current.machine);
    if (current.machine.booted !== bad) {
      return [runVerb(assess(false), current.machine).machines.at(-1) ?? current.machine];
    }
  }
  return [];
}
