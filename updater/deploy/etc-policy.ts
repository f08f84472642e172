// Which side decides about a path of /etc when image and machine disagree (docs/etc.md, decision 0017):
// rules from TOML files, the last one that names a path counts. Pure; etc-policy-files.ts reads the files.
//
//   [[rule]]
//   path = "/etc/ssh/sshd_config.d"   # with all that is in it; "*" and "?" within a name, "**" across names
//   action = "image"                  # keep | image | fail
//
// What is not understood is an error with file and line: a rule with a typing error must not be lost.

import { parse } from "@iarna/toml";
import * as z from "zod";
import { FormatError } from "../../shared/error.ts";
import { type ByteString, toByteString } from "../../shared/format/tree/node.ts";

const ACTIONS = ["keep", "image", "fail"] as const;

export interface EtcRule {
  /** Absolute, as written. */
  readonly path: string;
  readonly action: (typeof ACTIONS)[number];
  /** "file:line", for messages. */
  readonly source: string;
}

/** The rule for a path relative to /etc, if there is one. */
export type RuleFinder = (path: ByteString) => EtcRule | null;

const pathSchema = z.string().check((context) => {
  const problem = findPathProblem(context.value);
  if (problem === null) return;
  context.issues.push({ code: "custom", message: problem, input: context.value });
});
const fileSchema = z.strictObject({
  rule: z
    .array(
      z.strictObject({
        path: z.union([pathSchema, z.array(pathSchema).min(1)]),
        action: z.enum(ACTIONS),
      }),
    )
    .optional(),
});
const recordSchema = z.object({
  rules: z.array(z.object({ path: pathSchema, action: z.enum(ACTIONS), source: z.string() })),
});

/** The rules of one file. FormatError that names `source`, the line where it is known, and the key. */
export function parseEtcPolicy(text: string, source: string): readonly EtcRule[] {
  const result = fileSchema.safeParse(parseToml(text, source));
  if (!result.success) throw describeIssue(text, source, result.error.issues[0]!);
  return (result.data.rule ?? []).flatMap(({ path, action }, index) => {
    const line = findLine(text, index, null);
    const place = line === null ? source : `${source}:${line}`;
    return [path].flat().map((each) => ({ path: each, action, source: place }));
  });
}

function parseToml(text: string, source: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    const { message = "", line } = cause as { message?: string; line?: number };
    const place = typeof line === "number" ? `${source}:${line + 1}` : source;
    const reason = message.split("\n", 1)[0]!.replace(/ at row .*$/, "");
    throw malformed(place, `it is not TOML: ${reason}`);
  }
}

function describeIssue(text: string, source: string, issue: z.core.$ZodIssue): FormatError {
  const unknown = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const [, index] = issue.path;
  const rule = typeof index === "number" ? index : null;
  const name = unknown ?? issue.path.findLast((part) => typeof part === "string") ?? null;
  const line = findLine(text, rule, name) ?? findLine(text, rule, null);
  const place = line === null ? source : `${source}:${line}`;
  if (unknown !== undefined) {
    const known = rule === null ? '"[[rule]]"' : '"path" and "action"';
    return malformed(place, `unknown key "${unknown}"; known are ${known}`);
  }
  const what = name === null ? "" : `"${name}": `;
  return malformed(place, `${what}${describeReason(issue)}`);
}

/** Of a union the complaint that fits what was written, which is the innermost. */
function describeReason(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_union") {
    const inner = issue.errors.flat().find((each) => each.code === "custom");
    return inner?.message ?? "expected text or a list of texts";
  }
  return issue.message;
}

/** 1-based line of a key in the rule `index` (null: at the top); with no key, of the rule's header. */
function findLine(text: string, index: number | null, key: string | null): number | null {
  const lines = text.split("\n");
  let rule = -1;
  for (const [at, line] of lines.entries()) {
    if (/^\s*\[\[\s*"?rule"?\s*\]\]/.test(line)) {
      rule += 1;
      if (key === null && rule === index) return at + 1;
      continue;
    }
    const isPlace = index === null || rule === index;
    if (key !== null && isPlace && startsWithKey(line, key)) return at + 1;
  }
  return null;
}

