// The boot entries of a machine: `loader/entries` (what boots now) and `loader/entries.staged` (what an
// exchange will make boot), read leniently: a foreign or broken entry is reported, never fatal.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describeError, isErrno } from "../../shared/error.ts";
import { ENTRY_EXTENSION } from "../../shared/format/bls/entry-name.ts";
import { type BootEntry, parseBootEntry, sortEntries } from "./boot-entry.ts";

export const LIVE_ENTRIES = "loader/entries";
export const STAGED_ENTRIES = "loader/entries.staged";
const SIZE_LIMIT_BYTES = 256 * 1024;

export interface EntryDirectory {
  /** In menu order. */
  readonly entries: readonly BootEntry[];
  readonly problems: readonly string[];
}

/** Null when the directory does not exist. */
export function readEntryDirectory(path: string): EntryDirectory | null {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
  const entries: BootEntry[] = [];
  const problems: string[] = [];
  for (const fileName of names.sort()) {
    if (!fileName.endsWith(ENTRY_EXTENSION)) continue;
    try {
      entries.push(parseBootEntry(fileName, readText(join(path, fileName))));
    } catch (error) {
      problems.push(`Boot entry "${fileName}" is ignored: ${describeError(error)}`);
    }
  }
  return { entries: sortEntries(entries), problems };
}

/** The parser refuses what is too large; this only keeps it from being read. */
function readText(path: string): string {
  const { size } = statSync(path);
  return size > SIZE_LIMIT_BYTES ? "#".repeat(SIZE_LIMIT_BYTES + 1) : readFileSync(path, "utf8");
}
