// Local changes of /etc for people (docs/etc.md), and as `bootc config-diff` prints them: lines that
// scripts read, "Added", "Modified", "Removed" with the path as Rust's {:?} quotes it, "Unmergable" with a
// reason (bootc.md 1.3, 6).

import type { ByteString } from "../../shared/format/tree/node.ts";
import type { EtcDrift, EtcEntry } from "../deploy/etc-drift.ts";
import type { EtcDiff } from "../deploy/etc-plan.ts";

/** One line for each change; with `verbose` the three sides below it. */
export function formatDrift(
  changes: readonly EtcDrift[],
  options: { readonly verbose: boolean },
): readonly string[] {
  const width = Math.max(0, ...changes.map(({ change }) => change.length));
  return changes.flatMap((drift) => {
    const notes = [drift.differs.join(", "), describeOutcome(drift)].filter((note) => note !== "");
    const suffix = notes.length === 0 ? "" : `  (${notes.join("; ")})`;
    const line = `${drift.change.padEnd(width)}  ${quotePath(drift.path)}${suffix}`;
    return options.verbose ? [line, ...formatSides(drift)] : [line];
  });
}

function describeOutcome({ outcome, reason, rule, imageChanged }: EtcDrift): string {
  if (outcome === "conflict") return `conflict: ${reason}`;
  if (outcome === "image") return `follows the image, rule ${rule?.source}`;
  if (!imageChanged) return "";
  const why = rule?.action === "keep" ? `, rule ${rule.source}` : "";
  return `stays, though the staged image changed it${why}`;
}

function formatSides({ image, local, staged }: EtcDrift): readonly string[] {
  const sides = [
    ["image", image],
    ["local", local],
    ...(staged === undefined ? [] : [["staged", staged] as const]),
  ] as const;
  return sides.map(([name, entry]) => `    ${`${name}:`.padEnd(8)}${describeEntry(entry)}`);
}

function describeEntry(entry: EtcEntry | null): string {
  if (entry === null) return "-";
  const { type, mode, uid, gid, size, verity, target, device, xattrs } = entry;
  const parts = [
    type,
    ...(type === "symlink" ? [] : [mode]),
    `${uid}:${gid}`,
    ...(size === undefined ? [] : [`${size} bytes`]),
    ...(verity === undefined ? [] : [`verity ${verity.slice(0, 16)}`]),
    ...(target === undefined ? [] : [`-> ${quotePath(target)}`]),
    ...(device === undefined ? [] : [device]),
    ...Object.keys(xattrs ?? {}).sort(),
  ];
  return parts.join(" ");
}

/** As it is, unless a terminal or a reader could misunderstand it. */
export function quotePath(path: string): string {
  return /^[\x21-\x7e\u00a1-\ud7ff\ue000-\ufffc]+$/.test(path) ? path : JSON.stringify(path);
}

/** bootc's lines, in colour for a terminal. */
export function formatConfigDiff(diff: EtcDiff, options: { readonly colors: boolean }): string {
  const paint = (word: string, color: number) =>
    options.colors ? `\u001b[${color}m${word}\u001b[39m` : word;
  const lines = (word: string, color: number, paths: readonly ByteString[]) =>
    paths.map((path) => `${paint(word, color)} ${quoteForRust(path)}\n`);
  return [
    ...lines("Added", 32, diff.added),
    ...lines("Modified", 36, diff.modified),
    ...lines("Removed", 31, diff.removed),
    ...diff.conflicts.map(({ reason }) => `${paint("Unmergable", 35)} ${reason}\n`),
  ].join("");
}

const RUST_ESCAPES: Readonly<Record<string, string>> = {
  "\t": "\\t",
  "\r": "\\r",
  "\n": "\\n",
  "\0": "\\0",
  '"': '\\"',
  "\\": "\\\\",
};

/** A byte string as `{:?}` of a Rust path shows it. */
function quoteForRust(path: ByteString): string {
  const bytes = Buffer.from(path, "latin1");
  const text = bytes.toString("utf8");
  const isText = Buffer.from(text, "utf8").equals(bytes);
  const escaped = isText
    ? text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}"\\]/gu, escapeForRust)
    : path.replace(/[^\x20-\x7e]|["\\]/g, escapeByteForRust);
  return `"${escaped}"`;
}

function escapeForRust(character: string): string {
  return RUST_ESCAPES[character] ?? `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

function escapeByteForRust(byte: string): string {
  const hex = byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0");
  return RUST_ESCAPES[byte] ?? `\\x${hex}`;
}
