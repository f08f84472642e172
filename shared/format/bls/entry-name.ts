// File names of boot entries: bootc's `bootc_<os>-<version>-<priority>.conf` (bootc.md 4.4) and the
// boot counter systemd-boot keeps in them, `+LEFT[-DONE]` before the extension (UAPI.1, "Boot
// counting").
//
// systemd-boot reads any `+N` or `+N-M` at the end of the stem as a counter, so a '+' that belongs to
// a version must never reach the name (measured: boot-counting-and-esp.md 1).

export interface BootCounter {
  readonly left: number;
  readonly done: number;
}

export interface EntryName {
  /** Name without counter and extension: the boot loader's id, less ".conf". */
  readonly id: string;
  readonly counter: BootCounter | null;
}

export const ENTRY_EXTENSION = ".conf";

/** Null when the name does not end in ".conf". */
export function parseEntryName(fileName: string): EntryName | null {
  if (!fileName.endsWith(ENTRY_EXTENSION)) return null;
  const stem = fileName.slice(0, -ENTRY_EXTENSION.length);
  const match = /^(.+)\+([0-9]{1,9})(?:-([0-9]{1,9}))?$/.exec(stem);
  if (match === null) return { id: stem, counter: null };
  return { id: match[1]!, counter: { left: Number(match[2]), done: Number(match[3] ?? "0") } };
}

export function formatEntryName(name: EntryName): string {
  const { counter } = name;
  if (counter === null) return `${name.id}${ENTRY_EXTENSION}`;
  const done = counter.done === 0 ? "" : `-${counter.done}`;
  return `${name.id}+${counter.left}${done}${ENTRY_EXTENSION}`;
}

/** bootc's id for an entry: priority 1 is the one to boot, 0 the one to fall back to. */
export function makeEntryId(osId: string, version: string, priority: 0 | 1): string {
  return `bootc_${safeNamePart(osId).replaceAll("-", "_")}-${safeNamePart(version)}-${priority}`;
}

/** bootc's sort key: 0 boots first. Keeps hyphens, unlike the file name. */
export function makeSortKey(osId: string, position: number): string {
  return `bootc-${safeNamePart(osId)}-${position}`;
}

/** Replaces what a vfat name cannot hold, path separators, and the counter's '+'. */
function safeNamePart(text: string): string {
  return text.replaceAll(/[\u0000-\u001f"*+/:<>?\\|\u007f]/g, "_").slice(0, 128);
}
