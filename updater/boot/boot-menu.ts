// The boot menu of a machine, live and staged, wherever its loader keeps it: a directory of entries, or
// GRUB's user.cfg. Beside entries GRUB gets the same menu as a script, in the same directory, so that both
// change with one exchange; a GRUB without `blscfg` sources it (docs/boot-loaders.md).

import { join } from "node:path";
import { describeError, FormatError } from "../../shared/error.ts";
import { parseEntry } from "../../shared/format/bls/entry.ts";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import { formatMenuScript, type ScriptEntry } from "../../shared/format/grub/menu-script.ts";
import { type BootEntry, parseBootEntry } from "./boot-entry.ts";
import type { BootDirectory, BootLayout } from "./boot-layout.ts";
import {
  type EntryDirectory,
  LIVE_ENTRIES,
  MENU_SCRIPT,
  readEntryDirectory,
  STAGED_ENTRIES,
} from "./entry-directory.ts";
import { GRUB_TRIES, readGrubTrial } from "./grub-counter.ts";
import { arrangeMenu, readUserConfig, userConfigPath } from "./grub-user-config.ts";
import { ADDONS_PARENT, addonDirectory } from "./kernel-directory.ts";
import { readAddonArguments, readUkiCmdline } from "./uki.ts";

interface MenuFile {
  readonly fileName: string;
  readonly text: string;
}

/** The directory, or file, that is exchanged. */
export function menuPath({ path, layout }: BootDirectory, which: "live" | "staged"): string {
  return layout.userConfig === null
    ? join(path, which === "live" ? LIVE_ENTRIES : STAGED_ENTRIES)
    : userConfigPath(path, layout.userConfig, which);
}

/** Null when there is none; throws when it cannot be listed. */
export function readMenu(boot: BootDirectory, which: "live" | "staged"): EntryDirectory | null {
  const { layout } = boot;
  const path = menuPath(boot, which);
  const menu =
    layout.userConfig === null ? readEntryDirectory(path, layout.loader) : readUserConfig(path);
  if (menu === null) return null;
  const problems = [...menu.problems];
  const addons = makeAddonReader(layout, problems);
  const entries = menu.entries.map((entry) => {
    try {
      return { ...entry, cmdline: effectiveCmdline(entry, layout), ...addons(entry) };
    } catch (error) {
      problems.push(`What "${entry.fileName}" starts cannot be read: ${describeError(error)}`);
      return entry;
    }
  });
  return { ...menu, entries: which === "live" ? markGivenUp(boot, entries) : entries, problems };
}

/**
 * As with systemd-boot, an entry without tries is the last one: GRUB's script passes over the first then. Unless the
 * menu is in order again already, and only GRUB was not told: then what was fallen back to is first, or has a new name.
 */
function markGivenUp(boot: BootDirectory, entries: readonly BootEntry[]): readonly BootEntry[] {
  if (boot.layout.counting !== "grubenv") return entries;
  const { fallback, fallbackId } = readGrubTrial(boot);
  const failed = entries.find(({ deploymentId }) => deploymentId !== null);
  if (!fallback || failed === undefined) return entries;
  const isThere = fallbackId === null || entries.some(({ name }) => name.id === fallbackId);
  if (!isThere || failed.name.id === fallbackId) return entries;
  const name = { ...failed.name, counter: { left: 0, done: GRUB_TRIES } };
  return [...entries.filter((entry) => entry !== failed), { ...failed, name }];
}

/** Arguments in the entry go before those in the unified kernel (UAPI.1, "options"). */
function effectiveCmdline(entry: BootEntry, layout: BootLayout): string {
  if (entry.cmdline !== "" || entry.deploymentId === null) return entry.cmdline;
  return readUkiCmdline(entry, layout) ?? "";
}

/** Those for every kernel come first; they are read once. */
function makeAddonReader(layout: BootLayout, problems: string[]) {
  const read = (directory: string): string => {
    const found = readAddonArguments(layout, directory);
    problems.push(...found.problems);
    return found.text;
  };
  let shared: string | null = null;
  return ({ entry, artefact }: BootEntry): Pick<BootEntry, "addonArguments"> => {
    if (entry.target.kind !== "efi" || artefact === null) return {};
    shared ??= read(ADDONS_PARENT);
    const words = [shared, read(addonDirectory(artefact))].filter((text) => text !== "");
    return words.length === 0 ? {} : { addonArguments: words.join(" ") };
  };
}

/** What the menu's directory is to hold beside these entries: for GRUB the same as a script. */
export function extraMenuFiles(
  layout: BootLayout,
  files: readonly MenuFile[],
): readonly MenuFile[] {
  if (layout.loader !== "grub" || layout.userConfig !== null) return [];
  return [{ fileName: MENU_SCRIPT, text: formatMenuScript(files.flatMap(toScriptEntry)) }];
}

/** A broken entry that a menu carries on starts nothing in a script either. */
function toScriptEntry({ fileName, text }: MenuFile): readonly ScriptEntry[] {
  const name = parseEntryName(fileName);
  if (name === null) return [];
  try {
    return [{ id: name.id, entry: parseEntry(text, fileName) }];
  } catch (error) {
    if (error instanceof FormatError) return [];
    throw error;
  }
}

/** Where the menu is one file: its text for these entries. */
export function formatUserConfig(boot: BootDirectory, files: readonly MenuFile[]): string {
  const menu = files.map(({ fileName, text }) => parseBootEntry(fileName, text));
  return arrangeMenu(menuPath(boot, "live"), menu);
}
