// Changes of a kernel command line as an administrator asks for them: what `rpm-ostree kargs` takes, with its
// meaning, and errors instead of guesses. Pure.
//
// Deletions come first, then replacements, then additions, each in the order given. Keys are compared with '-'
// and '_' equal. Which deployment starts is not decided here: `composefs=` and its like are refused.

import { describeError, StateError, UsageError } from "../../shared/error.ts";
import {
  addParameter,
  appendParameter,
  type Cmdline,
  findParameters,
  makeParameter,
  type Parameter,
  parseArguments,
} from "../../shared/format/kargs/cmdline.ts";

/** Each text may hold several arguments. */
export interface KargsEdits {
  /** KEY or KEY=VALUE; KEY alone is fine when it has one value. */
  readonly delete: readonly string[];
  readonly deleteIfPresent: readonly string[];
  /** KEY=NEW when the key has one value, else KEY=OLD=NEW. */
  readonly replace: readonly string[];
  readonly append: readonly string[];
  readonly appendIfMissing: readonly string[];
}

const FORBIDDEN_KEYS = ["composefs", "composefs.digest", "ostree"];

/** One change after the other; StateError for an argument that is not there, or is there more than once. */
export type KargsEdit = (options: Cmdline) => Cmdline;

/** UsageError for what is no argument. */
export function parseEdits(given: KargsEdits): KargsEdit {
  const edits: readonly KargsEdit[] = [
    ...wordsOf("--delete", given.delete).map((word) => deleteOne("--delete", word)),
    ...wordsOf("--delete-if-present", given.deleteIfPresent).map(deleteIfPresent),
    ...wordsOf("--replace", given.replace).map(replaceOne),
    ...wordsOf("--append", given.append).map(
      (word): KargsEdit =>
        (line) =>
          appendParameter(line, word),
    ),
    ...wordsOf("--append-if-missing", given.appendIfMissing).map(
      (word): KargsEdit =>
        (line) =>
          addParameter(line, word),
    ),
  ];
  return (options) => edits.reduce((line, edit) => edit(line), options);
}

function deleteOne(what: string, word: Parameter): KargsEdit {
  return (line) => without(line, requireOne(what, line, word));
}

function deleteIfPresent(word: Parameter): KargsEdit {
  const edit = deleteOne("--delete-if-present", word);
  return (line) => (matches(line, word).length === 0 ? line : edit(line));
}

/** Arguments as they come from a command line; `what` names the option in messages. UsageError. */
export function parseGivenArguments(what: string, text: string): Cmdline {
  // The kernel splits by bytes, and takes 0xA0 for a space.
  if (/[^\S ]|[\0-\x1f\x7f]/.test(text) || Buffer.from(text).includes(0xa0)) {
    throw new UsageError(
      "bad-value",
      `${what} ${JSON.stringify(text)}: leave out control characters, tabs and white space other than " "`,
    );
  }
  let words: Cmdline;
  try {
    words = parseArguments(text);
  } catch (error) {
    throw new UsageError("bad-value", `${what}: ${describeError(error)}`);
  }
  const forbidden = words.find(({ key }) => FORBIDDEN_KEYS.includes(key));
  if (forbidden === undefined) return words;
  throw new UsageError(
    "bad-value",
    `${what} ${forbidden.text}: this argument says which deployment starts; use "bootc upgrade", "switch" or "rollback"`,
  );
}

function wordsOf(what: string, texts: readonly string[]): Cmdline {
  return texts.flatMap((text) => {
    const words = parseGivenArguments(what, text);
    if (words.length > 0) return words;
    throw new UsageError("missing", `${what} needs an argument, it got ${JSON.stringify(text)}`);
  });
}

/** Equal ones for KEY=VALUE, all of the key for KEY. */
function matches(options: Cmdline, wanted: Parameter): Cmdline {
  const ofKey = findParameters(options, wanted.key);
  return wanted.value === null ? ofKey : ofKey.filter(({ value }) => value === wanted.value);
}

/** Of several equal ones the last. */
function requireOne(what: string, options: Cmdline, wanted: Parameter): Parameter {
  const found = matches(options, wanted);
  const last = found.at(-1);
  if (last === undefined) throw notThere(what, options, wanted.key, wanted.text);
  if (found.every(({ value }) => value === last.value)) return last;
  throw new StateError(
    "conflict",
    `${what} ${wanted.text}: it is there as ${quoteAll(found)}; say which one is meant`,
  );
}

function replaceOne(given: Parameter): KargsEdit {
  const [, key = "", rest] = /^"?([^="]+)(?:=(.*))?$/s.exec(given.text) ?? [];
  if (rest === undefined) {
    throw new UsageError("bad-value", `--replace ${given.text}: use KEY=NEW or KEY=OLD=NEW`);
  }
  const isWhole = given.text.startsWith('"');
  const value = isWhole ? rest.replace(/"$/, "") : rest;
  const isPair = !isWhole && splitPoints(value).length > 0;
  return (options) => {
    const change = isPair ? findChange(options, given, value) : null;
    const old = change?.old ?? requireOne("--replace", options, { ...given, key, value: null });
    const made = makeParameter(key, change === null ? (given.value ?? "") : unquote(change.next));
    return options.map((other) => (other === old ? made : other));
  };
}

/** KEY=OLD=NEW: OLD is a value that is there, so "=" within values needs no quotes as long as one reading fits. */
function findChange(
  options: Cmdline,
  given: Parameter,
  value: string,
): { readonly old: Parameter; readonly next: string } {
  const ofKey = findParameters(options, given.key);
  const readings = splitPoints(value).flatMap((at) => {
    const wanted = unquote(value.slice(0, at));
    const old = ofKey.findLast((each) => each.value === wanted);
    return old === undefined ? [] : [{ old, next: value.slice(at + 1) }];
  });
  const [reading, second] = readings;
  if (second !== undefined) {
    throw new StateError(
      "conflict",
      `--replace ${given.text}: this can be read in more than one way; put the old and the new value in quotes`,
    );
  }
  if (reading !== undefined) return reading;
  const first = value.slice(0, splitPoints(value)[0]);
  const error = notThere("--replace", options, given.key, `${given.key}=${first}`);
  const hint = `if "${value}" is the new value, put it in quotes: --replace '${given.key}="${value}"'`;
  throw new StateError(error.code, `${error.message}; ${hint}`);
}

/** Where a "=" stands outside quotes. */
function splitPoints(value: string): readonly number[] {
  let quotes = 0;
  return [...value.split("").entries()].flatMap(([at, character]) => {
    if (character === '"') quotes += 1;
    return character === "=" && quotes % 2 === 0 ? [at] : [];
  });
}

function unquote(text: string): string {
  return text.replace(/^"/, "").replace(/"$/, "");
}

function without(options: Cmdline, parameter: Parameter): Cmdline {
  return options.filter((other) => other !== parameter);
}

function notThere(what: string, options: Cmdline, key: string, text: string): StateError {
  const ofKey = findParameters(options, key);
  const instead = ofKey.length === 0 ? `nothing with the key "${key}" is` : `${quoteAll(ofKey)} is`;
  return new StateError("missing", `${what}: there is no argument "${text}"; ${instead} there`);
}

function quoteAll(parameters: Cmdline): string {
  return parameters.map(({ text }) => `"${text}"`).join(", ");
}
