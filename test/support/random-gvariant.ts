// Seeded random GVariants of random types, for comparing with GLib: sizes around the points where framing
// offsets get wider, empty containers, padding of every width, variants within variants.

import type { GVariant } from "../../shared/format/gvariant/value.ts";
import type { Random } from "./random-dump.ts";

const FIXED = ["b", "y", "n", "q", "i", "u", "x", "t", "d", "h"];
const BASIC = [...FIXED, "s", "s", "o", "g"];
const STRINGS = [
  "",
  "a",
  "it's",
  'q"\\',
  "tab\t\n\u0007",
  "ünï",
  "\u{1f600}",
  "\u0001\u00ad",
  "x y",
];

export function makeRandomType(random: Random, depth = 0): string {
  const kind = random.below(depth > 3 ? 3 : 10);
  if (kind < 3) return random.pick(BASIC);
  if (kind === 3) return "v";
  if (kind === 4) return "ay";
  const inner = () => makeRandomType(random, depth + 1);
  if (kind < 7) return `${random.chance(30) ? "m" : "a"}${inner()}`;
  if (kind === 7) return `a{${random.pick(BASIC)}${inner()}}`;
  return `(${Array.from({ length: random.below(5) }, inner).join("")})`;
}

/** A value of `type`, which is one type and well-formed. */
export function makeRandomValue(random: Random, type: string): GVariant {
  const cursor = { type, at: 0 };
  return makeValue(random, cursor, 0);
}

interface Cursor {
  readonly type: string;
  at: number;
}

function makeValue(random: Random, cursor: Cursor, depth: number): GVariant {
  const code = cursor.type[cursor.at++]!;
  if (code === "a" || code === "m") return makeList(random, cursor, code, depth);
  if (code === "(" || code === "{") {
    const members: GVariant[] = [];
    while (!")}".includes(cursor.type[cursor.at]!)) members.push(makeValue(random, cursor, depth));
    cursor.at++;
    return members;
  }
  if (code === "v") {
    const type = depth > 2 ? random.pick(BASIC) : makeRandomType(random, depth + 1);
    return { type, value: makeValue(random, { type, at: 0 }, depth + 1) };
  }
  return makeBasic(random, code);
}

function makeList(random: Random, cursor: Cursor, code: string, depth: number): GVariant {
  const start = cursor.at;
  const limit = code === "m" ? 2 : random.pick([1, 4, 4, depth > 1 ? 5 : 40]);
  const count = random.below(limit);
  const isBytes = code === "a" && cursor.type[start] === "y";
  const values: GVariant[] = [];
  // One more, of which only the end counts.
  for (let i = 0; i <= count; i++) {
    cursor.at = start;
    values.push(makeValue(random, cursor, depth + 1));
  }
  const kept = values.slice(0, count);
  if (!isBytes) return kept;
  const bytes = Uint8Array.from(kept as number[]);
  return random.chance(50) && bytes.length > 0 ? bytes.fill(0, -1).map(avoidZero) : bytes;
}

/** Bytes that look like a text with an end. */
function avoidZero(byte: number, index: number, all: Uint8Array): number {
  return index < all.length - 1 ? byte | 32 : byte;
}

function makeBasic(random: Random, code: string): GVariant {
  const small = random.pick([0, 1, 7, 127]);
  switch (code) {
    case "b":
      return random.chance(50);
    case "y":
      return random.below(256);
    case "n":
    case "i":
    case "h":
      return random.pick([small, -small - 1, 0x7fff, -0x8000]);
    case "q":
    case "u":
      return random.pick([small, 0xffff]);
    case "x":
      return random.pick([BigInt(small), -5n, -(1n << 63n), (1n << 63n) - 1n]);
    case "t":
      return random.pick([BigInt(small), (1n << 64n) - 1n]);
    case "d":
      return random.pick([small, -0, 0.5, -1.25, Number.POSITIVE_INFINITY]);
    case "o":
      return random.pick(["/", "/a", "/a/B_9"]);
    case "g":
      return random.pick(["", "s", "a{sv}(ii)", "aaay"]);
    default:
      return random.pick([...STRINGS, "x".repeat(random.pick([3, 120, 245, 300]))]);
  }
}
