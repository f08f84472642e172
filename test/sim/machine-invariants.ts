// What must be true of a machine at any moment, and of verbs wherever they are run.

import { assignSlots } from "../../updater/deploy/slots.ts";
import { grubOrder, grubTriesLeft } from "./grub-model.ts";
import { loaderMenu, loaderTarget, startMachine } from "./loader-model.ts";
import {
  imageOf,
  kernelsOf,
  LIVE,
  listFiles,
  type MemoryMachine,
  machineKey,
  observe,
  readEntryName,
} from "./memory-machine.ts";
import { assess, collect, finalize, rollback, runVerb, stage, type Verb } from "./verb-model.ts";

/** At any moment, also between two actions: whatever the loader may choose starts. */
export function findBootFaults(machine: MemoryMachine): string[] {
  const menu = loaderMenu(machine);
  if (menu.length === 0) return ["nothing boots: the menu is empty"];
  const faults = [...findGoneFromScript(machine, menu)];
  const ids = new Set<string>();
  for (const entry of menu) {
    const target = loaderTarget(entry);
    if (target === null) continue;
    const name = `${entry.fileName} (${target[0]})`;
    const path = /^linux \/(?:EFI\/Linux\/)?(.*)\/vmlinuz$/m.exec(entry.text)?.[1];
    const digest = imageOf(target[0]!).bootDigest;
    for (const part of ["vmlinuz", "initrd"]) {
      const isRight = machine.files.get(`${kernelsOf(machine)}${path}/${part}`) === digest;
      if (!isRight) faults.push(`${name} has no ${part}`);
    }
    if (!machine.states.has(target)) faults.push(`${name} has no state`);
    if (!machine.images.has(target)) faults.push(`${name} has no image`);
    ids.add(entry.id.toLowerCase());
  }
  return faults;
}

/** GRUB starts what its script says, whether the entry is there or not. */
function findGoneFromScript(machine: MemoryMachine, menu: Menu): string[] {
  if (machine.loader !== "grub") return [];
  const { ids } = grubOrder(machine, LIVE, []);
  const gone = ids.filter((id) => !menu.some((entry) => entry.id === id));
  return gone.map((id) => `the script starts "${id}", which has no entry`);
}

/** Of a machine on which no verb is at work. */
export function findRestFaults(machine: MemoryMachine): string[] {
  const world = observe(machine);
  const faults = findBootFaults(machine);
  const menu = loaderMenu(machine);
  const ofScript = findScriptFaults(machine);
  if (ofScript === null) {
    return [...faults, ...findLost(machine, world.stagedFile?.id ?? null)];
  }
  faults.push(...ofScript);
  const ours = world.live.map(({ fileName }) => fileName);
  const theirs = menu.filter((entry) => !isTwin(entry, menu)).map(({ fileName }) => fileName);
  if (!isLastTry(machine) && ours.join() !== theirs.join())
    faults.push(`order: ${ours} here, ${theirs} in the loader`);
  const staged = world.stagedFile?.id;
  const isThere = [...world.live, ...(world.staged ?? [])].some((e) => e.deploymentId === staged);
  if (staged !== undefined && !isThere) faults.push("what status calls staged has no entry");
  faults.push(...findLost(machine, world.stagedFile?.id ?? null));
  const first = loaderTarget(menu[0]!);
  const slots = assignSlots(world);
  if (slots.rollbackQueued !== (first !== machine.booted)) faults.push("rollbackQueued is wrong");
  // What ran out of tries is nothing to go back to; GRUB does not remember that.
  const failed = machine.loader === "grub" ? listFailed(world.failures) : [];
  const behind = menu
    .filter(({ left }) => left !== 0)
    .map(loaderTarget)
    .filter((id) => id !== machine.booted && (id === null || !failed.includes(id)));
  const next = behind.find((id) => id !== world.stagedFile?.id) ?? undefined;
  if (slots.rollback?.deploymentId !== next) faults.push("status names another rollback");
  return faults;
}

/**
 * Whether GRUB has the entries themselves or the script beside them makes no difference. Null: it does, because a
 * deletion was interrupted after it left the script, and the next change of the menu ends that.
 */
function findScriptFaults(machine: MemoryMachine): string[] | null {
  if (machine.loader !== "grub") return [];
  const names = (listFiles(machine, LIVE) ?? []).map(([name]) => name);
  const { missing } = grubOrder(
    machine,
    LIVE,
    names.filter((name) => name.endsWith(".conf")),
  );
  if (missing === null) return ["the script is not the entries"];
  return missing > 0 ? null : [];
}

/** Those that nobody wants to try again, or not yet. */
function listFailed(failures: ReturnType<typeof observe>["failures"]): readonly string[] {
  return failures.filter((each) => !each.retrying || each.isRetryStaged).map(({ id }) => id);
}

/** GRUB passes over the menu's first entry in the next start, unless this one is good. */
function isLastTry(machine: MemoryMachine): boolean {
  return machine.loader === "grub" && grubTriesLeft(machine) === 0;
}

type Menu = ReturnType<typeof loaderMenu>;

/** Of a blessing that was interrupted: the same entry is there without a counter. */
function isTwin({ id, left }: Menu[number], menu: Menu): boolean {
  return left !== null && menu.some((other) => other.id === id && other.left === null);
}

