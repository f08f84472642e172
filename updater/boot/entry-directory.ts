// The boot entries of a machine: `loader/entries` (what boots now) and `loader/entries.staged` (what an
// exchange will make boot), read leniently: a foreign or broken entry is reported, never fatal. Its bytes
// are kept, so that a menu that is written again can carry it on, and so are the ids in it, so that
// nothing it may boot is cleaned away.

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describeError, FormatError, isErrno } from "../../shared/error.ts";
import { ENTRY_EXTENSION } from "../../shared/format/bls/entry-name.ts";
import { decodeText, readSmallFile } from "../../shared/sys/small-file.ts";
import { finalName, isTemporaryName } from "../../shared/txn/atomic.ts";
import { findIds } from "./artefact-name.ts";
import { type BootEntry, parseBootEntry, sortEntries } from "./boot-entry.ts";
import type { BootLayout } from "./boot-layout.ts";

export const LIVE_ENTRIES = "loader/entries";
export const STAGED_ENTRIES = "loader/entries.staged";
/** For GRUB: the same menu as a script. */
export const MENU_SCRIPT = "bootc-menu.cfg";
/** Of every name that makeEntryId gives. */
const OUR_PREFIX = "bootc_";
const SIZE_LIMIT_BYTES = 256 * 1024;
/** An entry that could not be understood. */
export interface BrokenEntry {
  readonly fileName: string;
  /** Null when they cannot be read, or are too many. */
  readonly bytes: Uint8Array | null;
  /** Deployment ids in it; empty without bytes. */
  readonly mentions: readonly string[];
  /** It may be one of ours: nobody knows what it boots. Else it is carried on as it is. */
  readonly isOurs: boolean;
  /** The disk did not give it: nothing says that it is broken. */
  readonly isUnreadable?: true;
  readonly problem: string;
}

export interface EntryDirectory {
  /** In menu order. */
  readonly entries: readonly BootEntry[];
  readonly broken: readonly BrokenEntry[];
  /** Names of files that an interruption left. */
  readonly leftovers: readonly string[];
  readonly problems: readonly string[];
}

/** Null when the directory does not exist; throws when it cannot be listed. */
export function readEntryDirectory(
  path: string,
  loader: BootLayout["loader"] = "systemd",
): EntryDirectory | null {
  let names: string[];
  try {
    names = readdirSync(path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
  const entries: BootEntry[] = [];
  const broken: BrokenEntry[] = [];
  for (const fileName of names.sort()) {
    if (!fileName.endsWith(ENTRY_EXTENSION)) continue;
    const read = readEntry(join(path, fileName), fileName);
    if ("problem" in read) broken.push(read);
    else entries.push(read);
  }
  const { single, twins } = separateTwins(entries);
  const temporary = names.filter(
    (name) => isTemporaryName(name) && !isHalfRenamed(path, name, names),
  );
  return {
    entries: sortEntries(single, loader),
    broken: [...broken, ...names.flatMap((name) => readOther(path, name))],
    leftovers: [...temporary, ...twins.map(({ fileName }) => fileName)],
    problems: broken.map(
      ({ fileName, problem }) => `Boot entry "${fileName}" is ignored: ${problem}`,
    ),
  };
}

/**
 * An entry under two names: of a blessing that was interrupted, with a counter and without, or of a loader that
 * was, with two counters. Without a counter, else with the fewest tries counts: two entries of one deployment
 * would be the first and the second choice.
 */
export function separateTwins(entries: readonly BootEntry[]): {
  readonly single: readonly BootEntry[];
  readonly twins: readonly BootEntry[];
} {
  const triesLeft = ({ name }: BootEntry) => name.counter?.left ?? -1;
  const isTwin = (entry: BootEntry) =>
    entry.deploymentId !== null &&
    entries.some(
      (other) =>
        other.name.id === entry.name.id &&
        other.text === entry.text &&
        triesLeft(other) < triesLeft(entry),
    );
  return {
    single: entries.filter((entry) => !isTwin(entry)),
    twins: entries.filter(isTwin),
  };
}

/**
 * A rename on vfat that lost power between the two places of the directory that it changes: the file has both names
 * and one content, which would go with the temporary one. That goes with its directory, at the next change of the menu.
 */
function isHalfRenamed(path: string, name: string, names: readonly string[]): boolean {
  const target = finalName(name);
  if (!names.includes(target)) return false;
  try {
    const [one, other] = [name, target].map((each) =>
      readSmallFile(join(path, each), SIZE_LIMIT_BYTES),
    );
    return one !== null && other !== null && Buffer.compare(one!, other!) === 0;
  } catch {
    // Unreadable: better not removed.
    return true;
  }
}

/** A file with a name of ours that is cut off before its arguments looks like somebody else's entry. */
function requireImage(entry: BootEntry): BootEntry {
  if (entry.deploymentId !== null || !entry.fileName.startsWith(OUR_PREFIX)) return entry;
  throw new FormatError("truncated", `"${entry.fileName}" has a name of ours and starts no image`, {
    format: "bls",
  });
}

/** What is no entry, as "memtest.conf.off": somebody keeps it there, so it is carried on, and nobody is told. */
function readOther(path: string, fileName: string): readonly BrokenEntry[] {
  const isNobodys = fileName.startsWith(".") || fileName === MENU_SCRIPT;
  if (isNobodys || fileName.endsWith(ENTRY_EXTENSION)) return [];
  try {
    const bytes = readSmallFile(join(path, fileName), SIZE_LIMIT_BYTES);
    if (bytes === null) return [];
    return [{ fileName, bytes, mentions: [], isOurs: false, problem: "it is no boot entry" }];
  } catch {
    // A directory, a link to nothing, a large file.
    return [];
  }
}

function readEntry(path: string, fileName: string): BootEntry | BrokenEntry {
  let bytes: Uint8Array | null = null;
  try {
    // Nothing there: it went away, or is a link to nothing.
    bytes = readSmallFile(path, SIZE_LIMIT_BYTES) ?? new Uint8Array();
    return requireImage(parseBootEntry(fileName, decodeText(bytes, path)));
  } catch (error) {
    const text = bytes === null ? "" : Buffer.from(bytes).toString("latin1");
    const mentions = findIds(text);
    const isOurs = bytes === null || mentions.length > 0 || /bootc|composefs/.test(fileName + text);
    const isUnreadable = bytes === null && !(error instanceof FormatError);
    const problem = describeError(error);
    return { fileName, bytes, mentions, isOurs, problem, ...(isUnreadable && { isUnreadable }) };
  }
}
