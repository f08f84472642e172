// Writes GVariants in normal form, little-endian ("GVariant Specification", section 3), as GLib does on every
// machine that ostree runs on. One pass: a container's table of offsets follows its body, when the
// width of the offsets is known. Values that do not fit their type are bugs and throw FormatError.

import { FormatError } from "../../error.ts";
import { isObjectPath } from "./decode.ts";
import { align, type CompoundType, type FixedCode, parseType, type VariantType } from "./type.ts";
import { type GVariant, offsetBytesFor, type Variant } from "./value.ts";

interface Output {
  bytes: Uint8Array;
  view: DataView;
  length: number;
}

const INITIAL_BYTES = 256;

/** The bytes of `value`; see value.ts for what values of each type look like. */
export function encodeGVariant(type: string, value: GVariant): Uint8Array {
  const bytes = new Uint8Array(INITIAL_BYTES);
  const output: Output = { bytes, view: new DataView(bytes.buffer), length: 0 };
  encodeValue(output, parseType(type), value);
  return output.bytes.slice(0, output.length);
}

/** `output` is aligned for the type already. */
function encodeValue(output: Output, type: VariantType, value: GVariant): void {
  if (type.kind === "fixed") encodeFixed(output, type.code, type.alignment, value);
  else if (type.kind === "string") encodeString(output, type.code, value);
  else if (type.kind === "variant") encodeVariant(output, value);
  else if (type.kind === "maybe") encodeMaybe(output, type.element, value);
  else if (type.kind === "array") encodeArray(output, type.element, value);
  else encodeMembers(output, type, value);
}

const RANGES: Readonly<Partial<Record<FixedCode, readonly [number | bigint, number | bigint]>>> = {
  y: [0, 0xff],
  n: [-0x8000, 0x7fff],
  q: [0, 0xffff],
  i: [-0x80000000, 0x7fffffff],
  h: [-0x80000000, 0x7fffffff],
  u: [0, 0xffffffff],
  x: [-(1n << 63n), (1n << 63n) - 1n],
  t: [0n, (1n << 64n) - 1n],
};

function encodeFixed(output: Output, code: FixedCode, size: number, value: GVariant): void {
  const at = reserve(output, size);
  const { view } = output;
  if (code === "b") view.setUint8(at, Number(requireType(value, "boolean", code)));
  else if (code === "d") view.setFloat64(at, requireType(value, "number", code), true);
  else if (code === "x" || code === "t") {
    view.setBigUint64(at, BigInt.asUintN(64, requireRange(value, "bigint", code)), true);
  } else {
    const number = requireRange(value, "number", code);
    if (!Number.isInteger(number)) throw wrongValue(value, code);
    if (size === 1) view.setUint8(at, number);
    else if (size === 2) view.setUint16(at, number & 0xffff, true);
    else view.setUint32(at, number >>> 0, true);
  }
}

interface TypeNames {
  boolean: boolean;
  number: number;
  bigint: bigint;
  string: string;
}

function requireType<T extends keyof TypeNames>(
  value: GVariant,
  name: T,
  code: string,
): TypeNames[T] {
  if (typeof value !== name) throw wrongValue(value, code);
  return value as TypeNames[T];
}

function requireRange<T extends "number" | "bigint">(
  value: GVariant,
  name: T,
  code: FixedCode,
): TypeNames[T] {
  const number = requireType(value, name, code);
  const [least, most] = RANGES[code]!;
  if (number < least || number > most) throw wrongValue(value, code);
  return number;
}

function encodeString(output: Output, code: string, value: GVariant): void {
  const text = requireType(value, "string", code);
  const isValid = text.isWellFormed() && !text.includes("\0");
  if (!isValid || (code === "o" && !isObjectPath(text))) throw wrongValue(value, code);
  if (code === "g") parseType(`(${text})`);
  append(output, Buffer.from(`${text}\0`, "utf8"));
}

function encodeVariant(output: Output, value: GVariant): void {
  if (typeof value !== "object" || !("type" in value)) throw wrongValue(value, "v");
  const { type, value: inner } = value satisfies Variant;
  encodeValue(output, parseType(type), inner);
  append(output, Buffer.from(`\0${type}`, "latin1"));
}

function encodeMaybe(output: Output, element: VariantType, value: GVariant): void {
  const list = requireList(value, `m${element.text}`);
  if (list.length > 1) throw wrongValue(value, `m${element.text}`);
  if (list.length === 0) return;
  encodeValue(output, element, list[0]!);
  if (element.fixedBytes === null) reserve(output, 1);
}

function encodeArray(output: Output, element: VariantType, value: GVariant): void {
  if (element.text === "y") {
    if (!(value instanceof Uint8Array)) throw wrongValue(value, "ay");
    append(output, value);
    return;
  }
  const start = output.length;
  const ends: number[] = [];
  for (const each of requireList(value, `a${element.text}`)) {
    pad(output, element.alignment);
    encodeValue(output, element, each);
    ends.push(output.length - start);
  }
  if (element.fixedBytes === null) appendOffsets(output, start, ends);
}

function encodeMembers(
  output: Output,
  { members, text, alignment, fixedBytes }: CompoundType<"tuple" | "entry">,
  value: GVariant,
): void {
  const list = requireList(value, text);
  if (list.length !== members.length) throw wrongValue(value, text);
  const start = output.length;
  const ends: number[] = [];
  for (const [index, member] of members.entries()) {
    pad(output, member.alignment);
    encodeValue(output, member, list[index]!);
    if (member.fixedBytes === null && index < members.length - 1) ends.push(output.length - start);
  }
  if (members.length === 0) reserve(output, 1);
  else if (fixedBytes !== null) pad(output, alignment);
  else appendOffsets(output, start, ends.reverse());
}

function appendOffsets(output: Output, start: number, ends: readonly number[]): void {
  const width = offsetBytesFor(output.length - start, ends.length);
  for (const end of ends) {
    const at = reserve(output, width);
    if (width === 1) output.view.setUint8(at, end);
    else if (width === 2) output.view.setUint16(at, end, true);
    else if (width === 4) output.view.setUint32(at, end, true);
    else output.view.setBigUint64(at, BigInt(end), true);
  }
}

function requireList(value: GVariant, type: string): readonly GVariant[] {
  if (!Array.isArray(value)) throw wrongValue(value, type);
  return value;
}

function pad(output: Output, alignment: number): void {
  reserve(output, align(output.length, alignment) - output.length);
}

function append(output: Output, bytes: Uint8Array): void {
  const at = reserve(output, bytes.length);
  output.bytes.set(bytes, at);
}

/** Room for zero bytes; returns where it is. */
function reserve(output: Output, count: number): number {
  const at = output.length;
  const length = at + count;
  if (length > output.bytes.length) {
    const larger = new Uint8Array(Math.max(length, 2 * output.bytes.length));
    larger.set(output.bytes.subarray(0, at));
    output.bytes = larger;
    output.view = new DataView(larger.buffer);
  }
  output.length = length;
  return at;
}

function wrongValue(value: GVariant, type: string): FormatError {
  const shown = Array.isArray(value) ? `a list of ${value.length}` : `${typeof value} ${value}`;
  return new FormatError("bad-value", `GVariant of type "${type}" cannot be ${shown}`, {
    format: "gvariant",
  });
}