/** What runs, is staged or pinned is all there. */
function findLost(machine: MemoryMachine, stagedId: string | null): string[] {
  const faults: string[] = [];
  const listed = loaderMenu(machine).map(loaderTarget);
  if (!listed.includes(machine.booted)) faults.push("what runs has no entry");
  for (const id of [machine.booted, stagedId, ...machine.pins]) {
    if (id === null) continue;
    if (!machine.states.has(id)) faults.push(`${id[0]} lost its state`);
    if (!machine.images.has(id)) faults.push(`${id[0]} lost its image`);
  }
  for (const id of machine.pins) {
    if (!listed.includes(id)) faults.push(`${id[0]} is pinned and has no entry`);
  }
  return faults;
}

/**
 * As long as this start is on trial, whoever blesses it looks for its entry by name: the id must stay
 * (boot-counting-and-esp.md 1).
 */
export function findGhost(before: MemoryMachine, after: MemoryMachine): string[] {
  const { countName, booted } = before;
  if (countName === null || after.countName !== countName) return [];
  // Nobody blesses what a soft reboot left behind.
  if (booted !== before.started) return [];
  if (!before.files.has(`${LIVE}${countName}`)) return [];
  const { id } = readEntryName(countName);
  // Blessed already, but for the old name.
  if (before.files.has(`${LIVE}${id}.conf`)) return [];
  const isThere = (listFiles(after, LIVE) ?? []).some(
    ([name, text]) =>
      name.endsWith(".conf") && readEntryName(name).id === id && text.includes(booted),
  );
  return isThere ? [] : [`"${id}", which this start is counted by, is gone`];
}

/** Deployments in the loader's order, with their counters. */
function orderOf(machine: MemoryMachine): string {
  const show = (entry: Menu[number]) =>
    `${loaderTarget(entry)?.[0]}${entry.left === null ? "" : `+${entry.left}-${entry.done}`}`;
  const menu = loaderMenu(machine);
  return menu
    .filter((entry) => !isTwin(entry, menu))
    .map(show)
    .join(" ");
}

/** Laws of the verbs, tried on this machine. */
export function findLawFaults(machine: MemoryMachine): string[] {
  return [
    ...twice(
      "rollback",
      rollback,
      machine,
      (before, _once, again) =>
        findScriptFaults(before) === null || orderOf(before) === orderOf(again),
    ),
    ...twice(
      "cleanup",
      collect,
      machine,
      (_, once, again) => machineKey(once) === machineKey(again),
    ),
    ...twice(
      "finalize",
      finalize,
      machine,
      (_, once, again) => machineKey(once) === machineKey(again),
    ),
    ...findStuck(machine),
  ];
}

function twice(
  name: string,
  verb: Verb,
  machine: MemoryMachine,
  holds: (before: MemoryMachine, once: MemoryMachine, again: MemoryMachine) => boolean,
): string[] {
  const first = runVerb(verb, machine);
  const once = first.machines.at(-1) ?? machine;
  const second = runVerb(verb, once);
  const again = second.machines.at(-1) ?? once;
  if (first.refusal !== null) {
    return first.machines.length === 0 ? [] : [`${name} was refused in the middle`];
  }
  if (second.refusal !== null) return [`${name} is refused the second time: ${second.refusal}`];
  return holds(machine, once, again)
    ? []
    : [`${name} twice: ${orderOf(machine)} -> ${orderOf(once)} -> ${orderOf(again)}`];
}

/** An image nobody has seen yet can always be taken, booted and blessed. */
function findStuck(machine: MemoryMachine): string[] {
  let current = machine;
  const go = (verb: Verb): string | null => {
    const run = runVerb(verb, current);
    current = run.machines.at(-1) ?? current;
    return run.refusal;
  };
  const image = imageOf("d");
  const refusal = go(stage("d")) ?? go(finalize);
  if (refusal !== null) return [`stuck: ${refusal}`];
  current = startMachine(current).machine;
  const last = go(assess(true));
  if (last !== null) return [`stuck: ${last}`];
  const [first] = loaderMenu(current);
  const isGood = current.booted === image.id && first?.left === null;
  const faults = findRestFaults(current).map((fault) => `after the next update: ${fault}`);
  return isGood
    ? faults
    : [...faults, `the next update boots ${current.booted[0]}, ${orderOf(current)}`];
}

/** Counters fall, or go; they rise only where a verb says that something is tried anew. */
export function findRisen(before: MemoryMachine, after: MemoryMachine): string[] {
  const countersOf = (machine: MemoryMachine) =>
    new Map(
      // Without a counter comes last, and counts.
      (listFiles(machine, LIVE) ?? [])
        .filter(([name]) => name.endsWith(".conf"))
        .map(([name, text]) => {
          const { counter } = readEntryName(name);
          return [/composefs=\??([0-9a-f]+)/.exec(text)?.[1] ?? name, counter] as const;
        }),
    );
  const old = countersOf(before);
  const { stagedFile } = observe(before);
  return [...countersOf(after)].flatMap(([id, counter]) => {
    if (!old.has(id) || counter === null) return [];
    const was = old.get(id) ?? null;
    // Staged once more after it failed.
    if (was?.left === 0 && stagedFile?.id === id) return [];
    const rose = was === null || counter.left > was.left || counter.done < was.done;
    return rose
      ? [`the counter of ${id[0]} rose from ${JSON.stringify(was)} to ${JSON.stringify(counter)}`]
      : [];
  });
}
