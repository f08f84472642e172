// A live boot entry gets another name, which says how often it is still tried; its text stays.
//
// The entry is written under its new name before the old one goes, so that a power cut leaves one of them or
// both, which boot the same. When the ESP is full it is renamed in place, which needs no space.

import { join } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { type Transaction, writeText } from "../../shared/txn/plan.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { LIVE_ENTRIES } from "../boot/entry-directory.ts";
import type { EntryFile } from "./entry-exchange.ts";

export interface EntryRename {
  /** File name as it is. */
  readonly from: string;
  readonly to: EntryFile;
}

export function renameEntry(boot: BootDirectory, { from, to }: EntryRename): void {
  const directory = join(boot.path, LIVE_ENTRIES);
  const [before, after] = [join(directory, from), join(directory, to.fileName)];
  try {
    applyTransaction({
      prepare: [writeText(after, to.text)],
      commit: { kind: "remove", path: before },
      cleanup: [],
    });
  } catch (error) {
    const isFull =
      isErrno(error, "ENOSPC") || (error instanceof StateError && error.code === "no-space");
    if (!isFull) throw error;
    applyTransaction(renameInPlace(before, after));
  }
}

function renameInPlace(from: string, to: string): Transaction {
  return {
    prepare: [],
    commit: { kind: "exchange", a: from, b: to },
    cleanup: [{ kind: "remove", path: from }],
  };
}
