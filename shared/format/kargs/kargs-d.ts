// An image's own kernel arguments: `/usr/lib/bootc/kargs.d/*.toml` (bootc.md 3.1).
//
//   kargs = ["a=b", "c d"]              one element may hold several arguments
//   match-architectures = ["x86_64"]    optional; Rust's architecture names
//
// Unknown keys are an error, as in bootc: a misspelt one would silently drop an argument.

import { parse } from "@iarna/toml";
import { describeError, FormatError } from "../../error.ts";
import { type Cmdline, parseArguments } from "./cmdline.ts";

/** In an image. */
const KARGS_DIRECTORY = "/usr/lib/bootc/kargs.d";
const KNOWN_KEYS = ["kargs", "match-architectures"];

/**
 * The arguments of one file for a machine of `architecture` (Rust's name, see `rustArchitecture`);
 * empty when the file is for others. `source` names the file in messages.
 */
export function parseKargsFile(text: string, source: string, architecture: string): Cmdline {
  const table = parseToml(text, source);
  const unknown = Object.keys(table).find((key) => !KNOWN_KEYS.includes(key));
  if (unknown !== undefined) throw malformed(source, `unknown key "${unknown}"`);
  const kargs = stringList(table["kargs"], "kargs", source);
  if (kargs === null) throw malformed(source, `"kargs" is missing`);
  const architectures = stringList(table["match-architectures"], "match-architectures", source);
  if (architectures !== null && !architectures.includes(architecture)) return [];
  return parseWords(kargs.join(" "), source);
}

function parseWords(text: string, source: string): Cmdline {
  try {
    return parseArguments(text);
  } catch (error) {
    throw malformed(source, `"kargs": ${describeError(error)}`);
  }
}

/** Merges the files of a kargs.d directory, in name order; only names ending in ".toml" count. */
export function mergeKargsFiles(files: ReadonlyMap<string, string>, architecture: string): Cmdline {
  return [...files.keys()]
    .filter((name) => name.endsWith(".toml"))
    .sort()
    .flatMap((name) =>
      parseKargsFile(files.get(name)!, `${KARGS_DIRECTORY}/${name}`, architecture),
    );
}

/** Rust's `std::env::consts::ARCH` for Node's `process.arch`. */
export function rustArchitecture(nodeArchitecture: string): string {
  const names: Readonly<Record<string, string>> = {
    x64: "x86_64",
    arm64: "aarch64",
    ia32: "x86",
    ppc64: "powerpc64",
  };
  return names[nodeArchitecture] ?? nodeArchitecture;
}

function parseToml(text: string, source: string): Readonly<Record<string, unknown>> {
  try {
    return parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0]! : String(cause);
    throw malformed(source, reason.replace(/:$/, ""));
  }
}

function stringList(value: unknown, key: string, source: string): readonly string[] | null {
  if (value === undefined) return null;
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    throw malformed(source, `"${key}" must be a list of strings`);
  }
  return value;
}

function malformed(source: string, reason: string): FormatError {
  return new FormatError("bad-value", `Cannot read "${source}": ${reason}`, { format: "kargs.d" });
}
