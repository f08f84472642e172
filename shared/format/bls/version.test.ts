import { expect, test } from "vitest";
import { compareVersions } from "./version.ts";

// The ladder of the specification, oldest first; every pair is compared both ways.
const ladder = [
  "~1",
  "",
  "ab",
  "abb",
  "abc",
  "0001",
  "002",
  "12",
  "122",
  "122.9",
  "123~rc1",
  "123",
  "123-a",
  "123-a.1",
  "123-a1",
  "123-a1.1",
  "123-3",
  "123-3.1",
  "123^patch1",
  "123^1",
  "123.a-1",
  "123.1-1",
  "123a-1",
  "124",
];

test("the specification's ladder is strictly ascending in both directions", () => {
  for (const [i, older] of ladder.entries()) {
    for (const [j, newer] of ladder.entries()) {
      expect(Math.sign(compareVersions(older, newer)), `"${older}" against "${newer}"`).toBe(
        Math.sign(i - j),
      );
    }
  }
});

test.each([
  ["2", "002"],
  ["1_2", "12"],
  ["1+2", "12"],
  ["", ""],
  ["13.20261122", "13.20261122"],
])("%s equals %s", (a, b) => expect(compareVersions(a, b)).toBe(0));

test("numbers of any length are compared as numbers", () => {
  expect(compareVersions("99999999999999999999998", "99999999999999999999999")).toBe(-1);
  expect(compareVersions("100000000000000000000000", "99999999999999999999999")).toBe(1);
});
