// The commit of every change of what boots: `loader/entries.staged` and `loader/entries` change places
// (boot-counting-and-esp.md 4 says how that becomes durable on vfat; shared/txn does it).

import { dirname, join } from "node:path";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import { type Step, type Transaction, writeText } from "../../shared/txn/plan.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { extraMenuFiles, formatUserConfig, menuPath } from "../boot/boot-menu.ts";
import {
  type GrubTrial,
  readGrubTrial,
  setGrubFallback,
  startGrubTrial,
} from "../boot/grub-counter.ts";
import type { System } from "../boot/system.ts";
import { newTrialSteps, trialSteps, writeTrialSteps } from "./boot-record.ts";
import { stagedFilePath } from "./state-directory.ts";

export interface EntryFile {
  readonly fileName: string;
  readonly text: string;
  /** Instead of the text: of a file that is no entry we understand. */
  readonly bytes?: Uint8Array;
}

/**
 * Makes the staged directory, brought to `entries`, the live one; nothing is staged afterwards. `present`:
 * names of the files it has. What is new in it is written before anything goes.
 */
export function exchangeStaged(
  system: System,
  boot: BootDirectory,
  entries: readonly EntryFile[],
  present: readonly string[],
): Transaction {
  // GRUB's names say nothing about trials, and what is staged is always one.
  const beginTrial = boot.layout.counting === "grubenv" ? newTrialSteps : trialSteps;
  return {
    ...exchangeAsIs(system, boot),
    prepare: [
      ...beginTrial(system.physicalRoot, entries),
      ...(boot.layout.userConfig === null ? renewSteps(boot, entries, present) : []),
    ],
  };
}

function renewSteps(
  boot: BootDirectory,
  entries: readonly EntryFile[],
  present: readonly string[],
): Step[] {
  const staged = menuPath(boot, "staged");
  const wanted = new Set(entries.map(({ fileName }) => fileName));
  return [
    ...writeSteps(boot, entries),
    ...present
      .filter((name) => !wanted.has(name))
      .map((name): Step => ({ kind: "remove", path: join(staged, name) })),
    { kind: "sync", path: staged },
  ];
}

function exchangeAsIs(system: System, boot: BootDirectory): Transaction {
  const { prepare, commit, cleanup } = dropStaged(system, boot);
  return {
    prepare: [],
    commit: {
      kind: "exchange",
      a: menuPath(boot, "staged"),
      b: menuPath(boot, "live"),
    },
    cleanup: [...prepare, commit, ...cleanup],
  };
}

/** Makes these files the live entries; whatever was staged is dropped first. */
export function replaceEntries(
  system: System,
  boot: BootDirectory,
  entries: readonly EntryFile[],
  beginTrial: typeof trialSteps = trialSteps,
): Transaction {
  return {
    ...exchangeAsIs(system, boot),
    prepare: [
      ...beginTrial(system.physicalRoot, entries),
      { kind: "remove", path: stagedFilePath(system) },
      ...writeEntriesSteps(boot, entries),
    ],
  };
}

/**
 * Forgets what is staged, or what an exchange that was interrupted left behind. The file that says so goes
 * first: what is left of the entries without it is nobody's, and the next cleanup takes it.
 */
export function dropStaged(system: System, boot: BootDirectory): Transaction {
  const staged = menuPath(boot, "staged");
  return {
    prepare: [{ kind: "remove", path: stagedFilePath(system) }],
    commit: { kind: "remove", path: staged },
    cleanup: [{ kind: "sync", path: dirname(staged) }],
  };
}

/** Steps that make the staged menu hold exactly these entries, on the disk. */
export function writeEntriesSteps(boot: BootDirectory, entries: readonly EntryFile[]): Step[] {
  const staged = menuPath(boot, "staged");
  const parent = dirname(staged);
  if (boot.layout.userConfig !== null) {
    return [
      writeText(staged, formatUserConfig(boot, entries.filter(isEntry))),
      { kind: "sync", path: parent },
    ];
  }
  return [
    { kind: "remove", path: staged },
    { kind: "mkdir", path: parent, mode: 0o755 },
    { kind: "mkdir", path: staged, mode: 0o755 },
    ...writeSteps(boot, entries),
    { kind: "sync", path: staged },
    { kind: "sync", path: parent },
  ];
}

function writeSteps(boot: BootDirectory, entries: readonly EntryFile[]): Step[] {
  const files: readonly EntryFile[] = [
    ...entries,
    ...extraMenuFiles(boot.layout, entries.filter(isEntry)),
  ];
  return files.map(({ fileName, text, bytes = Buffer.from(text) }) => ({
    kind: "write",
    path: join(menuPath(boot, "staged"), fileName),
    bytes,
    mode: 0o644,
  }));
}

function isEntry({ bytes }: EntryFile): boolean {
  return bytes === undefined;
}

/**
 * As `replaceEntries`. While GRUB counts, what it falls back to is the second one of this menu, too; in another order the
 * counting begins anew. Cut off in between, the second one is started whatever its name is.
 */
export function replaceMenu(
  system: System,
  boot: BootDirectory,
  entries: readonly EntryFile[],
  changes: "order" | "texts",
): void {
  const isCounting = readRunningTrial(boot) !== null;
  if (isCounting && changes === "order") startGrubTrial(boot, null);
  if (isCounting && changes === "texts") setGrubFallback(boot, null);
  // Names say nothing about GRUB's trials, and without the note nobody would bless this one.
  const beginTrial = isCounting ? writeTrialSteps : trialSteps;
  applyTransaction(replaceEntries(system, boot, entries, beginTrial));
  if (isCounting) setGrubFallback(boot, secondId(entries));
}

/** Before entries leave the menu: GRUB falls back to one that stays. */
export function keepGrubFallback(boot: BootDirectory, kept: readonly BootEntry[]): void {
  const id = readRunningTrial(boot)?.fallbackId ?? null;
  if (id === null || kept.some(({ name }) => name.id === id)) return;
  setGrubFallback(boot, kept[1]?.name.id ?? null);
}

function readRunningTrial(boot: BootDirectory): GrubTrial | null {
  if (boot.layout.counting !== "grubenv") return null;
  const trial = readGrubTrial(boot);
  return trial.left === null || trial.success || trial.fallback ? null : trial;
}

/** With GRUB, which keeps one counter beside the menu: before this menu, whose first entry is new, goes live. */
export function startMenuTrial(
  { physicalRoot }: System,
  boot: BootDirectory,
  entries: readonly EntryFile[],
): void {
  if (boot.layout.counting !== "grubenv") return;
  // First: what is counted must be blessed, also when nothing but the counter was written.
  applySteps(writeTrialSteps(physicalRoot));
  startGrubTrial(boot, secondId(entries));
}

function secondId(entries: readonly EntryFile[]): string | null {
  return parseEntryName(entries[1]?.fileName ?? "")?.id ?? null;
}
