// What rules (etc-policy.ts) change about the merge.

import { describe, expect, test } from "vitest";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { planEtcMerge } from "./etc-plan.ts";
import type { EtcRule } from "./etc-policy.ts";

interface Case {
  /** Path (relative to /etc) -> action, in order. */
  readonly rules: readonly (readonly [string, EtcRule["action"]])[];
  readonly pristine: FlatTree;
  readonly current: FlatTree;
  readonly next: FlatTree;
  readonly merged?: FlatTree;
  readonly dropped?: readonly string[];
  readonly held?: readonly string[];
  readonly conflicts?: readonly string[];
}

const cases: Record<string, Case> = {
  "image: a changed file follows the image": {
    rules: [["f", "image"]],
    pristine: { f: "1", g: "1" },
    current: { f: "local", g: "local" },
    next: { f: "2", g: "2" },
    merged: { f: "2", g: "local" },
    dropped: ["f"],
  },
  "image: a changed file that the image dropped goes": {
    rules: [["f", "image"]],
    pristine: { f: "1" },
    current: { f: "local" },
    next: {},
    merged: {},
    dropped: ["f"],
  },
  "image: what is only the machine's stays, what both added is the image's": {
    rules: [["d", "image"]],
    pristine: { "d/a": "1" },
    current: { "d/a": "local", "d/mine": "m", "d/both": "local" },
    next: { "d/a": "2", "d/both": "image" },
    merged: { "d/": "", "d/a": "2", "d/both": "image", "d/mine": "m" },
    dropped: ["d/a", "d/both"],
  },
  "image: a removed file comes back, a removed directory with all that is in it": {
    rules: [
      ["f", "image"],
      ["d", "image"],
    ],
    pristine: { f: "1", g: "1", "d/a": "1", "d/s/b": "1" },
    current: {},
    next: { f: "2", g: "2", "d/a": "2", "d/s/b": "2", "d/new": "n" },
    merged: { f: "2", "d/": "", "d/a": "2", "d/s/": "", "d/s/b": "2", "d/new": "n" },
    dropped: ["d/a", "d/s/b", "d/s", "d", "f"],
  },
  "image: only one file of a removed directory comes back": {
    rules: [["d/a", "image"]],
    pristine: { "d/a": "1", "d/b": "1" },
    current: {},
    next: { "d/a": "2", "d/b": "2" },
    merged: { "d/": "", "d/a": "2" },
    dropped: ["d/a"],
  },
  "image: the attributes of a directory": {
    rules: [["d", "image"]],
    pristine: { "d/": "", "d/f": "1" },
    current: { "d/": "@700", "d/f": "1" },
    next: { "d/": "@711", "d/f": "1" },
    merged: { "d/": "@711", "d/f": "1" },
    dropped: ["d"],
  },
  "image: file turned directory and directory turned file, no conflict": {
    rules: [
      ["f", "image"],
      ["d", "image"],
    ],
    pristine: { f: "1", "d/a": "1" },
    current: { f: "local", "d/a": "local", "d/mine": "m" },
    next: { "f/x": "2", d: "2" },
    merged: { "f/": "", "f/x": "2", d: "2" },
    dropped: ["d/a", "d", "f"],
  },
  "image: a file that was replaced by a directory": {
    rules: [["f", "image"]],
    pristine: { f: "1" },
    current: { "f/x": "l" },
    next: { f: "2" },
    merged: { f: "2" },
    dropped: ["f"],
  },
  "image: a directory that was replaced by a file": {
    rules: [["d", "image"]],
    pristine: { "d/a": "1" },
    current: { d: "local" },
    next: { "d/a": "2" },
    merged: { "d/": "", "d/a": "2" },
    dropped: ["d"],
  },
  "image for the only changed file in it: the directory may become a file": {
    rules: [["d/a", "image"]],
    pristine: { "d/a": "1" },
    current: { "d/a": "local" },
    next: { d: "2" },
    merged: { d: "2" },
    dropped: ["d/a"],
  },
  "keep: the local side of a conflict stays": {
    rules: [
      ["f", "keep"],
      ["d", "keep"],
    ],
    pristine: { f: "1", "d/a": "1", "d/b": "1" },
    current: { f: "local", "d/a": "local", "d/b": "1" },
    next: { "f/x": "2", d: "2" },
    merged: { f: "local", "d/": "", "d/a": "local", "d/b": "1" },
    held: ["d", "d/b"],
  },
  "keep: what was not changed stays as well, what is new arrives": {
    rules: [["", "keep"]],
    pristine: { f: "1", g: "1", h: "1", "d/": "", "d/x": "1", gone: "1" },
    current: { f: "local", g: "1", "d/": "", "d/x": "1", gone: "1" },
    next: { f: "2", g: "2", h: "2", "d/": "@711", "d/x": "1", "d/new": "n" },
    merged: { f: "local", g: "1", "d/": "", "d/x": "1", "d/new": "n", gone: "1" },
    held: ["d", "g", "gone"],
  },
  "keep: a directory that the image dropped or turned into a file": {
    rules: [["**", "keep"]],
    pristine: { "d/x": "1", "e/s/x": "1", "n/": "" },
    current: { "d/x": "1", "e/s/x": "1", "n/": "" },
    next: { d: "file" },
    merged: { "d/": "", "d/x": "1", "e/": "", "e/s/": "", "e/s/x": "1", "n/": "" },
    held: ["d", "d/x", "e", "e/s", "e/s/x", "n"],
  },
  "keep for one file in a directory that the image turned into a file": {
    rules: [["d/x", "keep"]],
    pristine: { "d/x": "1" },
    current: { "d/x": "1" },
    next: { d: "file" },
    held: ["d/x"],
    conflicts: ["d"],
  },
  "fail: both sides changed a file": {
    rules: [["", "fail"]],
    pristine: { a: "1", b: "1", c: "1", d: "1", "e/": "", g: "1" },
    current: { a: "local", b: "same", c: "local", "e/": "@700", f: "local", g: "local" },
    next: { a: "2", b: "same", c: "1", d: "2", "e/": "@711", f: "image" },
    conflicts: ["a", "d", "e", "f", "g"],
  },
  "fail: nothing to complain about": {
    rules: [["", "fail"]],
    pristine: { a: "1", b: "1", gone: "1", "d/a": "1" },
    current: { a: "local", b: "1", mine: "m", "d/a": "1" },
    next: { a: "1", b: "2", gone: "1", "d/a": "1", "d/b": "n" },
    merged: { a: "local", b: "2", mine: "m", "d/": "", "d/a": "1", "d/b": "n" },
  },
  "fail: a file turned directory is one conflict": {
    rules: [["f", "fail"]],
    pristine: { f: "1" },
    current: { f: "local" },
    next: { "f/x": "2" },
    conflicts: ["f"],
  },
  "the last rule counts": {
    rules: [
      ["", "image"],
      ["d", "keep"],
      ["d/b", "image"],
    ],
    pristine: { a: "1", "d/a": "1", "d/b": "1" },
    current: { a: "local", "d/a": "local", "d/b": "local" },
    next: { a: "2", "d/a": "2", "d/b": "2" },
    merged: { a: "2", "d/": "", "d/a": "local", "d/b": "2" },
    dropped: ["a", "d/b"],
  },
};

