// One line of a composefs dump file (composefs-dump(5); composefs.md section 3).
//
// Eleven fields separated by single spaces, then KEY=VALUE xattrs:
//   PATH SIZE MODE NLINK UID GID RDEV MTIME PAYLOAD CONTENT DIGEST
// Escapes are \\ \n \r \t \xHH. `-` alone means unset in PAYLOAD, CONTENT and DIGEST. A mode with
// a leading `@` makes a hard link: then only PATH, MODE and PAYLOAD count.

import {
  createFieldReader,
  type DumpOptions,
  type FieldReader,
  fieldLength,
  hexByte,
  isDash,
  lineError,
  MAX_U32,
  numberField,
  parseNumber,
  splitLine,
  textField,
  unescapeField,
} from "./dump-field.ts";
import { parseXattrs, type XattrsCache } from "./dump-xattr.ts";
import {
  type ByteString,
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  type Xattrs,
} from "./node.ts";

/** A parsed and checked line; the reader reuses the object for the next one. */
export interface DumpLine {
  /** From 1. */
  number: number;
  path: ByteString;
  isLink: boolean;
  /** Full st_mode with a known type. */
  mode: number;
  /** Infinity when larger than 2^53. */
  size: number;
  nlink: number;
  uid: number;
  gid: number;
  /** 0 for everything but devices. */
  rdev: number;
  mtimeSec: number;
  mtimeNsec: number;
  /** Object path, symlink target or hard link target; "" when unset. */
  payload: ByteString;
  /** Bytes of a file stored in the image (also of an empty one); null for external files. */
  content: Uint8Array | null;
  /** 32 or 64 bytes in memory that is reused; null when there is none. */
  digest: Uint8Array | null;
  xattrs: Xattrs;
}

const PATH = 0;
const SIZE = 1;
const MODE = 2;
const NLINK = 3;
const UID = 4;
const GID = 5;
const RDEV = 6;
const MTIME = 7;
const PAYLOAD = 8;
const CONTENT = 9;
const DIGEST = 10;
const FIELD_COUNT = 11;

const NEWLINE = 0x0a;
const DOT = 0x2e;
const PLUS = 0x2b;
const AT_SIGN = 0x40;

const LIMITS = {
  c: { path: 4095, target: 4095, content: 5000 },
  rust: { path: 4095, target: 1024, content: 512 },
} as const;
const MAX_LINE_BYTES = 1 << 20;
const NO_BYTES = new Uint8Array(0);

interface LineReader {
  readonly fields: FieldReader;
  readonly strict: boolean;
  readonly limits: (typeof LIMITS)["c" | "rust"];
  readonly line: DumpLine;
  readonly xattrsCache: XattrsCache;
}

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
  let rest: Uint8Array = NO_BYTES;
  for (const piece of text instanceof Uint8Array ? [text] : text) {
    const bytes = rest.length === 0 ? asBuffer(piece) : Buffer.concat([rest, piece]);
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    readPiece(reader, bytes.subarray(0, end), visit);
    rest = bytes.subarray(end);
    if (rest.length > MAX_LINE_BYTES) {
      throw lineError(reader.line.number + 1, "line", "Line is longer than 1 MiB", "limit");
    }
    // The next piece may use the same memory.
    if (!(text instanceof Uint8Array)) rest = Buffer.from(rest);
  }
  if (rest.length === 0) return;
  if (reader.strict) {
    throw lineError(reader.line.number + 1, "line", "Last line has no newline", "truncated");
  }
  readPiece(reader, asBuffer(rest), visit);
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

function createLineReader(options: DumpOptions): LineReader {
  const line: DumpLine = {
    number: 0,
    path: "",
    isLink: false,
    mode: 0,
    size: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    payload: "",
    content: null,
    digest: null,
    xattrs: NO_XATTRS,
  };
  return {
    fields: createFieldReader(options),
    strict: options.strict ?? false,
    limits: LIMITS[options.dialect ?? "c"],
    line,
    xattrsCache: new Map(),
  };
}

