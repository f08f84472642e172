// The commit of every change of what boots: `loader/entries.staged` and `loader/entries` change places
// (boot-counting-and-esp.md 4 says how that becomes durable on vfat; shared/txn does it).

import { dirname, join } from "node:path";
import type { Step, Transaction } from "../../shared/txn/plan.ts";
import { LIVE_ENTRIES, STAGED_ENTRIES } from "../boot/entry-directory.ts";
import type { System } from "../boot/system.ts";
import { stagedFilePath } from "./state-directory.ts";

export interface EntryFile {
  readonly fileName: string;
  readonly text: string;
}

/** Makes the staged directory the live one; nothing is staged afterwards. */
export function exchangeStaged(system: System, bootPath: string): Transaction {
  const { prepare, commit } = dropStaged(system, bootPath);
  return {
    prepare: [],
    commit: {
      kind: "exchange",
      a: join(bootPath, STAGED_ENTRIES),
      b: join(bootPath, LIVE_ENTRIES),
    },
    cleanup: [...prepare, commit],
  };
}

/** Makes these files the live entries; whatever was staged is dropped first. */
export function replaceEntries(
  system: System,
  bootPath: string,
  entries: readonly EntryFile[],
): Transaction {
  return {
    ...exchangeStaged(system, bootPath),
    prepare: [
      { kind: "remove", path: stagedFilePath(system) },
      ...writeEntriesSteps(bootPath, entries),
    ],
  };
}

/** Forgets what is staged, or what an exchange that was interrupted left behind. */
export function dropStaged(system: System, bootPath: string): Transaction {
  const staged = join(bootPath, STAGED_ENTRIES);
  return {
    prepare: [
      { kind: "remove", path: staged },
      { kind: "sync", path: dirname(staged) },
    ],
    commit: { kind: "remove", path: stagedFilePath(system) },
    cleanup: [],
  };
}

/** Steps that make `loader/entries.staged` hold exactly these files, on the disk. */
export function writeEntriesSteps(bootPath: string, entries: readonly EntryFile[]): Step[] {
  const staged = join(bootPath, STAGED_ENTRIES);
  return [
    { kind: "remove", path: staged },
    { kind: "mkdir", path: dirname(staged), mode: 0o755 },
    { kind: "mkdir", path: staged, mode: 0o755 },
    ...entries.map(
      ({ fileName, text }): Step => ({
        kind: "write",
        path: join(staged, fileName),
        bytes: Buffer.from(text),
        mode: 0o644,
      }),
    ),
    { kind: "sync", path: staged },
    { kind: "sync", path: dirname(staged) },
  ];
}
