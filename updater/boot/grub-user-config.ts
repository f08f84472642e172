// Machines on which GRUB starts unified kernels (bootc.md 4.4): the menu is `user.cfg` in GRUB's directory, not
// a directory of entries. Its entries are read as if they were boot entries; written, it is always the live
// file with its entries in another order, so that what it says stays what its author said.

import { basename, join } from "node:path";
import { describeError, isErrno } from "../../shared/error.ts";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import {
  arrangeUserConfig,
  type MenuEntry,
  parseUserConfig,
} from "../../shared/format/grub/user-config.ts";
import { decodeText, readSmallFile } from "../../shared/sys/small-file.ts";
import { ARTEFACT_PREFIX } from "./artefact-name.ts";
import { type BootEntry, parseBootEntry } from "./boot-entry.ts";
import type { EntryDirectory } from "./entry-directory.ts";

const SIZE_LIMIT_BYTES = 256 * 1024;

/** Null when the file does not exist; throws when it cannot be read or is no such file. */
export function readUserConfig(path: string): EntryDirectory | null {
  const text = readText(path);
  if (text === null) return null;
  const entries: BootEntry[] = [];
  const problems: string[] = [];
  for (const part of parseUserConfig(text)) {
    if (part.kind !== "entry" || part.chainloader === null) continue;
    try {
      entries.push(toBootEntry(part, part.chainloader));
    } catch (error) {
      problems.push(`Menu entry "${part.title}" in "${path}" is ignored: ${describeError(error)}`);
    }
  }
  return { entries, broken: [], leftovers: [], problems };
}

/** Whether a GRUB directory's user.cfg starts unified kernels of ours. False when it cannot be read. */
export function hasUserConfig(path: string): boolean {
  try {
    return readUserConfig(path)?.entries.some(({ deploymentId }) => deploymentId !== null) ?? false;
  } catch {
    return false;
  }
}

/** The text of the live file at `path` with our entries as in `menu`, those that are not in it left out. */
export function arrangeMenu(path: string, menu: readonly BootEntry[]): string {
  const parts = parseUserConfig(readText(path) ?? "");
  const ours = parts.flatMap((part) =>
    part.kind === "entry" && part.chainloader?.includes(`/${ARTEFACT_PREFIX}`)
      ? [part.chainloader]
      : [],
  );
  const wanted = menu.flatMap(({ entry, deploymentId }) =>
    entry.target.kind === "efi" && deploymentId !== null ? [entry.target.path] : [],
  );
  return arrangeUserConfig(parts, wanted, new Set(ours.filter((each) => !wanted.includes(each))));
}

/** bootc's titles are "<label>: (<id>)". */
function toBootEntry({ title }: MenuEntry, path: string): BootEntry {
  const text = formatEntry({
    title: title.replace(/: \([0-9a-f]+\)$/, "").replaceAll(/[\n\r]/g, " "),
    version: null,
    target: { kind: "efi", key: "efi", path },
    options: "",
    machineId: null,
    sortKey: null,
    extra: [],
  });
  return parseBootEntry(`${basename(path, ".efi")}.conf`, text);
}

function readText(path: string): string | null {
  try {
    const bytes = readSmallFile(path, SIZE_LIMIT_BYTES);
    return bytes === null ? null : decodeText(bytes, path);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
}

export function userConfigPath(
  bootPath: string,
  userConfig: string,
  which: "live" | "staged",
): string {
  return join(bootPath, which === "live" ? userConfig : `${userConfig}.staged`);
}
