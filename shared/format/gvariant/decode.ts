// Reads serialised GVariants ("GVariant Specification", section 3) from untrusted bytes.
//
// Only normal form is accepted: the one way to write a value. GLib reads anything and puts defaults where
// bytes make no sense; ostree itself insists on normal form for what a checksum names (fsck, pull), and
// for signed or detached data a default in place of what was signed must never be believed. Checked: sizes,
// offsets (ascending, in bounds, in a table of the least width), zero padding, UTF-8, booleans. Because
// every value then costs at least a byte, work and memory are linear in the input.

import { FormatError } from "../../error.ts";
import { align, MAX_DEPTH, parseType, type VariantType } from "./type.ts";
import { type GVariant, offsetBytes, offsetBytesFor } from "./value.ts";

/** A type string within a variant may not be longer; real ones have some dozen characters. */
const MAX_TYPE_CHARACTERS = 65_536;
const NOTHING: readonly GVariant[] = [];
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

interface Input {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

/** The value; byte arrays in it are views of `bytes`. FormatError unless it is in normal form. */
export function decodeGVariant(type: string, bytes: Uint8Array): GVariant {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return decodeValue({ bytes, view }, parseType(type), 0, bytes.length, 0);
}

/** `start` is aligned for the type, relative to the start of the input. */
function decodeValue(
  input: Input,
  type: VariantType,
  start: number,
  end: number,
  depth: number,
): GVariant {
  switch (type.kind) {
    case "fixed":
      return decodeFixed(input, type.code, type.alignment, start, end);
    case "string":
      return decodeString(input, type.code, start, end);
    case "variant":
      return decodeVariant(input, start, end, depth);
    case "maybe":
      return decodeMaybe(input, type.element, start, end, depth);
    case "array":
      return decodeArray(input, type.element, start, end, depth);
    default:
      return type.fixedBytes === null
        ? decodeVariableTuple(input, type.members, start, end, depth)
        : decodeFixedTuple(input, type.members, type.fixedBytes, start, end, depth);
  }
}

function decodeFixed(
  { view }: Input,
  code: string,
  size: number,
  start: number,
  end: number,
): GVariant {
  if (end - start !== size) throw abnormal(start, `"${code}" has ${end - start} bytes`);
  switch (code) {
    case "b":
      if (view.getUint8(start) > 1) throw abnormal(start, "a boolean is neither 0 nor 1");
      return view.getUint8(start) === 1;
    case "y":
      return view.getUint8(start);
    case "n":
      return view.getInt16(start, true);
    case "q":
      return view.getUint16(start, true);
    case "u":
      return view.getUint32(start, true);
    case "x":
      return view.getBigInt64(start, true);
    case "t":
      return view.getBigUint64(start, true);
    case "d":
      return view.getFloat64(start, true);
    default: // i, h
      return view.getInt32(start, true);
  }
}

function decodeString({ bytes }: Input, code: string, start: number, end: number): string {
  if (end === start || bytes[end - 1] !== 0) throw abnormal(start, "a string has no end");
  const content = bytes.subarray(start, end - 1);
  if (content.includes(0)) throw abnormal(start, "a string contains a NUL");
  let text: string;
  try {
    text = utf8.decode(content);
  } catch (cause) {
    throw abnormal(start, "a string is not valid UTF-8", cause);
  }
  if (code === "o" && !isObjectPath(text)) throw abnormal(start, `"${text}" is no object path`);
  if (code === "g") checkSignature(text, start);
  return text;
}

export function isObjectPath(text: string): boolean {
  return /^\/(?:[A-Za-z0-9_]+(?:\/[A-Za-z0-9_]+)*)?$/.test(text);
}

/** A signature is any number of types. */
function checkSignature(text: string, offset: number): void {
  try {
    parseType(`(${text})`);
  } catch (cause) {
    throw abnormal(offset, "a signature is not valid", cause);
  }
}

function decodeVariant(input: Input, start: number, end: number, depth: number): GVariant {
  const { bytes } = input;
  const separator = bytes.subarray(start, end).lastIndexOf(0);
  if (separator < 0) throw abnormal(start, "a variant has no type");
  const nul = start + separator;
  if (end - nul - 1 > MAX_TYPE_CHARACTERS) throw tooDeep(start, "a variant's type is too long");
  const type = parseType(Buffer.from(bytes.subarray(nul + 1, end)).toString("latin1"));
  if (type.depth >= MAX_DEPTH - depth) throw tooDeep(start, "variants are nested too deep");
  return { type: type.text, value: decodeValue(input, type, start, nul, depth + 1) };
}

function decodeMaybe(
  input: Input,
  element: VariantType,
  start: number,
  end: number,
  depth: number,
): GVariant {
  if (start === end) return NOTHING;
  if (element.fixedBytes !== null) return [decodeValue(input, element, start, end, depth + 1)];
  if (input.bytes[end - 1] !== 0) throw abnormal(end - 1, "a maybe ends with another byte than 0");
  return [decodeValue(input, element, start, end - 1, depth + 1)];
}

function decodeArray(
  input: Input,
  element: VariantType,
  start: number,
  end: number,
  depth: number,
): GVariant {
  if (element.text === "y") return input.bytes.subarray(start, end);
  if (start === end) return NOTHING;
  const values: GVariant[] = [];
  if (element.fixedBytes !== null) {
    const step = element.fixedBytes;
    if ((end - start) % step !== 0) throw abnormal(start, "an array ends within an element");
    for (let at = start; at < end; at += step) {
      values.push(decodeValue(input, element, at, at + step, depth + 1));
    }
    return values;
  }
  const size = end - start;
  const width = offsetBytes(size);
  const bodyBytes = readOffset(input, end - width, width);
  const count = (size - bodyBytes) / width;
  if (!Number.isInteger(count) || count < 1 || offsetBytesFor(bodyBytes, count) !== width) {
    throw abnormal(end - width, "an array has a wrong table of offsets");
  }
  let at = start;
  for (let i = 0, entry = start + bodyBytes; i < count; i++, entry += width) {
    at = skipPadding(input, at, element.alignment, start + bodyBytes);
    const next = start + readOffset(input, entry, width);
    if (next < at || next > start + bodyBytes) throw abnormal(entry, "an offset is out of order");
    values.push(decodeValue(input, element, at, next, depth + 1));
    at = next;
  }
  return values;
}

function decodeFixedTuple(
  input: Input,
  members: readonly VariantType[],
  fixedBytes: number,
  start: number,
  end: number,
  depth: number,
): GVariant {
  if (end - start !== fixedBytes) {
    throw abnormal(start, `a structure of ${fixedBytes} bytes has ${end - start}`);
  }
  let at = start;
  const values = members.map((member) => {
    const from = skipPadding(input, at, member.alignment, end);
    at = from + member.fixedBytes!;
    return decodeValue(input, member, from, at, depth + 1);
  });
  checkZero(input, at, end);
  return values;
}

function decodeVariableTuple(
  input: Input,
  members: readonly VariantType[],
  start: number,
  end: number,
  depth: number,
): GVariant {
  const width = offsetBytes(end - start);
  const last = members.length - 1;
  let at = start;
  // The table is read from its end; what it must leave to the values is known only afterwards.
  let table = end;
  const values = members.map((member, index) => {
    const from = skipPadding(input, at, member.alignment, table);
    if (member.fixedBytes !== null) at = from + member.fixedBytes;
    else if (index === last) at = table;
    else {
      table -= width;
      if (table < from) throw abnormal(from, "a structure is too short for its offsets");
      at = start + readOffset(input, table, width);
    }
    if (at < from || at > table) throw abnormal(from, "a member of a structure is out of bounds");
    return decodeValue(input, member, from, at, depth + 1);
  });
  const count = (end - table) / width;
  if (at !== table || (count > 0 && offsetBytesFor(at - start, count) !== width)) {
    throw abnormal(at, "a structure has bytes that belong to nothing");
  }
  return values;
}

function readOffset({ view }: Input, at: number, width: 1 | 2 | 4 | 8): number {
  if (width === 1) return view.getUint8(at);
  if (width === 2) return view.getUint16(at, true);
  if (width === 4) return view.getUint32(at, true);
  return Number(view.getBigUint64(at, true));
}

/** The next aligned offset, which may not lie beyond `limit`. */
function skipPadding(input: Input, at: number, alignment: number, limit: number): number {
  const next = align(at, alignment);
  if (next > limit) throw abnormal(at, "padding goes beyond the value");
  checkZero(input, at, next);
  return next;
}

function checkZero({ bytes }: Input, start: number, end: number): void {
  for (let at = start; at < end; at++) {
    if (bytes[at] !== 0) throw abnormal(at, "padding is not zero");
  }
}

function abnormal(offset: number, problem: string, cause?: unknown): FormatError {
  return new FormatError(
    "bad-value",
    `GVariant is not in normal form: ${problem} (byte ${offset})`,
    { format: "gvariant", offset },
    { cause },
  );
}

function tooDeep(offset: number, problem: string): FormatError {
  return new FormatError("limit", `GVariant: ${problem} (byte ${offset})`, {
    format: "gvariant",
    offset,
  });
}
