import { expect, test } from "vitest";
import { formatCanonicalJson } from "./json.ts";

test.each<[unknown, string]>([
  [{ b: 1, a: [true, null, "x"], C: {} }, '{"C":{},"a":[true,null,"x"],"b":1}'],
  [{ 10: 1, 9: 2, 1: 3 }, '{"1":3,"10":1,"9":2}'],
  [{ gone: undefined, kept: null }, '{"kept":null}'],
  [[], "[]"],
  [[undefined], "[null]"],
  ['"\\\n\u0001/é😀', '"\\"\\\\\\n\\u0001/é😀"'],
  [1e21, "1e+21"],
  [-0, "0"],
])("%j", (value, expected) => {
  expect(formatCanonicalJson(value)).toBe(expected);
});

test("member names are sorted by their UTF-16 units", () => {
  expect(formatCanonicalJson({ "\ue000": 1, "😀": 2, é: 3, z: 4 })).toBe(
    '{"z":4,"é":3,"😀":2,"\ue000":1}',
  );
});
