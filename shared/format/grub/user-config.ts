// `grub2/user.cfg` as bootc writes it for unified kernels (bootc.md 4.4): GRUB script, of which only the
// menu entries are understood: which EFI program each one starts. Everything else is text that is kept.
//
// A menu entry is `menuentry <title> … { … }` at the beginning of a line; in it braces and quotes are
// balanced, and "#" after a blank begins a comment.

import { FormatError } from "../../error.ts";

export interface MenuEntry {
  readonly kind: "entry";
  readonly title: string;
  /** Path on the ESP, or null when it starts something else. */
  readonly chainloader: string | null;
  /** With the line break behind it. */
  readonly text: string;
}

export interface ScriptText {
  readonly kind: "text";
  readonly text: string;
}

const SIZE_LIMIT_BYTES = 256 * 1024;

/** The texts of all parts together are the input. FormatError for an entry that does not end. */
export function parseUserConfig(text: string): readonly (MenuEntry | ScriptText)[] {
  if (text.length > SIZE_LIMIT_BYTES) throw malformed("limit", "is larger than 256 KiB", 0);
  const parts: (MenuEntry | ScriptText)[] = [];
  let done = 0;
  for (const match of text.matchAll(/^[ \t]*menuentry[ \t]/gm)) {
    // One inside another is part of that one's text.
    if (match.index < done) continue;
    if (match.index > done) parts.push({ kind: "text", text: text.slice(done, match.index) });
    const end = findEntryEnd(text, match.index);
    parts.push(readEntry(text.slice(match.index, end), match[0].length));
    done = end;
  }
  if (done < text.length) parts.push({ kind: "text", text: text.slice(done) });
  return parts;
}

/**
 * The file with its entries in another order: `paths` are the EFI programs that are to be in the menu, in
 * this order; entries that start something else stay behind them, those of `dropped` go.
 */
export function arrangeUserConfig(
  parts: readonly (MenuEntry | ScriptText)[],
  paths: readonly string[],
  dropped: ReadonlySet<string>,
): string {
  const entries = parts.filter((part) => part.kind === "entry");
  const chosen = paths.map((path) => {
    const found = entries.find(({ chainloader }) => chainloader === path);
    if (found !== undefined) return found;
    throw new FormatError("not-found", `"user.cfg" has no entry for "${path}"`, {
      format: "user.cfg",
    });
  });
  const others = entries.filter(
    (entry) =>
      !chosen.includes(entry) && (entry.chainloader === null || !dropped.has(entry.chainloader)),
  );
  const texts = parts.filter((part) => part.kind === "text").map(({ text }) => text);
  const script = texts.filter((text) => text.trim() !== "").map(endLine);
  return [...script, ...[...chosen, ...others].map(({ text }) => endLine(text))].join("");
}

function endLine(text: string): string {
  return text.endsWith("\n") ? text : `${text}\n`;
}

function readEntry(text: string, titleOffset: number): MenuEntry {
  const title = /^[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s{]+))/s.exec(text.slice(titleOffset));
  const chainloader = /(?:^|[;{\s])chainloader[ \t]+("?)([^\s";]+)\1/.exec(text);
  return {
    kind: "entry",
    title: title?.[1]?.replaceAll(/\\(.)/gs, "$1") ?? title?.[2] ?? title?.[3] ?? "",
    chainloader: chainloader?.[2] ?? null,
    text,
  };
}

/** Behind the closing brace and the line break that follows it. */
function findEntryEnd(text: string, start: number): number {
  let depth = 0;
  const token = /'[^']*'|"(?:[^"\\]|\\.)*"|\\.|(?<=[\s;])#[^\n]*|[{}"']/gs;
  token.lastIndex = start;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    // One that is left over is never closed.
    if (match[0] === '"' || match[0] === "'") break;
    if (match[0] === "{") depth += 1;
    else if (match[0] === "}") {
      depth -= 1;
      if (depth === 0)
        return /[ \t]*\n?/y.exec(text.slice(token.lastIndex))![0].length + token.lastIndex;
      if (depth < 0) break;
    }
  }
  throw malformed("truncated", "has a menu entry that does not end", start);
}

function malformed(code: "limit" | "truncated", reason: string, offset: number): FormatError {
  return new FormatError(code, `GRUB's "user.cfg" ${reason}`, { format: "user.cfg", offset });
}
