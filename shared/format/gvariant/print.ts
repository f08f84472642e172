// GVariants as text, as g_variant_print() with type annotations writes them: for people, and for
// comparing with GLib. Annotations stand only where a reader could not tell the type: on the first element of an
// array, and never below it.

import { type ContainerType, parseType, type VariantType } from "./type.ts";
import type { GVariant, Variant } from "./value.ts";

const PREFIXES: Readonly<Record<string, string>> = {
  y: "byte ",
  n: "int16 ",
  q: "uint16 ",
  u: "uint32 ",
  h: "handle ",
  x: "int64 ",
  t: "uint64 ",
  o: "objectpath ",
  g: "signature ",
};

/** The text of a value. */
export function printGVariant(type: string, value: GVariant): string {
  return print(parseType(type), value, true);
}

function print(type: VariantType, value: GVariant, annotate: boolean): string {
  switch (type.kind) {
    case "fixed":
    case "string":
      return (annotate ? (PREFIXES[type.code] ?? "") : "") + printBasic(type.code, value);
    case "variant": {
      const variant = value as Variant;
      return `<${print(parseType(variant.type), variant.value, true)}>`;
    }
    case "maybe":
      return printMaybe(type, value as readonly GVariant[], annotate);
    case "array":
      return printArray(type, value, annotate);
    default: {
      const { members, kind } = type;
      const parts = members.map((member, i) =>
        print(member, (value as readonly GVariant[])[i]!, annotate),
      );
      if (kind === "entry") return `{${parts.join(", ")}}`;
      return parts.length === 1 ? `(${parts[0]},)` : `(${parts.join(", ")})`;
    }
  }
}

function printBasic(code: string, value: GVariant): string {
  if (code === "y") return `0x${(value as number).toString(16).padStart(2, "0")}`;
  if (code === "d") return printDouble(value as number);
  return typeof value === "string" ? quote(value) : String(value);
}

function printDouble(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  if (Object.is(value, -0)) return "-0.0";
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** Only a "nothing" has to say its type, and a "just" where only a wrapping one could be nothing. */
function printMaybe(
  type: ContainerType<"maybe">,
  value: readonly GVariant[],
  annotate: boolean,
): string {
  const prefix = annotate ? `@${type.text} ` : "";
  let text = "";
  let inner: VariantType = type;
  let current: GVariant = value;
  while (inner.kind === "maybe") {
    const list = current as readonly GVariant[];
    if (list.length === 0) return `${prefix}${text}nothing`;
    text += "just ";
    inner = inner.element;
    current = list[0]!;
  }
  return prefix + print(inner, current, false);
}

function printArray(type: ContainerType<"array">, value: GVariant, annotate: boolean): string {
  const { element } = type;
  if (value instanceof Uint8Array) return printBytes(value, annotate);
  const list = value as readonly GVariant[];
  const isDictionary = element.kind === "entry";
  if (list.length === 0) {
    return `${annotate ? `@${type.text} ` : ""}${isDictionary ? "{}" : "[]"}`;
  }
  const parts = list.map((each, i) => {
    if (element.kind !== "entry") return print(element, each, annotate && i === 0);
    const pair = element.members.map((member, m) =>
      print(member, (each as readonly GVariant[])[m]!, annotate && i === 0),
    );
    return pair.join(": ");
  });
  return isDictionary ? `{${parts.join(", ")}}` : `[${parts.join(", ")}]`;
}

function printBytes(bytes: Uint8Array, annotate: boolean): string {
  const end = bytes.indexOf(0);
  if (bytes.length > 0 && end === bytes.length - 1) return `b${quoteBytes(bytes.subarray(0, end))}`;
  if (bytes.length === 0) return annotate ? "@ay []" : "[]";
  const parts = [...bytes].map((byte) => printBasic("y", byte));
  return `[${annotate ? "byte " : ""}${parts.join(", ")}]`;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "\u0007": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v",
};

function quote(text: string): string {
  const mark = text.includes("'") ? '"' : "'";
  let out = "";
  for (const character of text) {
    const code = character.codePointAt(0)!;
    if (character === mark || character === "\\") out += `\\${character}`;
    else if (ESCAPES[character] !== undefined) out += ESCAPES[character];
    else if (/\p{C}/u.test(character)) {
      out += code < 0x10000 ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`;
    } else out += character;
  }
  return `${mark}${out}${mark}`;
}

/** As g_strescape: octal for what is not printable ASCII. */
function quoteBytes(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("latin1");
  const mark = text.includes("'") ? '"' : "'";
  const escaped = text.replaceAll(/[^ !#-[\]-~]/g, (character) => {
    if (character === '"' || character === "\\") return `\\${character}`;
    const known = character === "\u0007" ? undefined : ESCAPES[character];
    return known ?? `\\${character.charCodeAt(0).toString(8).padStart(3, "0")}`;
  });
  return `${mark}${escaped}${mark}`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, "0");
}