function startsWithKey(line: string, key: string): boolean {
  const word = /^\s*\[{0,2}\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*[=.\]]/.exec(line);
  return word !== null && (word[1] ?? word[2] ?? word[3]) === key;
}

function findPathProblem(path: string): string | null {
  if (path !== "/etc" && !path.startsWith("/etc/")) return `"${path}" is not below "/etc"`;
  const parts = path.split("/").slice(1);
  if (parts.length > 1 && parts.at(-1) === "") return `"${path}" ends in "/"; leave that out`;
  if (parts.some((part) => part === "" || part === "." || part === "..")) {
    return `"${path}" has an empty part, "." or ".."`;
  }
  if (parts.some((part) => part.includes("**") && part !== "**")) {
    return `"**" stands for whole names: "${path}"`;
  }
  return null;
}

/** A rule for a directory is one for everything in it; of several the last counts. */
export function makeRuleFinder(rules: readonly EtcRule[]): RuleFinder {
  const compiled = rules.map((rule) => ({ rule, pattern: compilePattern(rule.path) })).reverse();
  return (path) => {
    const names = path.split("/").map(splitCharacters);
    const found = compiled.find(({ pattern }) => fits(pattern, names, fitsName));
    return found?.rule ?? null;
  };
}

const ANY = Symbol("any number of them");
type Pattern<Part> = readonly (Part | typeof ANY)[];
/** A character, or null for any one. */
type NamePattern = Pattern<string | null>;

/** For paths relative to /etc; what is below one of them fits as well. */
function compilePattern(path: string): Pattern<NamePattern> {
  const parts = toByteString(path).split("/").slice(2);
  const pattern = parts.flatMap((part, index): Pattern<NamePattern> => {
    if (part !== "**") return [compileName(part)];
    // At the end it is for what is in a directory, and not for the directory.
    return index === parts.length - 1 ? [[ANY], ANY] : [ANY];
  });
  return [...pattern, ANY];
}

/** "*": any text, "?": one character, "\\" takes the next one as it is. */
function compileName(part: string): NamePattern {
  const tokens = part.match(/\\?(?:[\xc0-\xff][\x80-\xbf]*|[\s\S])/g) ?? [];
  return tokens.map((token) => {
    if (token === "*") return ANY;
    if (token === "?") return null;
    return token.length > 1 && token.startsWith("\\") ? token.slice(1) : token;
  });
}

/** Of UTF-8, or bytes that are none. */
function splitCharacters(name: ByteString): readonly string[] {
  return name.match(/[\xc0-\xff][\x80-\xbf]*|[\s\S]/g) ?? [];
}

function fitsName(pattern: NamePattern, name: readonly string[]): boolean {
  return fits(pattern, name, (part, character) => part === null || part === character);
}

/** Goes back to the last ANY only, so that no pattern takes long. */
function fits<Part, Item>(
  pattern: Pattern<Part>,
  items: readonly Item[],
  isFit: (part: Part, item: Item) => boolean,
): boolean {
  let [at, part, any, resume] = [0, 0, -1, 0];
  while (at < items.length) {
    const wanted = pattern[part];
    if (wanted === ANY) {
      any = part;
      part += 1;
      resume = at;
    } else if (part < pattern.length && isFit(wanted as Part, items[at]!)) {
      part += 1;
      at += 1;
    } else if (any >= 0) {
      part = any + 1;
      resume += 1;
      at = resume;
    } else {
      return false;
    }
  }
  return pattern.slice(part).every((rest) => rest === ANY);
}

/** The rules as they were when a deployment was staged, for a shutdown that finds broken files. */
export function formatEtcPolicyRecord(rules: readonly EtcRule[]): string {
  return `${JSON.stringify({ rules }, null, 1)}\n`;
}

/** FormatError naming `source`. */
export function parseEtcPolicyRecord(text: string, source: string): readonly EtcRule[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw malformed(source, "it is not JSON");
  }
  const result = recordSchema.safeParse(value);
  if (result.success) return result.data.rules;
  throw malformed(source, result.error.issues[0]!.message);
}

function malformed(place: string, reason: string): FormatError {
  return new FormatError("bad-value", `Policy for /etc in "${place}" is wrong: ${reason}`, {
    format: "etc-merge",
    path: place,
  });
}
