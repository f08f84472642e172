import { expect, test } from "vitest";
import { findDumpDifference } from "./dump-difference.ts";

const bytes = (...lines: string[]) => [Buffer.from(lines.map((line) => `${line}\n`).join(""))];
const lines = (...all: string[]) => all.map((line) => `${line}\n`);
const tree = ["/ 0 a", "/etc 0 a", "/etc/hosts 5 x", "/usr 0 a", "/usr/bin 0 a"];

test("equal dumps, however they are cut into pieces and whether the last line ends", () => {
  const text = lines(...tree).join("");
  expect(findDumpDifference(bytes(...tree), lines(...tree))).toBeNull();
  const pieces = [...text].map((char) => Buffer.from(char));
  expect(findDumpDifference(pieces, lines(...tree))).toBeNull();
  expect(findDumpDifference([Buffer.from(text.trimEnd())], lines(...tree))).toBeNull();
  expect(findDumpDifference([], [])).toBeNull();
});

test.each([
  ["changed", [...tree.slice(0, 2), "/etc/hosts 6 y"], ["/etc/hosts", "/etc/hosts 6 y", tree[2]]],
  [
    "only in the first",
    [...tree.slice(0, 2), "/etc/group 1 z"],
    ["/etc/group", "/etc/group 1 z", null],
  ],
  ["only in the second", [...tree.slice(0, 2), "/etc/zz 1 z"], ["/etc/hosts", null, tree[2]]],
  [
    "a deeper path before a sibling",
    [...tree.slice(0, 3), "/etc/hosts/x 1"],
    ["/etc/hosts/x", "/etc/hosts/x 1", null],
  ],
  [
    "a name that sorts by bytes and not as text",
    [...tree.slice(0, 3), "/etc-a 1"],
    ["/etc-a", "/etc-a 1", null],
  ],
  ["an end too early", tree.slice(0, 3), ["/usr", null, tree[3]]],
  ["too much", [...tree, "/var 1"], ["/var", "/var 1", null]],
])("%s", (_, before, [path, left, right]) => {
  expect(findDumpDifference(bytes(...before), lines(...tree))).toEqual({
    path,
    before: left,
    after: right,
  });
});

test("what is shown is printable and bounded", () => {
  const found = findDumpDifference(bytes(`/\\xc3\\xa4 ${"x".repeat(5000)}`), lines("/b 1"));
  expect(found).toMatchObject({ path: "/b", before: null });
  const long = findDumpDifference(bytes(`/\\xc3\\xa4 ${"x".repeat(5000)}`), []);
  expect(long?.path).toBe("/ä");
  expect(long?.before).toHaveLength(301);
  expect(findDumpDifference(bytes("/\\x1b[2J 1"), [])?.path).toBe("/\\x1b[2J");
  expect(findDumpDifference([Buffer.from("/a \u001b[2J\n")], [])?.before).toBe("/a ?[2J");
  expect(findDumpDifference([Buffer.from(`//${"x".repeat(400)}\u0007`)], [])?.path).toHaveLength(
    301,
  );
  expect(findDumpDifference([Buffer.from("/a\u0007 1\n")], [])?.path).toBe("/a?");
});

test("a line without end is refused before memory runs out", () => {
  const endless = (function* () {
    for (;;) yield Buffer.alloc(1 << 16, "x");
  })();
  expect(() => findDumpDifference(endless, lines("/ 0"))).toThrow("more than 1 MiB");
});
