import fc from "fast-check";
import { expect, test } from "vitest";
import { parseDump } from "./dump.ts";
import { formatDump } from "./dump-format.ts";

const ROOT = "/ 0 40755 2 0 0 0 0.0 - - -";
const directory = (path: string) => `${path} 0 40755 2 0 0 0 0.0 - - -`;
const file = (path: string) => `${path} 0 100644 1 0 0 0 0.0 - - -`;
const parse = (lines: readonly string[]) => parseDump(Buffer.from(`${lines.join("\n")}\n`));
const print = (lines: readonly string[]) => [...formatDump(parse(lines))].join("");

/** Names that are beginnings of each other, at several depths. */
const LINES = [
  directory("/a"),
  file("/a/x"),
  directory("/a/b"),
  directory("/a/b/c"),
  file("/a/b/c/x"),
  directory("/a/bb"),
  file("/a/bb/x"),
  directory("/ab"),
  directory("/ab/b"),
  file("/ab/b/x"),
  file("/b"),
];
const depth = (line: string) => line.slice(0, line.indexOf(" ")).split("/").length;

test("every order that has parents first gives the same tree", () => {
  const expected = print([ROOT, ...LINES]);
  fc.assert(
    fc.property(fc.shuffledSubarray(LINES, { minLength: LINES.length }), (shuffled) => {
      // Level by level, in any order within a level.
      const lines = [...shuffled].sort((a, b) => depth(a) - depth(b));
      expect(print([ROOT, ...lines])).toBe(expected);
    }),
  );
});

test.each([
  [[directory("/a"), file("/ab/x")], "/ab/x"],
  [[directory("/ab"), file("/a/x")], "/a/x"],
  [[directory("/a"), directory("/a/b"), file("/a/bb/x")], "/a/bb/x"],
  [[file("/a"), file("/a/x")], "/a/x"],
])("%j: the last has no parent", (lines, path) => {
  expect(() => parse([ROOT, ...lines])).toThrow(`"${path}" has no parent directory so far`);
});

test("paths longer than any that was there before", () => {
  const names = Array.from({ length: 30 }, (_, i) => "n".repeat(200) + i);
  const paths = names.map((_, i) => `/${names.slice(0, i + 1).join("/")}`);
  const lines = [ROOT, ...paths.map(directory), file(`${paths.at(-1)}/f`), file("/g")];
  expect(print(lines).split("\n").length).toBe(lines.length + 1);
});
