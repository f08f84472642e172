// One boot entry as the updater sees it: its text, its name's parts, and what of ours it boots.

import { basename, dirname } from "node:path";
import { FormatError } from "../../shared/error.ts";
import { type BlsEntry, compareEntries, parseEntry } from "../../shared/format/bls/entry.ts";
import { type EntryName, parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { compareMenuNames } from "../../shared/format/grub/name-order.ts";
import { parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { artefactOwner, isArtefactName } from "./artefact-name.ts";
import type { BootLayout } from "./boot-layout.ts";

export interface BootEntry {
  readonly fileName: string;
  readonly name: EntryName;
  readonly entry: BlsEntry;
  readonly text: string;
  /** What the kernel is told: the entry's options, or what stands in its unified kernel. "" when unknown. */
  readonly cmdline: string;
  /** What addons beside its unified kernel, and those for every one, add to that; absent: nothing. */
  readonly addonArguments?: string;
  /** The image it boots; null for an entry that is not ours. */
  readonly deploymentId: string | null;
  /** The kernel directory or UKI (less ".efi") it names, which may be another deployment's. */
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
  return { fileName, name, entry, text, cmdline: entry.options, ...identify(entry) };
}

function identify(entry: BlsEntry): Pick<BootEntry, "deploymentId" | "artefact"> {
  if (entry.target.kind === "efi") {
    const stem = basename(entry.target.path, ".efi");
    const id = artefactOwner(stem);
    return { deploymentId: id, artefact: id === null ? null : stem };
  }
  const directory = basename(dirname(entry.target.linux));
  return {
    deploymentId: parseComposefsKargs(entry.options)[0]?.digest ?? null,
    artefact: isArtefactName(directory) ? directory : null,
  };
}

/** Whether the arguments are in a unified kernel, and not in the entry: then these go before the others. */
export function isSealed({ entry: { target, options } }: BootEntry): boolean {
  return target.kind === "efi" && (target.key === "uki" || options === "");
}

/** As the menu shows them: the first one boots. GRUB looks at nothing but file names. */
export function sortEntries(
  entries: readonly BootEntry[],
  loader: BootLayout["loader"],
): BootEntry[] {
  return [...entries].sort((a, b) =>
    loader === "systemd"
      ? compareEntries(ordering(a), ordering(b))
      : compareMenuNames(a.name.id, b.name.id),
  );
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
