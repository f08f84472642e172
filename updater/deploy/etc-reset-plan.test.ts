import { describe, expect, test } from "vitest";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { parseEtcPath, planEtcReset, type ResetStep } from "./etc-reset-plan.ts";

const image: FlatTree = {
  ...{ f: "1", "d/a": "1", "d/b": "1 @600", "d/s/c": "1", "d/l": "-> a", "e/": "@750" },
};

function describeStep(step: ResetStep): string {
  if (step.kind !== "write") return `${step.kind} ${step.path}`;
  const content =
    step.node.kind === "directory" ? ` {${Object.keys(flatten(step.node)).join(" ")}}` : "";
  return `write ${step.path} over ${step.replaces}${content}`;
}

function plan(local: FlatTree, paths: readonly string[], removeAdded = false): readonly string[] {
  return planEtcReset(buildTree(image), buildTree(local), paths, { removeAdded }).map(describeStep);
}

describe("planEtcReset", () => {
  test.each<[string, FlatTree, readonly string[], readonly string[]]>([
    ["what is as in the image", image, ["f", "d", "e"], []],
    ["a changed file", { ...image, f: "2" }, ["f"], ["write f over same"]],
    ["attributes of a file", { ...image, "d/b": "1" }, ["d/b"], ["write d/b over same"]],
    ["a file turned symlink", { ...image, f: "-> x" }, ["f"], ["write f over same"]],
    ["attributes of a directory", { ...image, "e/": "" }, ["e"], ["attributes e"]],
    [
      "everything in a directory, but nothing beside it",
      { ...image, f: "2", "d/a": "2", "d/mine": "m", "d/l": "-> b", "d/s/c": "| @600" },
      ["d"],
      ["write d/a over same", "write d/l over same", "write d/s/c over same"],
    ],
    ["a removed file", { "d/a": "1" }, ["f"], ["write f over nothing"]],
    ["a removed directory", {}, ["d"], ["write d over nothing {a b l s/ s/c}"]],
    ["one file of it", {}, ["d/s/c"], ["write d over nothing {s/ s/c}"]],
    ["two files of it", {}, ["d/s/c", "d/a"], ["write d over nothing {a s/ s/c}"]],
    ["a directory turned file", { d: "x" }, ["d"], ["write d over other {a b l s/ s/c}"]],
    ["a file turned directory", { "f/x": "1" }, ["f"], ["write f over other"]],
    [
      "paths within others, twice",
      { ...image, "d/a": "2" },
      ["d/a", "d", "d"],
      ["write d/a over same"],
    ],
  ])("%s", (_, local, paths, steps) => {
    expect(plan(local, paths)).toEqual(steps);
  });

  test("what was added goes only when asked", () => {
    const local = { ...image, "d/mine/x": "1", "d/s/mine": "1", mine: "1" };
    expect(plan(local, ["d"])).toEqual([]);
    expect(plan(local, ["d", "mine"], true)).toEqual([
      "remove d/mine",
      "remove d/s/mine",
      "remove mine",
    ]);
    expect(() => plan(local, ["mine"])).toThrow(
      'Cannot reset "/etc/mine": the image does not have it',
    );
    expect(() => plan(local, ["d/mine/x"])).toThrow("--remove-added");
  });

  test.each<[string, FlatTree, string, string]>([
    ["nowhere", image, "x", "neither in the image nor on this machine"],
    ["nowhere below a file", image, "f/x", "neither in the image nor on this machine"],
    ["nowhere below a missing directory", {}, "d/x", "neither in the image nor on this machine"],
    ["below a directory turned symlink", { d: "-> /srv" }, "d/a", '"/etc/d" is no directory here'],
    ["all of it", image, "", 'All of "/etc" is not reset at once'],
  ])("%s", (_, local, path, message) => {
    expect(() => plan(local, [path])).toThrow(message);
  });
});

describe("parseEtcPath", () => {
  test.each([
    ["/etc/a", "a"],
    ["/etc//a/./b/../c/", "a/c"],
    ["/etc/é", "\xc3\xa9"],
    ["/etc", ""],
    ["/usr/../etc/x", "x"],
  ])("%s", (path, parsed) => {
    expect(parseEtcPath(path)).toBe(parsed);
  });

  test.each(["a", "etc/a", "", "/", "/usr/lib", "/etc/../usr", "/etcetera/x"])("%j", (path) => {
    expect(() => parseEtcPath(path)).toThrow(
      expect.objectContaining({ kind: "usage", code: "bad-value" }),
    );
  });
});
