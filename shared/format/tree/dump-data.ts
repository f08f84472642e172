// What a dump line says about a file's data: PAYLOAD, CONTENT and DIGEST.

import {
  type FieldReader,
  fieldLength,
  isDash,
  lineError,
  readHex,
  textField,
  unescapeField,
} from "./dump-field.ts";
import type { DumpLine, Limits, LineReader } from "./dump-record.ts";
import { S_IFLNK, S_IFMT, S_IFREG } from "./node.ts";

export const PAYLOAD = 8;
const CONTENT = 9;
export const DIGEST = 10;

/** Checks the three fields against size and type, and fills content and digest. */
export function parseData(reader: LineReader): void {
  const { line } = reader;
  const type = line.mode & S_IFMT;
  if (type === S_IFREG) parseFileData(reader);
  else if (type === S_IFLNK) checkTarget(reader);
  if (!reader.fields.rust) checkUnused(reader, type);
}

/** C wants fields in order that the file's type makes no use of. */
function checkUnused(reader: LineReader, type: number): void {
  const { fields, line, limits } = reader;
  if (type !== S_IFLNK) checkPayload(line, limits);
  if (type !== S_IFREG && !isDash(fields, CONTENT)) readContent(reader);
  if (fields.escaped[DIGEST] !== 0) textField(fields, DIGEST);
}

function parseFileData(reader: LineReader): void {
  const { fields, line, limits } = reader;
  if (!isDash(fields, CONTENT)) {
    readContent(reader);
    line.content = reader.content;
    return;
  }
  // Rust keeps an object of no bytes where C has an empty file.
  if (line.size === 0 && (!fields.rust || line.payload.start === line.payload.end)) {
    reader.content.end = reader.content.start;
    line.content = reader.content;
    return;
  }
  if (line.size === Number.POSITIVE_INFINITY) {
    throw lineError(line.number, "SIZE", "Size is not in the range 0 to 2^53", "limit");
  }
  checkPayload(line, limits);
  line.digest = digestField(fields);
}

function checkPayload({ number, payload }: DumpLine, limits: Limits): void {
  if (payload.end - payload.start <= limits.path) return;
  const message = `Path is longer than ${limits.path} bytes`;
  throw lineError(number, "PAYLOAD", message, "limit");
}

/** Into `reader.content`; a NUL is content like any other byte. */
function readContent({ fields, line, limits, content }: LineReader): void {
  const exists = CONTENT < fields.fieldCount;
  content.bytes = fields.text;
  content.start = exists ? fields.starts[CONTENT]! : 0;
  content.end = exists ? fields.ends[CONTENT]! : 0;
  if (exists && fields.escaped[CONTENT] !== 0) {
    content.bytes = unescapeField(fields, "CONTENT", content.start, content.end);
    content.start = 0;
    content.end = content.bytes.length;
  }
  const sizeBytes = content.end - content.start;
  if (sizeBytes > limits.content) {
    const message = `Content is longer than ${limits.content} bytes`;
    throw lineError(line.number, "CONTENT", message, "limit");
  }
  if (sizeBytes !== line.size) {
    throw lineError(line.number, "SIZE", `Size ${line.size} is not the content's ${sizeBytes}`);
  }
}

const digest256 = new Uint8Array(32);
const digest512 = new Uint8Array(64);

function digestField(fields: FieldReader): Uint8Array | null {
  const digits = fieldLength(fields, DIGEST);
  if (digits === 0 || isDash(fields, DIGEST)) return null;
  const digest = digits === 64 ? digest256 : digits === 128 ? digest512 : null;
  if (digest !== null && readHex(fields.text, fields.starts[DIGEST]!, digest)) return digest;
  throw lineError(fields.line, "DIGEST", `"${textField(fields, DIGEST)}" is not a hex digest`);
}

function checkTarget({ fields, line, strict, limits }: LineReader): void {
  const { payload, number } = line;
  const sizeBytes = payload.end - payload.start;
  if (sizeBytes === 0) throw lineError(number, "PAYLOAD", "Symlink has no target");
  if (sizeBytes > limits.target) {
    const message = `Symlink target is longer than ${limits.target} bytes`;
    throw lineError(number, "PAYLOAD", message, "limit");
  }
  if (strict && line.size !== sizeBytes) {
    throw lineError(number, "SIZE", `Size ${line.size} is not the target's ${sizeBytes}`);
  }
  if (strict && !isDash(fields, CONTENT)) {
    throw lineError(number, "CONTENT", "Symlink has content");
  }
}
