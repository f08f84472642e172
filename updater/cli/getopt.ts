// Command lines as getopt_long(3) of glibc reads them, for the tools that must take what the originals
// take: options anywhere, `--name=value` and `--name value`, unambiguous abbreviations, `--`.

import { UsageError } from "../../shared/error.ts";

type Arity = "flag" | "value";
/** Long names, and short ones of one letter. */
export type OptionTable = Readonly<Record<string, Arity>>;

export interface CommandWords {
  /** In order; flags have the value "". */
  readonly options: readonly (readonly [name: string, value: string])[];
  readonly operands: readonly string[];
}

/** Throws UsageError for options that are unknown, ambiguous or without their value. */
export function parseWords(argv: readonly string[], table: OptionTable): CommandWords {
  const options: [string, string][] = [];
  const operands: string[] = [];
  const words = [...argv];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "--") {
      operands.push(...words);
      break;
    }
    if (word.startsWith("--")) options.push(longOption(word, words, table));
    else if (word.startsWith("-") && word !== "-")
      options.push(...shortOptions(word, words, table));
    else operands.push(word);
  }
  return { options, operands };
}

function longOption(word: string, words: string[], table: OptionTable): [string, string] {
  const equals = word.indexOf("=");
  const given = word.slice(2, equals < 0 ? undefined : equals);
  const name = findLong(given, table);
  if (table[name] === "flag") {
    if (equals < 0) return [name, ""];
    throw new UsageError("bad-value", `Option "--${name}" takes no value`);
  }
  return [name, equals < 0 ? nextWord(`--${name}`, words) : word.slice(equals + 1)];
}

function findLong(given: string, table: OptionTable): string {
  const names = Object.keys(table).filter((name) => name.length > 1);
  if (names.includes(given)) return given;
  const matches = given === "" ? [] : names.filter((name) => name.startsWith(given));
  if (matches.length === 1) return matches[0]!;
  const problem = matches.length === 0 ? "Unknown" : "Ambiguous";
  throw new UsageError("unknown-option", `${problem} option "--${given}"`);
}

/** `-abVALUE`, `-ab VALUE` */
function shortOptions(word: string, words: string[], table: OptionTable): [string, string][] {
  const options: [string, string][] = [];
  for (let at = 1; at < word.length; at++) {
    const letter = word[at]!;
    const arity = Object.hasOwn(table, letter) ? table[letter] : undefined;
    if (arity === undefined) throw new UsageError("unknown-option", `Unknown option "-${letter}"`);
    if (arity === "value") {
      const rest = word.slice(at + 1);
      options.push([letter, rest === "" ? nextWord(`-${letter}`, words) : rest]);
      break;
    }
    options.push([letter, ""]);
  }
  return options;
}

function nextWord(option: string, words: string[]): string {
  const value = words.shift();
  if (value === undefined) throw new UsageError("missing", `Option "${option}" needs a value`);
  return value;
}
