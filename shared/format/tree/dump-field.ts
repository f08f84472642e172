// Fields of a dump line as they stand in the text: splitting, escapes, numbers (dump-line.ts gives
// them meaning).
//
// Works on bytes and makes strings only of what is text, because a dump has a line per file of an OS.

import { FormatError } from "../../error.ts";
import type { ByteString } from "./node.ts";

export interface DumpOptions {
  /** "c" (default) takes what mkcomposefs takes, "rust" what composefs-rs takes. */
  readonly dialect?: "c" | "rust";
  /** mkcomposefs' CFS_PARSE_STRICT. */
  readonly strict?: boolean;
}

/** The fields before the xattrs, in order. */
const DUMP_FIELDS = [
  "PATH",
  "SIZE",
  "MODE",
  "NLINK",
  "UID",
  "GID",
  "RDEV",
  "MTIME",
  "PAYLOAD",
  "CONTENT",
  "DIGEST",
] as const;
export type DumpField = number;

const SPACE = 0x20;
const NEWLINE = 0x0a;
const BACKSLASH = 0x5c;
const DASH = 0x2d;
export const MAX_U32 = 0xffff_ffff;
const MAX_U64 = 0xffff_ffff_ffff_ffffn;
/** The largest file that fits a chunk index: 1024 chunks of 2^43 bytes. */
const MAX_SIZE = 2n ** 53n;

/** `bytes[start..end]`, in memory that is used again for the next line. */
export interface ByteSpan {
  bytes: Buffer;
  start: number;
  end: number;
}

/** One line's fields as positions in `text`; reused for the next line. */
export interface FieldReader {
  text: Buffer;
  readonly rust: boolean;
  /** From 1. */
  line: number;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  /** Non-zero for fields with a backslash. */
  readonly escaped: Uint8Array;
  fieldCount: number;
  /** Position of the newline or of the text's end. */
  lineEnd: number;
}

export function createFieldReader(options: DumpOptions): FieldReader {
  return {
    text: Buffer.alloc(0),
    rust: options.dialect === "rust",
    line: 0,
    starts: new Int32Array(DUMP_FIELDS.length),
    ends: new Int32Array(DUMP_FIELDS.length),
    escaped: new Uint8Array(DUMP_FIELDS.length),
    fieldCount: 0,
    lineEnd: 0,
  };
}

type Code = "bad-value" | "limit" | "truncated" | "not-found";

/** Error about a line of a dump, naming line and field. */
export function lineError(
  line: number,
  field: string,
  message: string,
  code: Code = "bad-value",
): FormatError {
  return new FormatError(code, `Dump line ${line}, ${field}: ${message}`, {
    format: "dump",
    line,
    field,
  });
}

/** Finds the fields of the line that starts at `from`. */
export function splitLine(reader: FieldReader, from: number): void {
  const { text, starts, ends, escaped } = reader;
  const { length } = text;
  let field = 0;
  let start = from;
  let hasEscape = 0;
  let at = from;
  while (field < DUMP_FIELDS.length) {
    const code = at < length ? text[at]! : NEWLINE;
    if (code > SPACE) {
      if (code === BACKSLASH) hasEscape = 1;
    } else if (code === SPACE || code === NEWLINE) {
      starts[field] = start;
      ends[field] = at;
      escaped[field] = hasEscape;
      field += 1;
      start = at + 1;
      hasEscape = 0;
      if (code === NEWLINE) break;
    } else if (code === 0) {
      throw lineError(reader.line, DUMP_FIELDS[field]!, "Line has a NUL byte");
    }
    at += 1;
  }
  reader.fieldCount = field;
  // After a full set `at` is behind the last field's space, or on the newline.
  const newline = at >= length || text[at] === NEWLINE ? at : text.indexOf(NEWLINE, at);
  reader.lineEnd = newline === -1 ? length : Math.min(newline, length);
}

export function fieldLength(reader: FieldReader, field: DumpField): number {
  return field < reader.fieldCount ? reader.ends[field]! - reader.starts[field]! : 0;
}

/** True when the field is "-", which means unset. */
export function isDash(reader: FieldReader, field: DumpField): boolean {
  const { text, starts, ends } = reader;
  const start = starts[field]!;
  return field < reader.fieldCount && ends[field]! - start === 1 && text[start] === DASH;
}

/** The field's bytes without escapes; empty when missing. */
export function readSpan(reader: FieldReader, field: DumpField, span: ByteSpan): void {
  span.bytes = reader.text;
  span.start = 0;
  span.end = 0;
  if (field >= reader.fieldCount) return;
  const { rust, starts, ends, escaped } = reader;
  span.start = starts[field]!;
  span.end = ends[field]!;
  if (escaped[field] === 0) return;
  const name = DUMP_FIELDS[field]!;
  span.bytes = unescapeField(reader, name, span.start, span.end);
  const nul = span.bytes.indexOf(0);
  // An escaped NUL ends C's strings.
  if (nul !== -1 && rust) throw lineError(reader.line, name, "Text has a NUL byte");
  span.start = 0;
  span.end = nul === -1 ? span.bytes.length : nul;
}

export function spanText({ bytes, start, end }: ByteSpan): ByteString {
  return bytes.toString("latin1", start, end);
}

