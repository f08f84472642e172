// The first difference between two dumps of a file tree (composefs-dump(5)): what an image was when it was
// sealed, and what it is here. Both are read once, line by line, in bounded memory.

import { FormatError } from "../../error.ts";

/** Far above any line: names, targets, small contents and xattrs are bounded. */
const LINE_LIMIT_BYTES = 1 << 20;
const SHOWN_CHARACTERS = 300;
const NEWLINE = 0x0a;

export interface DumpDifference {
  /** Unescaped as far as it can be shown. */
  readonly path: string;
  /** The two lines, cut when they are long; null: it is not in that tree. */
  readonly before: string | null;
  readonly after: string | null;
}

/** Null when both say the same. FormatError for a dump with a line that none has. */
export function findDumpDifference(
  before: Iterable<Uint8Array>,
  after: Iterable<string>,
): DumpDifference | null {
  const left = splitLines(before)[Symbol.iterator]();
  const right = after[Symbol.iterator]();
  for (;;) {
    const [a, b] = [nextLine(left), nextLine(right)];
    if (a === b && a === null) return null;
    if (a !== b) return describe(a, b);
  }
}

function nextLine(lines: Iterator<string>): string | null {
  const { done, value } = lines.next();
  return done === true ? null : value.replace(/\n$/, "");
}

function describe(before: string | null, after: string | null): DumpDifference {
  const [a, b] = [before, after].map((line) => (line === null ? null : pathOf(line)));
  // Of two paths the one that comes first is missing in the other tree.
  const order = a == null ? 1 : b == null ? -1 : comparePaths(a, b);
  return {
    path: showPath((order <= 0 ? a : b) ?? ""),
    before: order <= 0 ? cut(before) : null,
    after: order >= 0 ? cut(after) : null,
  };
}

function pathOf(line: string): string {
  const end = line.indexOf(" ");
  return end < 0 ? line : line.slice(0, end);
}

/** Depth first, names in byte order, as dumps are. */
function comparePaths(a: string, b: string): number {
  const [left, right] = [a, b].map((path) =>
    path === "/" ? [] : path.split("/").map(unescapeName),
  );
  for (let i = 0; i < Math.max(left!.length, right!.length); i += 1) {
    const [x, y] = [left![i], right![i]];
    if (x === y) continue;
    if (x === undefined || y === undefined) return x === undefined ? -1 : 1;
    return x < y ? -1 : 1;
  }
  return 0;
}

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", "\\": "\\" };

function unescapeName(name: string): string {
  return name.replaceAll(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex: string, char: string) =>
    hex === undefined ? (ESCAPES[char] ?? char) : String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** Control characters stay escaped: it is shown on terminals. */
function showPath(path: string): string {
  const text = Buffer.from(unescapeName(path), "latin1").toString("utf8");
  const isShown = !/[\u0000-\u001f\u007f-\u009f\ufffd]/.test(text);
  return isShown && text.length <= SHOWN_CHARACTERS ? text : shorten(path);
}

function cut(line: string | null): string | null {
  return line === null ? null : shorten(line);
}

function shorten(line: string): string {
  const printable = line.replaceAll(/[^\x20-\x7e]/g, "?");
  return printable.length <= SHOWN_CHARACTERS
    ? printable
    : `${printable.slice(0, SHOWN_CHARACTERS)}…`;
}

function* splitLines(chunks: Iterable<Uint8Array>): Generator<string> {
  let rest = Buffer.alloc(0);
  for (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      yield Buffer.concat([rest, chunk.subarray(start, end)]).toString("latin1");
      rest = Buffer.alloc(0);
      start = end + 1;
    }
    rest = Buffer.concat([rest, chunk.subarray(start)]);
    if (rest.length > LINE_LIMIT_BYTES) {
      throw new FormatError("limit", "The dump has a line of more than 1 MiB", { format: "dump" });
    }
  }
  if (rest.length > 0) yield rest.toString("latin1");
}
