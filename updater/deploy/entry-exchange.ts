// The commit of every change of what boots: `loader/entries.staged` and `loader/entries` change places
// (boot-counting-and-esp.md 4 says how that becomes durable on vfat; shared/txn does it).

import { dirname, join } from "node:path";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { type Step, type Transaction, writeText } from "../../shared/txn/plan.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { extraMenuFiles, formatUserConfig, menuPath } from "../boot/boot-menu.ts";
import { startGrubTrial } from "../boot/grub-counter.ts";
import type { System } from "../boot/system.ts";
import { newTrialSteps, trialSteps } from "./boot-record.ts";
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
): Transaction {
  return {
    ...exchangeAsIs(system, boot),
    prepare: [
      ...trialSteps(system.physicalRoot, entries),
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

/** With GRUB, which keeps one counter beside the menu: before this menu, whose first entry is new, goes live. */
export function startMenuTrial(boot: BootDirectory, entries: readonly EntryFile[]): void {
  if (boot.layout.counting !== "grubenv") return;
  startGrubTrial(boot, parseEntryName(entries[1]?.fileName ?? "")?.id ?? null);
}