/** The field's text without escapes; empty when missing. */
export function textField(reader: FieldReader, field: DumpField): ByteString {
  if (field >= reader.fieldCount) return "";
  const { text, starts, ends, escaped } = reader;
  if (escaped[field] === 0) return text.toString("latin1", starts[field]!, ends[field]!);
  const bytes = unescapeField(reader, DUMP_FIELDS[field]!, starts[field]!, ends[field]!);
  return cutAtNul(reader, DUMP_FIELDS[field]!, bytes.toString("latin1"));
}

/** An escaped NUL ends C's strings; Rust refuses it. */
export function cutAtNul(reader: FieldReader, field: string, text: ByteString): ByteString {
  const nul = text.indexOf("\0");
  if (nul === -1) return text;
  if (reader.rust) throw lineError(reader.line, field, "Text has a NUL byte");
  return text.slice(0, nul);
}

export function numberField(reader: FieldReader, field: DumpField, max: number): number {
  const name = DUMP_FIELDS[field]!;
  if (field >= reader.fieldCount) throw lineError(reader.line, name, "Number is missing");
  return parseNumber(reader, name, reader.starts[field]!, reader.ends[field]!, max);
}

/** Base 10, exact. What is odd is refused by Rust and treated by C as strtoull does. */
export function parseNumber(
  reader: FieldReader,
  name: string,
  from: number,
  end: number,
  max: number,
): number {
  const { text } = reader;
  let value = 0;
  for (let at = from; at < end; at++) {
    const digit = text[at]! - 0x30;
    if (digit < 0 || digit > 9 || value > max) return parseOddNumber(reader, name, from, end, max);
    value = value * 10 + digit;
  }
  if (value > max || from >= end) return parseOddNumber(reader, name, from, end, max);
  return value;
}

/**
 * Blanks, a sign, or more than the field can hold: 32-bit fields are cut, as by C's cast. A SIZE
 * beyond 2^53 becomes Infinity: too large for a regular file, of no interest for others.
 */
function parseOddNumber(
  reader: FieldReader,
  name: string,
  from: number,
  end: number,
  max: number,
): number {
  const found = reader.text.toString("latin1", from, Math.min(end, from + 64));
  const match = (reader.rust ? /^()(\d+)$/ : /^[\t\v\f\r]*([+-]?)(\d+)$/).exec(found);
  if (match === null) throw lineError(reader.line, name, `"${found}" is not a number`);
  const magnitude = BigInt(match[2]!);
  const value = match[1] === "-" ? -magnitude : magnitude;
  if (!reader.rust && max === MAX_U32) {
    return magnitude > MAX_U64 ? MAX_U32 : Number(BigInt.asUintN(32, value));
  }
  const isTime = name === "MTIME";
  if (magnitude <= BigInt(max) && (isTime || value >= 0n)) return Number(value);
  if (name === "SIZE") return value === MAX_SIZE ? Number(MAX_SIZE) : Number.POSITIVE_INFINITY;
  const range = `${isTime && !reader.rust ? -max : 0} to ${max}`;
  throw lineError(reader.line, name, `Number is not in the range ${range}`, "limit");
}

/** Resolves escapes; shares memory with the text when there are none. */
export function unescapeField(
  reader: FieldReader,
  field: string,
  start: number,
  end: number,
): Buffer {
  const raw = reader.text.subarray(start, end);
  let at = raw.indexOf(BACKSLASH);
  if (at === -1) return raw;
  const out = Buffer.alloc(raw.length);
  raw.copy(out, 0, 0, at);
  let length = at;
  while (at < raw.length) {
    const code = raw[at]!;
    if (code !== BACKSLASH) {
      out[length++] = code;
      at += 1;
      continue;
    }
    const isHex = raw[at + 1] === 0x78;
    const value = isHex ? hexByte(raw, at + 2) : shortEscape(raw[at + 1]);
    if (value < 0) throw lineError(reader.line, field, "Unknown or cut off escape");
    out[length++] = value;
    at += isHex ? 4 : 2;
  }
  return out.subarray(0, length);
}

/** The byte after a backslash to the byte it stands for, or -1. */
function shortEscape(code: number | undefined): number {
  switch (code) {
    case BACKSLASH:
      return BACKSLASH;
    case 0x6e:
      return 0x0a;
    case 0x72:
      return 0x0d;
    case 0x74:
      return 0x09;
    default:
      return -1;
  }
}

/** By ASCII code: what a hex digit of either case stands for, 16 for everything else. */
const HEX_VALUES = Uint8Array.from({ length: 256 }, (_, code) => {
  const value = Number.parseInt(String.fromCharCode(code), 16);
  return Number.isNaN(value) ? 16 : value;
});

/** The byte that two hex digits stand for, or -1. */
function hexByte(raw: Buffer, at: number): number {
  const high = HEX_VALUES[raw[at] ?? 0]!;
  const low = HEX_VALUES[raw[at + 1] ?? 0]!;
  return (high | low) < 16 ? high * 16 + low : -1;
}

/** Fills `out` from twice as many digits; false when one is none. */
export function readHex(text: Buffer, from: number, out: Uint8Array): boolean {
  const { length } = out;
  let seen = 0;
  for (let i = 0; i < length; i++) {
    const high = HEX_VALUES[text[from + 2 * i]!]!;
    const low = HEX_VALUES[text[from + 2 * i + 1]!]!;
    seen |= high | low;
    out[i] = high * 16 + low;
  }
  return seen < 16;
}
