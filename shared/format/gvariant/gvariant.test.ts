// GVariant: what is refused, what cannot be written, and that reading undoes writing. Good bytes made by
// GLib are in test/vectors/ostree; test/integration/oracle-gvariant.test.ts compares with GLib itself.

import { describe, expect, test } from "vitest";
import { createRandom } from "../../../test/support/random-dump.ts";
import { makeRandomType, makeRandomValue } from "../../../test/support/random-gvariant.ts";
import { FormatError } from "../../error.ts";
import { decodeGVariant } from "./decode.ts";
import { decodeDictionary, encodeDictionary, lookup, lookupString } from "./dictionary.ts";
import { encodeGVariant } from "./encode.ts";
import { printGVariant } from "./print.ts";
import type { GVariant } from "./value.ts";

const bytesOf = (hex: string) => Buffer.from(hex.replaceAll(" ", ""), "hex");

test.each([
  "",
  "z",
  "a",
  "m",
  "(",
  "(y",
  "{",
  "{y",
  "{yy",
  "{vy}",
  "{ayy}",
  "a{yyy}",
  "yy",
  "y)",
  ")",
])("no type: %j", (type) => {
  expect(() => decodeGVariant(type, new Uint8Array(0))).toThrow(FormatError);
  expect(() => encodeGVariant(type, 0)).toThrow(`GVariant type "${type}"`);
});

test.each([
  ["b", "02", "neither 0 nor 1"],
  ["y", "", '"y" has 0 bytes'],
  ["u", "0000", '"u" has 2 bytes'],
  ["u", "0000000000", '"u" has 5 bytes'],
  ["s", "", "a string has no end"],
  ["s", "61", "a string has no end"],
  ["s", "610000", "contains a NUL"],
  ["s", "ff00", "not valid UTF-8"],
  ["s", "eda08000", "not valid UTF-8"], // a surrogate
  ["o", "6100", "no object path"],
  ["o", "2f612f00", "no object path"],
  ["g", "617b00", "a signature is not valid"],
  ["v", "", "a variant has no type"],
  ["v", "01", "a variant has no type"],
  ["v", "00", "ends too early"],
  ["v", "01007979", "has more than one type"],
  ["v", "0102007a", 'no type at "z"'],
  ["mu", "000000", '"u" has 3 bytes'],
  ["ms", "6100", "a string has no end"], // the NUL is the string's, not the maybe's
  ["ms", "610001", "another byte than 0"],
  ["au", "0000000000", "ends within an element"],
  ["as", "6100 00", "out of order"],
  ["as", "6100 05", "wrong table of offsets"],
  ["as", "6100 03", "wrong table of offsets"],
  ["as", "6100 6200 0402", "out of order"],
  ["as", "6100 6200 0504", "out of order"],
  ["aay", "6162 0102 01", "out of order"],
  ["a(uu)", "00000000", "ends within an element"],
  ["a(ys)", "01 6100 07 6200 03 06 06", "out of bounds"],
  ["()", "", "a structure of 1 bytes has 0"],
  ["()", "01", "padding is not zero"],
  ["(yu)", "01 010000 00000000", "padding is not zero"],
  ["(uy)", "00000000 01 000001", "padding is not zero"],
  ["(uy)", "00000000 01", "a structure of 8 bytes has 5"],
  ["(ys)", "01", "a string has no end"],
  ["(sy)", "6100 01", "a string has no end"],
  ["(sy)", "6100 01 03", "a string has no end"],
  ["(sy)", "6100 01 05 02", "belong to nothing"],
  ["(say)", "", "too short for its offsets"],
  ["(su)", "6100 0001 00000000 02", "padding is not zero"],
  ["a{sv}", "6b00 000001000000 0100 62 02 0c", "padding is not zero"],
])("refuses %s %s", (type, hex, problem) => {
  expect(() => decodeGVariant(type, bytesOf(hex))).toThrow(FormatError);
  expect(() => decodeGVariant(type, bytesOf(hex))).toThrow(problem);
});

test("offsets that are wider than they need to be are refused", () => {
  const text = "x".repeat(100);
  const narrow = encodeGVariant("as", [text, text]);
  const wide = Buffer.concat([narrow.subarray(0, 202), bytesOf("6500 ca00"), Buffer.alloc(100)]);
  expect(() => decodeGVariant("as", wide)).toThrow("wrong table of offsets");
  const long = "x".repeat(250);
  // 252 bytes of content and two offsets still fit in one byte each: 254.
  const tuple = encodeGVariant("(sss)", [long, "", ""]);
  expect(tuple.length).toBe(251 + 1 + 1 + 2);
  expect(encodeGVariant("(sss)", [`${long}x`, "", ""]).length).toBe(252 + 2 + 4);
});

test("depth is limited", () => {
  let value: GVariant = { type: "y", value: 1 };
  for (let i = 0; i < 200; i++) value = { type: "v", value };
  expect(() => decodeGVariant("v", encodeGVariant("v", value))).toThrow("nested too deep");
  const arrays = `${"a".repeat(200)}y`;
  expect(() => decodeGVariant(arrays, new Uint8Array(0))).toThrow("nested deeper than 128");
  const type = Buffer.from(`\0${"(".repeat(70_000)}`);
  expect(() => decodeGVariant("v", type)).toThrow("type is too long");
});

test.each<[string, GVariant]>([
  ["b", 1],
  ["y", 256],
  ["y", -1],
  ["y", 0.5],
  ["n", 0x8000],
  ["u", -1],
  ["i", 2 ** 31],
  ["t", -1n],
  ["t", 1],
  ["x", 1n << 63n],
  ["d", "1"],
  ["s", "a\0b"],
  ["s", "\ud800"],
  ["o", "a"],
  ["g", "{"],
  ["v", "x"],
  ["v", [1]],
  ["mu", [1, 2]],
  ["au", new Uint8Array(1)],
  ["ay", [1]],
  ["(yy)", [1]],
  ["(yy)", [1, 2, 3]],
])("cannot write %s from %o", (type, value) => {
  expect(() => encodeGVariant(type, value)).toThrow(FormatError);
});

test("reading undoes writing, and every cut is refused", () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = createRandom(seed);
    const type = makeRandomType(random);
    const value = makeRandomValue(random, type);
    const bytes = encodeGVariant(type, value);
    const again = decodeGVariant(type, bytes);
    expect(printGVariant(type, again), `seed ${seed}`).toBe(printGVariant(type, value));
    expect(Buffer.from(encodeGVariant(type, again)).equals(bytes)).toBe(true);
  }
  const commit = encodeGVariant("(a{sv}aya(say)st)", [
    [["k", { type: "b", value: true }]],
    new Uint8Array(32),
    [],
    "s",
    5n,
  ]);
  for (let end = 0; end < commit.length; end++) {
    expect(() => decodeGVariant("(a{sv}aya(say)st)", commit.subarray(0, end))).toThrow(FormatError);
  }
});

describe("dictionaries", () => {
  test("keep their order, and the first of a key counts", () => {
    const dictionary = [
      ["b", { type: "s", value: "1" }],
      ["a", { type: "u", value: 2 }],
      ["b", { type: "s", value: "3" }],
    ] as const;
    const again = decodeDictionary(encodeDictionary(dictionary));
    expect(again).toEqual(dictionary);
    expect(lookupString(again, "b")).toBe("1");
    expect(lookup(again, "a", "s")).toBe(null);
    expect(lookup(again, "c", "s")).toBe(null);
  });
});
