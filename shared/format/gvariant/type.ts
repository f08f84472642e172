// GVariant types: the type strings of GLib's serialisation ("GVariant Specification", section 2) as trees.
//
// Alignment and fixed size are worked out while parsing, because both encoder and decoder ask for them at
// every value. Type strings come out of variants, i.e. from outside: nesting is limited as in GLib, and a
// string must be one complete, definite type to its last character.

import { FormatError } from "../../error.ts";

/** How deep types, and values within variants, may nest; GLib's limit, so that both accept the same. */
export const MAX_DEPTH = 128;

export type FixedCode = "b" | "y" | "n" | "q" | "i" | "u" | "x" | "t" | "d" | "h";
export type StringCode = "s" | "o" | "g";

interface Layout {
  readonly text: string;
  readonly alignment: 1 | 2 | 4 | 8;
  /** Null when the size depends on the value. */
  readonly fixedBytes: number | null;
  /** Levels of nesting; 1 for a basic type. */
  readonly depth: number;
}
export type VariantType =
  | (Layout & { readonly kind: "fixed"; readonly code: FixedCode })
  | (Layout & { readonly kind: "string"; readonly code: StringCode })
  | (Layout & { readonly kind: "variant" })
  | ContainerType<"maybe">
  | ContainerType<"array">
  | CompoundType<"tuple">
  | CompoundType<"entry">;
export type ContainerType<K extends "maybe" | "array"> = Layout & {
  readonly kind: K;
  readonly element: VariantType;
};
export type CompoundType<K extends "tuple" | "entry"> = Layout & {
  readonly kind: K;
  readonly members: readonly VariantType[];
};

const FIXED_BYTES: Readonly<Record<FixedCode, 1 | 2 | 4 | 8>> = {
  b: 1,
  y: 1,
  n: 2,
  q: 2,
  i: 4,
  u: 4,
  h: 4,
  x: 8,
  t: 8,
  d: 8,
};
const BASIC = new Map<string, VariantType>();
for (const [text, size] of Object.entries(FIXED_BYTES)) {
  const code = text as FixedCode;
  BASIC.set(text, { kind: "fixed", code, text, alignment: size, fixedBytes: size, depth: 1 });
}
for (const code of ["s", "o", "g"] as const) {
  BASIC.set(code, { kind: "string", code, text: code, alignment: 1, fixedBytes: null, depth: 1 });
}
const VARIANT: VariantType = {
  kind: "variant",
  text: "v",
  alignment: 8,
  fixedBytes: null,
  depth: 1,
};

/** FormatError when `text` is not exactly one definite type. */
export function parseType(text: string): VariantType {
  const cursor = { text, at: 0 };
  const type = parseOne(cursor, 1);
  if (cursor.at !== text.length) throw malformed(cursor, "has more than one type");
  return type;
}

interface Cursor {
  readonly text: string;
  at: number;
}

function parseOne(cursor: Cursor, depth: number): VariantType {
  if (depth > MAX_DEPTH) throw malformed(cursor, `is nested deeper than ${MAX_DEPTH}`, "limit");
  const start = cursor.at;
  const code = cursor.text.charAt(cursor.at++);
  const basic = code === "v" ? VARIANT : BASIC.get(code);
  if (basic !== undefined) return basic;
  if (code === "a" || code === "m") {
    const element = parseOne(cursor, depth + 1);
    return {
      kind: code === "a" ? "array" : "maybe",
      element,
      text: cursor.text.slice(start, cursor.at),
      alignment: element.alignment,
      fixedBytes: null,
      depth: element.depth + 1,
    };
  }
  if (code === "(") return parseMembers(cursor, start, depth);
  if (code === "{") return parseEntry(cursor, start, depth);
  throw malformed(cursor, code === "" ? "ends too early" : `has no type at "${code}"`);
}

function parseMembers(cursor: Cursor, start: number, depth: number): VariantType {
  const members: VariantType[] = [];
  while (cursor.text.charAt(cursor.at) !== ")") members.push(parseOne(cursor, depth + 1));
  cursor.at++;
  return compound("tuple", members, cursor.text.slice(start, cursor.at));
}

function parseEntry(cursor: Cursor, start: number, depth: number): VariantType {
  const key = parseOne(cursor, depth + 1);
  if (key.kind !== "fixed" && key.kind !== "string") {
    throw malformed(cursor, "has a dictionary key that is not a basic type");
  }
  const value = parseOne(cursor, depth + 1);
  if (cursor.text.charAt(cursor.at++) !== "}") {
    throw malformed(cursor, "has a dictionary entry without end");
  }
  return compound("entry", [key, value], cursor.text.slice(start, cursor.at));
}

function compound(
  kind: "tuple" | "entry",
  members: readonly VariantType[],
  text: string,
): VariantType {
  let alignment: VariantType["alignment"] = 1;
  let depth = 0;
  let size: number | null = 0;
  for (const member of members) {
    if (member.alignment > alignment) alignment = member.alignment;
    depth = Math.max(depth, member.depth);
    if (member.fixedBytes === null) size = null;
    else if (size !== null) size = align(size, member.alignment) + member.fixedBytes;
  }
  // The unit type is one zero byte, so that arrays of it have a length.
  const fixedBytes = members.length === 0 ? 1 : size === null ? null : align(size, alignment);
  return { kind, members, text, alignment, fixedBytes, depth: depth + 1 };
}

/** The next multiple of `alignment` from `offset` on. */
export function align(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}

function malformed(
  { text, at }: Cursor,
  problem: string,
  code: "bad-value" | "limit" = "bad-value",
): FormatError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new FormatError(code, `GVariant type "${shown}" ${problem}`, {
    format: "gvariant",
    offset: at,
  });
}
