// One line of a composefs dump file (composefs-dump(5); composefs.md section 3).
//
// Eleven fields separated by single spaces, then KEY=VALUE xattrs:
//   PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST
// Escapes are \\ \n \r \t \xHH. `-` alone means unset in PAYLOAD, CONTENT and DIGEST. A mode with
// a leading `@` makes a hard link: then only PATH, MODE and PAYLOAD count.

import { DIGEST, PAYLOAD, parseData } from "./dump-data.ts";
import {
  type DumpOptions,
  fieldLength,
  isDash,
  lineError,
  MAX_U32,
  numberField,
  parseNumber,
  readSpan,
  splitLine,
} from "./dump-field.ts";
import { createLineReader, type DumpLine, type LineReader, NO_BYTES } from "./dump-record.ts";
import { parseXattrs } from "./dump-xattr.ts";
import {
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from "./node.ts";

const PATH = 0;
const SIZE = 1;
const MODE = 2;
const NLINK = 3;
const UID = 4;
const GID = 5;
const RDEV = 6;
const MTIME = 7;
const FIELD_COUNT = 11;

const MAX_MODE = 0o177777;

const NEWLINE = 0x0a;
const DOT = 0x2e;
const PLUS = 0x2b;
const AT_SIGN = 0x40;

const MAX_LINE_BYTES = 1 << 20;

/**
 * Reads all lines of a dump, whole or in pieces, calling `visit` with an object that is reused.
 * FormatErrors name line and field.
 */
export function readDumpLines(
  text: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions,
  visit: (line: DumpLine) => void,
): void {
  const reader = createLineReader(options);
  let rest: Buffer = NO_BYTES;
  for (const piece of text instanceof Uint8Array ? [text] : text) {
    const bytes = asBuffer(piece);
    // The line that the last piece left unfinished gets its end, and is read by itself.
    const from = rest.length === 0 ? 0 : bytes.indexOf(NEWLINE) + 1;
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    if (from > 0) readPiece(reader, Buffer.concat([rest, bytes.subarray(0, from)]), visit);
    if (from > 0 || rest.length === 0) {
      readPiece(reader, bytes.subarray(from, end), visit);
      rest = NO_BYTES;
    }
    // A copy, because the next piece may use the same memory.
    if (end < bytes.length) rest = Buffer.concat([rest, bytes.subarray(end)]);
    if (rest.length > MAX_LINE_BYTES) {
      throw lineError(reader.line.number + 1, "line", "Line is longer than 1 MiB", "limit");
    }
  }
  if (rest.length === 0) return;
  if (reader.strict) {
    throw lineError(reader.line.number + 1, "line", "Last line has no newline", "truncated");
  }
  readPiece(reader, rest, visit);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readPiece(reader: LineReader, text: Buffer, visit: (line: DumpLine) => void): void {
  const { fields, line } = reader;
  fields.text = text;
  for (let at = 0; at < text.length; at = fields.lineEnd + 1) {
    line.number += 1;
    fields.line = line.number;
    splitLine(fields, at);
    parseFields(reader);
    visit(line);
  }
}

function parseFields(reader: LineReader): void {
  const { line, fields } = reader;
  if (fields.rust && fields.fieldCount < FIELD_COUNT) {
    throw lineError(line.number, "line", `Line has ${fields.fieldCount} fields of 11`, "truncated");
  }
  readSpan(fields, PATH, line.path);
  if (line.path.start === line.path.end) throw lineError(line.number, "PATH", "Path is empty");
  parseMode(reader);
  readSpan(fields, PAYLOAD, line.payload);
  if (isDash(fields, PAYLOAD)) line.payload.end = line.payload.start;
  line.content = null;
  line.digest = null;
  line.xattrs = NO_XATTRS;
  if (line.isLink) return;
  line.size = numberField(fields, SIZE, Number.MAX_SAFE_INTEGER);
  line.nlink = numberField(fields, NLINK, MAX_U32);
  line.uid = numberField(fields, UID, MAX_U32);
  line.gid = numberField(fields, GID, MAX_U32);
  parseRdev(reader);
  parseMtime(reader);
  parseData(reader);
  if (fields.fieldCount === FIELD_COUNT && fields.lineEnd > fields.ends[DIGEST]!) {
    line.xattrs = parseXattrs(fields, fields.ends[DIGEST]! + 1, reader.xattrsCache);
  }
}

/** Octal, with the type bits; `@` before it makes a hard link. */
function parseMode({ fields, line }: LineReader): void {
  const { text } = fields;
  const end = fieldLength(fields, MODE) === 0 ? 0 : fields.ends[MODE]!;
  let at = end === 0 ? 0 : fields.starts[MODE]!;
  line.isLink = at < end && text[at] === AT_SIGN;
  if (line.isLink) at += 1;
  if (!fields.rust && at < end && text[at] === PLUS) at += 1;
  if (at === end) throw lineError(line.number, "MODE", "Mode is empty");
  let mode = 0;
  let wide = 0;
  for (; at < end; at++) {
    const digit = text[at]! - 0x30;
    if (digit < 0 || digit > 7) throw lineError(line.number, "MODE", "Mode is not octal");
    // C keeps the low 16 bits of a 64-bit number, and one of upstream's test dumps relies on it.
    mode = (mode * 8 + digit) & MAX_MODE;
    wide = wide * 8 + digit;
    if (wide > MAX_MODE && (fields.rust || wide >= 2 ** 64)) {
      throw lineError(line.number, "MODE", "Mode is too large", "limit");
    }
  }
  line.mode = mode;
  if (line.isLink && (mode & S_IFMT) === S_IFDIR) {
    throw lineError(line.number, "MODE", "Directories cannot be hard-linked");
  }
  if (!isKnownType(mode & S_IFMT)) {
    throw lineError(line.number, "MODE", `Mode 0${mode.toString(8)} has no known file type`);
  }
}

function isKnownType(type: number): boolean {
  switch (type) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      return true;
    default:
      return false;
  }
}

function parseRdev({ fields, line, strict }: LineReader): void {
  const rdev = numberField(fields, RDEV, MAX_U32);
  const type = line.mode & S_IFMT;
  const isDevice = type === S_IFCHR || type === S_IFBLK;
  line.rdev = isDevice ? rdev : 0;
  if (rdev !== 0 && !isDevice && (strict || fields.rust)) {
    throw lineError(line.number, "RDEV", "Only devices have a device number");
  }
}

/** SECONDS.NANOSECONDS, both integers; C allows negative seconds. */
function parseMtime({ fields, line }: LineReader): void {
  const { text } = fields;
  if (fieldLength(fields, MTIME) === 0) throw lineError(line.number, "MTIME", "Time is missing");
  const start = fields.starts[MTIME]!;
  const end = fields.ends[MTIME]!;
  let dot = start;
  while (dot < end && text[dot] !== DOT) dot += 1;
  if (dot === end) throw lineError(line.number, "MTIME", "Time has no dot");
  line.mtimeSec = parseNumber(fields, "MTIME", start, dot, Number.MAX_SAFE_INTEGER);
  line.mtimeNsec = parseNumber(fields, "MTIME", dot + 1, end, MAX_U32);
}
