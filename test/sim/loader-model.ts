// Boot loaders as far as they decide what starts: systemd-boot (boot-counting-and-esp.md 1, measured) with its own
// order of entries and its own counting, and GRUB (grub-model.ts). Shares nothing with the product's idea of either.

import { countGrubStart, grubOrder } from "./grub-model.ts";
import { LIVE, listFiles, type MemoryMachine, readEntryName } from "./memory-machine.ts";

interface LoaderEntry {
  readonly fileName: string;
  readonly text: string;
  readonly sortKey: string | null;
  readonly version: string;
  readonly id: string;
  readonly left: number | null;
  readonly done: number;
}

function readKey(text: string, key: string): string | null {
  return new RegExp(`^${key}\\s+(.*)$`, "m").exec(text)?.[1] ?? null;
}

/** In the order of the menu; the first one starts. */
export function loaderMenu(machine: MemoryMachine): readonly LoaderEntry[] {
  const files = (listFiles(machine, LIVE) ?? []).filter(([name]) => name.endsWith(".conf"));
  const entries = files.map(([fileName, text]): LoaderEntry => {
    const { id, counter } = readEntryName(fileName);
    return {
      fileName,
      text,
      id,
      sortKey: readKey(text, "sort-key"),
      version: readKey(text, "version") ?? "",
      left: counter?.left ?? null,
      done: counter?.done ?? 0,
    };
  });
  if (machine.loader === "systemd") return entries.sort(compare);
  const { ids } = grubOrder(
    machine,
    LIVE,
    entries.map(({ fileName }) => fileName),
  );
  // A script may still name what is gone: GRUB goes on to the next.
  return ids.flatMap((id) => entries.filter((entry) => entry.id === id));
}

/** Versions and ids here are single words of equal length or letters, for which text order is theirs. */
function compare(a: LoaderEntry, b: LoaderEntry): number {
  const text = (x: string, y: string) => (x < y ? -1 : x > y ? 1 : 0);
  const bad = Number(a.left === 0) - Number(b.left === 0);
  if (bad !== 0) return bad;
  if ((a.sortKey === null) !== (b.sortKey === null)) return a.sortKey === null ? 1 : -1;
  if (a.sortKey !== null && b.sortKey !== null) {
    const order = text(a.sortKey, b.sortKey) || text(b.version, a.version);
    if (order !== 0) return order;
  }
  return text(b.id, a.id);
}

/** The deployment an entry starts; null when it is not ours. */
export function loaderTarget({ text }: LoaderEntry): string | null {
  return /composefs=\??([0-9a-f]+)/.exec(text)?.[1] ?? null;
}

export interface Start {
  readonly machine: MemoryMachine;
  readonly entry: LoaderEntry;
}

/** One start: the counter goes down before the kernel is loaded, and /run is empty. */
export function startMachine(machine: MemoryMachine): Start {
  const [entry] = loaderMenu(machine);
  if (entry === undefined) throw new Error("the menu is empty");
  const files = new Map([...machine.files].filter(([path]) => !path.startsWith("/run/")));
  let countName: string | null = null;
  if (entry.left !== null) {
    const left = Math.max(0, entry.left - 1);
    countName = `${entry.id}+${left}-${entry.done + 1}.conf`;
    files.delete(`${LIVE}${entry.fileName}`);
    files.set(`${LIVE}${countName}`, entry.text);
  }
  const booted = loaderTarget(entry) ?? machine.booted;
  const cmdline = readKey(entry.text, "options") ?? "";
  const running = { booted, started: booted, cmdline, nextRoot: null, countName };
  const started = { ...machine, files, ...running };
  return { machine: machine.loader === "grub" ? countGrubStart(started) : started, entry };
}
