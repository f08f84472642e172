// The file_contexts of an image's SELinux policy: which label a path gets (composefs-rs.md 4.4).
//
// A line is `regex [-type] context`; the *last* matching line of all files wins (not libselinux's
// order). Regexes are matched against the bytes of path and one type character. Most of the 6000 lines
// of a policy begin with a literal path, so a walk down a tree needs to look at few of them.

import { FormatError } from "../../shared/error.ts";
import type { ByteString, DirectoryNode } from "../../shared/format/tree/node.ts";
import type { FileReader } from "./file-content.ts";
import { lookupFile } from "./tree-lookup.ts";

/** One line of file_contexts. */
export interface LabelRule {
  /** What every matching path starts with. */
  readonly prefix: ByteString;
  /** Matches path and type character. Compiled when first needed. */
  readonly matches: (pathAndType: ByteString) => boolean;
  /** Null: `<<none>>`, the file has no label. */
  readonly context: Uint8Array | null;
}

export interface LabelPolicy {
  /** Highest precedence first. */
  readonly rules: readonly LabelRule[];
  /** A path, and the path whose labels it and everything below it gets. */
  readonly aliases: ReadonlyMap<ByteString, ByteString>;
}

const DIRECTORY = "etc/selinux";
const TYPE_CHARACTERS = "bcdpls-";

/** Null when the image has no policy. FormatError when it names one that is not there. */
export function readPolicy(root: DirectoryNode, readFile: FileReader): LabelPolicy | null {
  const config = readText(root, `${DIRECTORY}/config`, readFile);
  const type = config === null ? null : findPolicyType(config);
  if (type === null) return null;
  const directory = `${DIRECTORY}/${type}/contexts/files`;
  const base = readText(root, `${directory}/file_contexts`, readFile);
  if (base === null) {
    throw new FormatError(
      "not-found",
      `Image selects the SELinux policy "${type}" but has no "/${directory}/file_contexts"`,
    );
  }
  const rules = ["file_contexts", "file_contexts.local", "file_contexts.homedirs"].flatMap(
    (name) => {
      const text =
        name === "file_contexts" ? base : readText(root, `${directory}/${name}`, readFile);
      return text === null ? [] : parseRules(text, `/${directory}/${name}`);
    },
  );
  const aliases = new Map<ByteString, ByteString>();
  for (const name of ["file_contexts.subs", "file_contexts.subs_dist"]) {
    const text = readText(root, `${directory}/${name}`, readFile);
    for (const [path, target] of text === null ? [] : splitLines(text)) {
      if (path !== undefined && target !== undefined) aliases.set(path, target);
    }
  }
  return { rules: rules.reverse(), aliases };
}

/** File as a byte string, null when missing. */
function readText(root: DirectoryNode, path: string, readFile: FileReader): ByteString | null {
  const file = lookupFile(root, path);
  return file === null ? null : Buffer.from(readFile(file)).toString("latin1");
}

function findPolicyType(config: ByteString): string | null {
  for (const line of config.split("\n")) {
    const equals = line.indexOf("=");
    const key = line.slice(0, Math.max(equals, 0)).trim().toUpperCase();
    if (key === "SELINUXTYPE") return line.slice(equals + 1).trim();
  }
  return null;
}

/** Words of each line that is not empty or a comment. */
function splitLines(text: ByteString): ByteString[][] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(/[ \t]+/));
}

function parseRules(text: ByteString, file: string): LabelRule[] {
  return splitLines(text).map((words) => {
    const [regex, middle, last] = words;
    const context = last ?? middle;
    const type = last === undefined ? undefined : middle;
    const isTypeValid =
      type === undefined ||
      (type.length === 2 && type.startsWith("-") && TYPE_CHARACTERS.includes(type[1]!));
    if (regex === undefined || context === undefined || words.length > 3 || !isTypeValid) {
      throw new FormatError("bad-value", `"${file}" has the malformed line "${words.join(" ")}"`);
    }
    return makeRule(regex, type?.[1], context, file);
  });
}

function makeRule(
  regex: ByteString,
  type: string | undefined,
  context: ByteString,
  file: string,
): LabelRule {
  let compiled: RegExp | null = null;
  return {
    prefix: findLiteralPrefix(regex),
    matches: (pathAndType) => {
      compiled ??= compileRegex(regex, type, file);
      return compiled.test(pathAndType);
    },
    context: context === "<<none>>" ? null : Buffer.from(context, "latin1"),
  };
}

function compileRegex(regex: ByteString, type: string | undefined, file: string): RegExp {
  try {
    return new RegExp(`^(?:${translateRegex(regex)})${type ?? "[^\\n]"}$`);
  } catch (cause) {
    throw new FormatError(
      "unsupported",
      `"${file}" has the regular expression "${regex}", which is not understood`,
      {},
      { cause },
    );
  }
}

/** From PCRE to JavaScript, as far as policies differ: "]" first in a class, POSIX classes, ".". */
function translateRegex(regex: ByteString): string {
  let result = "";
  for (let i = 0; i < regex.length; i++) {
    const char = regex[i]!;
    if (char === "\\" && i + 1 < regex.length) {
      result += char + regex[++i];
    } else if (char === ".") {
      result += "[^\\n]";
    } else if (char === "[") {
      const end = findClassEnd(regex, i);
      result += translateClass(regex.slice(i + 1, end));
      i = end;
    } else {
      result += char;
    }
  }
  return result;
}

const POSIX_CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  digit: "0-9",
  lower: "a-z",
  upper: "A-Z",
  xdigit: "0-9A-Fa-f",
  space: "\\t-\\r ",
  punct: "!-\\/:-@\\[-`{-~",
  word: "0-9A-Za-z_",
};

function translateClass(body: string): string {
  const isNegated = body.startsWith("^");
  const members = (isNegated ? body.slice(1) : body)
    .replace(/^\]/, "\\]")
    .replace(/\[:(\w+):\]/g, (whole, name: string) => POSIX_CLASSES[name] ?? whole)
    .replace(/(?<!\\)\[/g, "\\[");
  return `[${isNegated ? "^" : ""}${members}]`;
}

/** Index of the "]" that closes the class opened at `start`. */
function findClassEnd(regex: string, start: number): number {
  let i = start + 1;
  if (regex[i] === "^") i++;
  if (regex[i] === "]") i++;
  for (; i < regex.length; i++) {
    if (regex[i] === "\\") i++;
    else if (regex.startsWith("[:", i)) i = Math.max(i, regex.indexOf(":]", i) + 1);
    else if (regex[i] === "]") return i;
  }
  return regex.length;
}

/** "" when the alternatives of the whole regex might start differently. */
function findLiteralPrefix(regex: ByteString): ByteString {
  if (hasTopLevelAlternative(regex)) return "";
  let prefix = "";
  for (let i = 0; i < regex.length; i++) {
    let char = regex[i]!;
    if (char === "\\" && /^[^0-9A-Za-z]$/.test(regex[i + 1] ?? "")) char = regex[++i]!;
    else if ("\\.[](){}*+?|^$".includes(char)) return prefix;
    const next = regex[i + 1];
    // The character may be absent.
    if (next === "*" || next === "?" || next === "{") return prefix;
    prefix += char;
  }
  return prefix;
}

function hasTopLevelAlternative(regex: ByteString): boolean {
  let depth = 0;
  for (let i = 0; i < regex.length; i++) {
    const char = regex[i];
    if (char === "\\") i++;
    else if (char === "[") i = findClassEnd(regex, i);
    else if (char === "(") depth++;
    else if (char === ")") depth--;
    else if (char === "|" && depth === 0) return true;
  }
  return false;
}
