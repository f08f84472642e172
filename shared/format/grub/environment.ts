// GRUB's environment block (`grubenv`): the few variables its script keeps over a restart (GRUB manual,
// "Environment block"; grub-editenv(1)).
//
// A text of fixed size, padded with "#": the signature line, then `name=value` lines in which a backslash
// stands before a backslash or a line break of the value. GRUB writes it through a list of disk blocks, so
// its size never changes. Comments and the order of variables are kept. Bytes are Latin-1 throughout.

import { FormatError } from "../../error.ts";

const SIGNATURE = "# GRUB Environment Block\n";
/** What grub-editenv makes; other sizes are read as well. */
export const ENVIRONMENT_BYTES = 1024;
const SIZE_LIMIT_BYTES = 64 * 1024;

export type GrubEnvironment = ReadonlyMap<string, string>;

/** FormatError when the signature is missing or a line is neither comment nor `name=value`. */
export function parseEnvironment(bytes: Uint8Array): GrubEnvironment {
  const variables = new Map<string, string>();
  for (const line of splitLines(bytes)) {
    if (line.name !== null) variables.set(line.name, line.value);
  }
  return variables;
}

/**
 * The block with some variables changed, or removed (null); as long as `bytes`. FormatError("limit") when it
 * does not fit.
 */
export function changeEnvironment(
  bytes: Uint8Array,
  changes: Readonly<Record<string, string | null>>,
): Uint8Array {
  const lines: string[] = [];
  const written = new Set<string>();
  const variables = parseEnvironment(bytes);
  for (const line of splitLines(bytes)) {
    if (line.name === null) lines.push(line.value);
    else if (!written.has(line.name)) {
      const value = line.name in changes ? changes[line.name]! : variables.get(line.name)!;
      if (value !== null) lines.push(formatVariable(line.name, value));
      written.add(line.name);
    }
  }
  for (const [name, value] of Object.entries(changes)) {
    if (value !== null && !written.has(name)) lines.push(formatVariable(name, value));
  }
  const text = `${SIGNATURE}${lines.join("")}`;
  if (text.length > bytes.length) {
    throw malformed("limit", `has no room for ${Object.keys(changes).join(", ")}`);
  }
  return new Uint8Array(Buffer.from(text.padEnd(bytes.length, "#"), "latin1"));
}

interface Line {
  /** Null for a comment. */
  readonly name: string | null;
  /** Of a comment, the line as it stands. */
  readonly value: string;
}

function splitLines(bytes: Uint8Array): readonly Line[] {
  if (bytes.length > SIZE_LIMIT_BYTES) throw malformed("limit", "is larger than 64 KiB");
  const text = Buffer.from(bytes).toString("latin1");
  if (!text.startsWith(SIGNATURE))
    throw malformed("bad-magic", "does not begin with its signature");
  const lines: Line[] = [];
  // A line ends at a break that no backslash hides; the padding has no end.
  const pattern = /((?:[^\\\n]|\\.)*)(\n|$)/gsy;
  pattern.lastIndex = SIGNATURE.length;
  while (pattern.lastIndex < text.length) {
    const offset = pattern.lastIndex;
    const match = pattern.exec(text);
    if (match === null) throw malformed("bad-value", "ends in a backslash", offset);
    lines.push(...parseLine(match[1]!, match[2] === "\n", offset));
  }
  return lines;
}

function parseLine(line: string, isEnded: boolean, offset: number): readonly Line[] {
  if (line.startsWith("#")) return isEnded ? [{ name: null, value: `${line}\n` }] : [];
  if (line === "") return [];
  const equals = line.indexOf("=");
  if (equals <= 0) throw malformed("bad-value", "has a line that is no variable", offset);
  if (!isEnded) throw malformed("truncated", "has a variable without an end", offset);
  const value = line.slice(equals + 1).replaceAll(/\\(.)/gs, "$1");
  return [{ name: line.slice(0, equals), value }];
}

function formatVariable(name: string, value: string): string {
  return `${name}=${value.replaceAll(/[\\\n]/g, "\\$&")}\n`;
}

function malformed(
  code: "limit" | "bad-magic" | "bad-value" | "truncated",
  reason: string,
  offset = 0,
): FormatError {
  return new FormatError(code, `The GRUB environment block ${reason}`, {
    format: "grubenv",
    offset,
  });
}
