// Boot Loader Specification entries, Type #1: parse, format and menu order
// (UAPI.1 "Boot Loader Specification"; bootc.md 4.4 for what bootc writes and in which order).
//
// Invariants: parse(format(e)) equals e; keys this program does not know are kept, in their order.
// An entry boots exactly one thing: a `linux` with its initrds, or an `efi`/`uki` program.

import { FormatError } from "../../error.ts";
import { compareText, compareVersions } from "./version.ts";

export type EntryTarget =
  | { readonly kind: "linux"; readonly linux: string; readonly initrds: readonly string[] }
  | { readonly kind: "efi"; readonly key: "efi" | "uki"; readonly path: string };

export interface BlsEntry {
  readonly title: string | null;
  readonly version: string | null;
  readonly target: EntryTarget;
  /** The kernel command line; several `options` lines are joined with a space. "" when absent. */
  readonly options: string;
  readonly machineId: string | null;
  readonly sortKey: string | null;
  /** Unknown keys with their values, in file order. */
  readonly extra: readonly (readonly [key: string, value: string])[];
}

const SIZE_LIMIT_BYTES = 256 * 1024;

function malformed(source: string, reason: string): FormatError {
  return new FormatError("bad-value", `Boot entry "${source}" ${reason}`, { format: "bls" });
}

/** `source` names the file in messages. FormatError when it boots nothing or more than one thing. */
export function parseEntry(text: string, source: string): BlsEntry {
  if (text.length > SIZE_LIMIT_BYTES) throw malformed(source, "is larger than 256 KiB");
  if (text.includes("\0")) throw malformed(source, "contains a NUL byte");
  const single = new Map<string, string>();
  const initrds: string[] = [];
  const options: string[] = [];
  const extra: [string, string][] = [];
  // As systemd-boot does, for which a carriage return ends a line, too.
  for (const raw of text.split(/[\n\r]/)) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const [, key, value] = /^(\S+)(?:\s+(.*))?$/s.exec(line)! as unknown as [
      string,
      string,
      string?,
    ];
    if (value === undefined) {
      // An extension's key may say something by being there.
      if (key.startsWith("x-")) extra.push([key, ""]);
      continue;
    }
    if (key === "initrd") initrds.push(value);
    else if (key === "options") options.push(value);
    else if (!SINGLE_KEYS.has(key)) extra.push([key, value]);
    else if (single.has(key)) throw malformed(source, `has "${key}" twice`);
    else single.set(key, value);
  }
  return {
    title: single.get("title") ?? null,
    version: single.get("version") ?? null,
    target: parseTarget(single, initrds, source),
    options: options.join(" "),
    machineId: single.get("machine-id") ?? null,
    sortKey: single.get("sort-key") ?? null,
    extra,
  };
}

const TARGET_KEYS = ["linux", "efi", "uki"] as const;
const SINGLE_KEYS = new Set<string>(["title", "version", "machine-id", "sort-key", ...TARGET_KEYS]);

function parseTarget(
  single: ReadonlyMap<string, string>,
  initrds: readonly string[],
  source: string,
): EntryTarget {
  const present = TARGET_KEYS.filter((key) => single.has(key));
  const [key] = present;
  if (key === undefined || present.length > 1) {
    throw malformed(source, `needs exactly one of linux, efi, uki; it has ${present.length}`);
  }
  const path = single.get(key)!;
  return key === "linux" ? { kind: "linux", linux: path, initrds } : { kind: "efi", key, path };
}

/** The text bootc writes: title, version, what to boot, options, machine-id, sort-key, the rest. */
export function formatEntry(entry: BlsEntry): string {
  const lines: [string, string | null][] = [
    ["title", entry.title],
    ["version", entry.version],
  ];
  if (entry.target.kind === "linux") {
    lines.push(["linux", entry.target.linux]);
    for (const initrd of entry.target.initrds) lines.push(["initrd", initrd]);
  } else {
    lines.push([entry.target.key, entry.target.path]);
  }
  lines.push(["options", entry.options === "" ? null : entry.options]);
  lines.push(["machine-id", entry.machineId], ["sort-key", entry.sortKey]);
  lines.push(...entry.extra.map(([key, value]): [string, string] => [key, value]));
  return lines
    .filter((line): line is [string, string] => line[1] !== null)
    .map(([key, value]) => `${key}${value === "" ? "" : ` ${oneLine(value)}`}\n`)
    .join("");
}

function oneLine(value: string): string {
  if (/[\n\r\0]/.test(value)) {
    throw new FormatError("bad-value", `A boot entry value has a line break: "${value}"`, {
      format: "bls",
    });
  }
  return value;
}

/** What the menu order depends on. `id` is the file name without counter and `.conf`. */
export interface OrderedEntry {
  readonly id: string;
  readonly sortKey: string | null;
  readonly machineId: string | null;
  readonly version: string | null;
  /** Boot tries left, null when the entry is not counted. */
  readonly triesLeft: number | null;
}

/**
 * systemd-boot's menu order: entries out of tries last; those with a sort-key first, by sort-key,
 * machine-id (ascending), version (newest first); then by id (newest first).
 */
export function compareEntries(a: OrderedEntry, b: OrderedEntry): number {
  const exhausted = Number(a.triesLeft === 0) - Number(b.triesLeft === 0);
  if (exhausted !== 0) return exhausted;
  const keyed = Number(a.sortKey === null) - Number(b.sortKey === null);
  if (keyed !== 0) return keyed;
  if (a.sortKey !== null && b.sortKey !== null) {
    const order =
      compareText(a.sortKey, b.sortKey) ||
      compareText(a.machineId ?? "", b.machineId ?? "") ||
      compareVersions(b.version ?? "", a.version ?? "");
    if (order !== 0) return order;
  }
  return compareVersions(b.id, a.id) || compareText(b.id, a.id);
}
