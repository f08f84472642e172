import { expect, test } from "vitest";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { makeUpperTree } from "./etc-overlay.ts";

/** "|" at mode 0 is a whiteout. */
const GONE = "| @0";

test.each<[string, FlatTree, FlatTree, FlatTree]>([
  ["nothing", { a: "1", "d/b": "1" }, { a: "1", "d/b": "1" }, {}],
  [
    "changed, added, removed",
    { a: "1", gone: "1", "d/b": "1", "d/c": "1", "out/x": "1" },
    { a: "2", new: "n", "d/b": "1", "d/c": "1 @600", "d/n": "n" },
    { a: "2", new: "n", "d/": "", "d/c": "1 @600", "d/n": "n", gone: GONE, out: GONE },
  ],
  ["attributes of a directory", { "d/b": "1" }, { "d/": "@700", "d/b": "1" }, { "d/": "@700" }],
  [
    "a directory in a file's place and the other way round",
    { a: "1", "d/b": "1" },
    { "a/x": "1", d: "-> a" },
    { "a/": "", "a/x": "1", d: "-> a" },
  ],
  [
    "a directory that was made anew",
    { "d/b": "1" },
    { "d/n": "1" },
    { "d/": "", "d/b": GONE, "d/n": "1" },
  ],
])("%s", (_, image, merged, upper) => {
  expect(flatten(makeUpperTree(buildTree(image), buildTree(merged)).tree)).toEqual(upper);
});

test("hard links stay links among themselves", () => {
  const merged = buildTree({ a: "1" });
  merged.entries.set("b", merged.entries.get("a")!);
  const { tree, copies } = makeUpperTree(buildTree({}), merged);
  expect(tree.entries.get("a")).toBe(tree.entries.get("b"));
  expect(tree.entries.get("a")).not.toBe(merged.entries.get("a"));
  expect([...copies.values()]).toEqual([merged.entries.get("a")]);
});