function parseFields(reader: LineReader): void {
  const { line, fields } = reader;
  if (fields.rust && fields.fieldCount < FIELD_COUNT) {
    throw lineError(line.number, "line", `Line has ${fields.fieldCount} fields of 11`, "truncated");
  }
  line.path = textField(fields, PATH);
  if (line.path === "") throw lineError(line.number, "PATH", "Path is empty");
  parseMode(reader);
  line.payload = isDash(fields, PAYLOAD) ? "" : textField(fields, PAYLOAD);
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
  for (; at < end; at++) {
    const digit = text[at]! - 0x30;
    if (digit < 0 || digit > 7) throw lineError(line.number, "MODE", "Mode is not octal");
    mode = mode * 8 + digit;
    if (mode > 0o177777) throw lineError(line.number, "MODE", "Mode is too large", "limit");
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

function parseData(reader: LineReader): void {
  const { line } = reader;
  const type = line.mode & S_IFMT;
  if (type === S_IFREG) parseFileData(reader);
  else if (type === S_IFLNK) checkTarget(reader);
}

function parseFileData({ fields, line, limits }: LineReader): void {
  if (!isDash(fields, CONTENT)) {
    const content = contentField(fields);
    if (content.length > limits.content) {
      const message = `Content is longer than ${limits.content} bytes`;
      throw lineError(line.number, "CONTENT", message, "limit");
    }
    if (content.length !== line.size) {
      const message = `Size ${line.size} is not the content's ${content.length}`;
      throw lineError(line.number, "SIZE", message);
    }
    line.content = content;
    return;
  }
  if (line.size === 0) {
    line.content = NO_BYTES;
    return;
  }
  if (line.size === Number.POSITIVE_INFINITY) {
    throw lineError(line.number, "SIZE", "Size is not in the range 0 to 2^53", "limit");
  }
  if (line.payload.length > limits.path) {
    const message = `Path is longer than ${limits.path} bytes`;
    throw lineError(line.number, "PAYLOAD", message, "limit");
  }
  line.digest = digestField(fields);
}

function contentField(fields: FieldReader): Uint8Array {
  if (fieldLength(fields, CONTENT) === 0) return NO_BYTES;
  const { starts, ends } = fields;
  return Uint8Array.from(unescapeField(fields, "CONTENT", starts[CONTENT]!, ends[CONTENT]!));
}

const digest256 = new Uint8Array(32);
const digest512 = new Uint8Array(64);

function digestField(fields: FieldReader): Uint8Array | null {
  const digits = fieldLength(fields, DIGEST);
  if (digits === 0 || isDash(fields, DIGEST)) return null;
  const digest = digits === 64 ? digest256 : digits === 128 ? digest512 : null;
  const start = digits === 0 ? 0 : fields.starts[DIGEST]!;
  for (let i = 0; digest !== null && i < digest.length; i++) {
    const byte = hexByte(fields.text, start + 2 * i);
    if (byte < 0) break;
    digest[i] = byte;
    if (i + 1 === digest.length) return digest;
  }
  throw lineError(fields.line, "DIGEST", `"${textField(fields, DIGEST)}" is not a hex digest`);
}

function checkTarget({ fields, line, strict, limits }: LineReader): void {
  const { payload, number } = line;
  if (payload === "") throw lineError(number, "PAYLOAD", "Symlink has no target");
  if (payload.length > limits.target) {
    const message = `Symlink target is longer than ${limits.target} bytes`;
    throw lineError(number, "PAYLOAD", message, "limit");
  }
  if (strict && line.size !== payload.length) {
    throw lineError(number, "SIZE", `Size ${line.size} is not the target's ${payload.length}`);
  }
  if (strict && !isDash(fields, CONTENT)) {
    throw lineError(number, "CONTENT", "Symlink has content");
  }
}
