// GRUB as far as it decides what starts: grub/bootc.cfg's counting in grubenv, the menu as a script beside the
// entries (test/vm/grub.test.ts shows that a real GRUB does the same). Shares the format of grubenv with the
// product, and nothing of its idea of what comes first.

import {
  changeEnvironment,
  ENVIRONMENT_BYTES,
  type GrubEnvironment,
  parseEnvironment,
} from "../../shared/format/grub/environment.ts";
import type { LoaderCount } from "../../updater/boot/assessment.ts";
import type { BootEntry } from "../../updater/boot/boot-entry.ts";
import type { BootLayout } from "../../updater/boot/boot-layout.ts";
import { extraMenuFiles } from "../../updater/boot/boot-menu.ts";
import { interpretTrial } from "../../updater/boot/grub-counter.ts";
import { EMPTY_ENVIRONMENT } from "../support/grub-machine.ts";
import type { MemoryMachine } from "./memory-machine.ts";

const ENVIRONMENT_FILE = "/esp/grub/grubenv";
const SCRIPT = "bootc-menu.cfg";
const TRIES = 3;

type Changes = Readonly<Record<string, string | null>>;

/** /boot is a partition of its own. */
export const GRUB_LAYOUT: BootLayout = {
  loader: "grub",
  kernelParent: "",
  linuxPrefix: "",
  userConfig: null,
  ukiPath: null,
  counting: "grubenv",
  countingProblem: null,
};

/** Beside entries that are there: the script, and an environment block with nothing in it. */
export function installGrub(files: Map<string, string>, live: string): void {
  const entries = [...files]
    .filter(([path]) => path.startsWith(live) && path.endsWith(".conf"))
    .map(([path, text]) => ({ fileName: path.slice(live.length), text }));
  for (const { fileName, text } of extraMenuFiles(GRUB_LAYOUT, entries))
    files.set(`${live}${fileName}`, text);
  files.set(ENVIRONMENT_FILE, EMPTY_ENVIRONMENT);
}

function variablesOf({ files }: Pick<MemoryMachine, "files">): GrubEnvironment {
  return parseEnvironment(Buffer.from(files.get(ENVIRONMENT_FILE)!, "latin1"));
}

/** One write of the block, which is one sector or two: whole, or not there. */
function changeVariables(machine: MemoryMachine, changes: Changes): MemoryMachine {
  const before = Buffer.from(machine.files.get(ENVIRONMENT_FILE)!, "latin1");
  if (before.length !== ENVIRONMENT_BYTES) throw new Error("grubenv changed its size");
  const after = Buffer.from(changeEnvironment(before, changes)).toString("latin1");
  return after === machine.files.get(ENVIRONMENT_FILE)
    ? machine
    : { ...machine, files: new Map([...machine.files, [ENVIRONMENT_FILE, after]]) };
}

/** What updater/boot/grub-counter.ts writes before a new menu goes live; `fallback` is an entry's id. */
export function startTrial(machine: MemoryMachine, fallback: string | null): MemoryMachine {
  return changeVariables(machine, {
    boot_counter: `${TRIES}`,
    boot_success: "0",
    boot_fallback: null,
    bootc_fallback: fallback,
  });
}

/** What `setGrubFallback` writes. */
export function setFallback(machine: MemoryMachine, id: string | null): MemoryMachine {
  return changeVariables(machine, { bootc_fallback: id });
}

export function readFallback(machine: MemoryMachine): string | null {
  return variablesOf(machine).get("bootc_fallback") ?? null;
}

/** And has not given up yet. */
export function isGrubCounting(machine: MemoryMachine): boolean {
  return isCounting(variablesOf(machine)) && !interpretTrial(variablesOf(machine)).fallback;
}

/** The same for a start that is good. */
export function endTrial(machine: MemoryMachine): MemoryMachine {
  return changeVariables(machine, {
    boot_success: "1",
    boot_counter: null,
    boot_fallback: null,
    bootc_fallback: null,
  });
}

/** As updater/boot/assessment.ts reads it. */
export function readGrubCount(machine: MemoryMachine): LoaderCount {
  const { left, success, fallback, fallbackId } = interpretTrial(variablesOf(machine));
  if (left === null && !success) return { kind: "uncounted" };
  const count = { kind: "grubenv", blessed: success || fallback, fallback } as const;
  return left === 0 && !success && !fallback ? { ...count, lastTry: { fallbackId } } : count;
}

/** As updater/boot/boot-menu.ts tells it: what GRUB gave up is the last one, without tries. */
export function markGivenUp(
  machine: MemoryMachine,
  entries: readonly BootEntry[],
): readonly BootEntry[] {
  const failed = entries.find(({ deploymentId }) => deploymentId !== null);
  const { fallback, fallbackId } = interpretTrial(variablesOf(machine));
  if (!fallback || failed === undefined || failed.name.id === fallbackId) return entries;
  if (fallbackId !== null && !entries.some(({ name }) => name.id === fallbackId)) return entries;
  const name = { ...failed.name, counter: { left: 0, done: TRIES } };
  return [...entries.filter((entry) => entry !== failed), { ...failed, name }];
}

/** Ids in the script's order. */
function scriptOrder(machine: MemoryMachine, live: string): readonly string[] {
  const script = machine.files.get(`${live}${SCRIPT}`) ?? "";
  return [...script.matchAll(/ --id '([^']*)' \{$/gm)].map((match) => match[1]!);
}

/**
 * Ids as a GRUB would start them: the script's order, in which what is passed over comes last. `missing`:
 * entries that are in the directory only, as of a deletion that was interrupted; null when what is in both is not in
 * the same order, which other GRUBs, who read the entries themselves, would start.
 */
export function grubOrder(
  machine: MemoryMachine,
  live: string,
  names: readonly string[],
): { readonly ids: readonly string[]; readonly missing: number | null } {
  const script = scriptOrder(machine, live);
  const byName = names.map((name) => name.replace(/\.conf$/, "")).sort();
  const common = byName.reverse().filter((id) => script.includes(id));
  const missing = script.join() === common.join() ? byName.length - common.length : null;
  const variables = variablesOf(machine);
  const isUsedUp = isCounting(variables) && !/^[1-9]$/.test(variables.get("boot_counter")!);
  const fallback = variables.get("bootc_fallback") ?? script[1];
  if (!isUsedUp || fallback === undefined || !script.includes(fallback))
    return { ids: script, missing };
  const passed = script.slice(0, script.indexOf(fallback));
  return { ids: [...script.slice(passed.length), ...passed], missing };
}

function isCounting(variables: GrubEnvironment): boolean {
  return variables.get("boot_counter") !== undefined && variables.get("boot_success") !== "1";
}

/** What grub/bootc.cfg writes before it starts something. */
export function countGrubStart(machine: MemoryMachine): MemoryMachine {
  const variables = variablesOf(machine);
  if (!isCounting(variables)) return machine;
  const left = variables.get("boot_counter")!;
  return /^[1-9]$/.test(left)
    ? changeVariables(machine, { boot_counter: `${Number(left) - 1}` })
    : changeVariables(machine, { boot_counter: "0", boot_fallback: "1" });
}

/** Starts left to the menu's first entry; null when none are counted. */
export function grubTriesLeft(machine: MemoryMachine): number | null {
  const variables = variablesOf(machine);
  return isCounting(variables) ? Number(variables.get("boot_counter")) : null;
}