function makeRules(rules: Case["rules"]): readonly EtcRule[] {
  return rules.map(([path, action], index) => {
    const absolute = path === "" ? "/etc" : `/etc/${path}`;
    return { path: absolute, action, source: `policy:${index + 1}` };
  });
}

describe("rules", () => {
  test.each(Object.entries(cases))("%s", (_, each) => {
    const trees = [each.pristine, each.current, each.next].map(buildTree);
    const [pristine, current, next] = trees as [
      (typeof trees)[0],
      (typeof trees)[0],
      (typeof trees)[0],
    ];
    const { diff, root } = planEtcMerge(pristine, current, next, makeRules(each.rules));
    expect(diff.conflicts.map(({ path }) => path)).toEqual(each.conflicts ?? []);
    expect(diff.dropped).toEqual(each.dropped ?? []);
    expect(diff.held).toEqual(each.held ?? []);
    if (each.merged) expect(flatten(root)).toEqual(each.merged);
  });

  test("a refusal names the rule", () => {
    const { diff } = planEtcMerge(
      buildTree({ f: "1", g: "1" }),
      buildTree({ f: "local" }),
      buildTree({ f: "2", g: "2" }),
      makeRules([["", "fail"]]),
    );
    expect(diff.conflicts.map(({ reason }) => reason)).toEqual([
      '"f" was changed here, and the image changed it as well (rule policy:1)',
      '"g" was removed here, and the image changed it (rule policy:1)',
    ]);
  });
});
