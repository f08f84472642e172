// One boot entry as the updater sees it: its text, its name's parts, and what of ours it boots.

import { basename, dirname } from "node:path";
import { FormatError } from "../../shared/error.ts";
import { type BlsEntry, compareEntries, parseEntry } from "../../shared/format/bls/entry.ts";
import { type EntryName, parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { ARTEFACT_PREFIX } from "./kernel-directory.ts";

export interface BootEntry {
  readonly fileName: string;
  readonly name: EntryName;
  readonly entry: BlsEntry;
  readonly text: string;
  /** The image it boots; null for an entry that is not ours. */
  readonly deploymentId: string | null;
  /** `bootc_composefs-<id>`: the kernel directory or UKI it names, which may be another deployment's. */
  readonly artefact: string | null;
}

/** FormatError when it is no entry, or says it is ours and names no image. */
export function parseBootEntry(fileName: string, text: string): BootEntry {
  const name = parseEntryName(fileName);
  if (name === null) {
    throw new FormatError("bad-value", `"${fileName}" is no name of a boot entry`, {
      format: "bls",
    });
  }
  const entry = parseEntry(text, fileName);
  return { fileName, name, entry, text, ...identify(entry) };
}

/** Digests name files and appear on command lines: 64 or 128 lower-case hex digits. */
export function isDeploymentId(text: string): boolean {
  return /^(?:[0-9a-f]{64}|[0-9a-f]{128})$/.test(text);
}

function identify(entry: BlsEntry): Pick<BootEntry, "deploymentId" | "artefact"> {
  if (entry.target.kind === "efi") {
    const stem = basename(entry.target.path, ".efi");
    const id = stem.slice(ARTEFACT_PREFIX.length);
    return stem.startsWith(ARTEFACT_PREFIX) && isDeploymentId(id)
      ? { deploymentId: id, artefact: stem }
      : { deploymentId: null, artefact: null };
  }
  const directory = basename(dirname(entry.target.linux));
  return {
    deploymentId: parseComposefsKargs(entry.options)[0]?.digest ?? null,
    artefact: directory.startsWith(ARTEFACT_PREFIX) ? directory : null,
  };
}

/** As the menu shows them: the first one boots. */
export function sortEntries(entries: readonly BootEntry[]): BootEntry[] {
  return [...entries].sort((a, b) => compareEntries(ordering(a), ordering(b)));
}

function ordering({ name, entry }: BootEntry) {
  return {
    id: name.id,
    sortKey: entry.sortKey,
    machineId: entry.machineId,
    version: entry.version,
    triesLeft: name.counter?.left ?? null,
  };
}
