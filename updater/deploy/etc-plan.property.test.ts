// The merge against an independent model: maps of path -> text edited step by step, as bootc.md
// section 6 tells it, instead of a walk over three trees.

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { type EtcMerge, planEtcMerge } from "./etc-plan.ts";
import type { EtcRule } from "./etc-policy.ts";

interface Entry {
  readonly directory: boolean;
  readonly text: string;
}
type Paths = Map<string, Entry>;

interface Outcome {
  readonly added: string[];
  readonly modified: string[];
  readonly removed: string[];
  readonly conflicts: string[];
  readonly merged: Record<string, string> | null;
}

function toPaths(flat: Readonly<Record<string, string>>): Paths {
  return new Map(
    Object.entries(flat).map(([key, text]) => [
      key.replace(/\/$/, ""),
      { directory: key.endsWith("/"), text },
    ]),
  );
}
function toFlat(paths: Paths): Record<string, string> {
  return Object.fromEntries(
    [...paths].map(([path, entry]) => [entry.directory ? `${path}/` : path, entry.text]),
  );
}
function ancestors(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}
const equal = (a: Entry | undefined, b: Entry | undefined) =>
  a?.directory === b?.directory && a?.text === b?.text;
const isDirectory = (entry: Entry | undefined) => entry?.directory === true;
const isLeaf = (entry: Entry | undefined) => entry?.directory === false;

function model(pristine: Paths, current: Paths, next: Paths): Outcome {
  const changed = [...current.keys()].filter((p) => !equal(pristine.get(p), current.get(p))).sort();
  const gone = [...pristine.keys()].filter((path) => !current.has(path));
  const conflicts = new Set<string>();
  for (const path of changed) {
    const turned = isLeaf(current.get(path)) && isDirectory(next.get(path));
    if (turned && !isDirectory(pristine.get(path))) conflicts.add(path);
    for (const up of [...ancestors(path), path].filter((each) => isDirectory(current.get(each)))) {
      if (isLeaf(next.get(up)) && !isLeaf(pristine.get(up))) conflicts.add(up);
    }
  }
  const merged: Paths = new Map(next);
  for (const path of gone) merged.delete(path);
  for (const path of changed) {
    const local = current.get(path)!;
    for (const up of ancestors(path)) {
      if (!isDirectory(merged.get(up))) merged.set(up, current.get(up)!);
    }
    if (!local.directory) {
      for (const below of [...merged.keys()])
        if (below.startsWith(`${path}/`)) merged.delete(below);
    }
    merged.set(path, local);
  }
  for (const path of [...merged.keys()]) {
    for (const up of ancestors(path)) if (!merged.has(up)) merged.set(up, next.get(up)!);
  }
  const topmost = (path: string) => ancestors(path).every((up) => isDirectory(current.get(up)));
  return {
    added: changed.filter((path) => !pristine.has(path)),
    modified: changed.filter((path) => pristine.has(path)),
    removed: gone.filter(topmost).sort(),
    conflicts: [...conflicts].sort(),
    merged: conflicts.size > 0 ? null : toFlat(merged),
  };
}

function actual(pristine: FlatTree, current: FlatTree, next: FlatTree): Outcome {
  const trees = [pristine, current, next].map(buildTree) as [never, never, never];
  const { diff, root } = planEtcMerge(...trees);
  return {
    added: [...diff.added].sort(),
    modified: [...diff.modified].sort(),
    removed: [...diff.removed].sort(),
    conflicts: diff.conflicts.map((each) => each.path).sort(),
    merged: diff.conflicts.length > 0 ? null : flatten(root),
  };
}

// Few names and few values, so that the three trees collide in every way. A tree is one choice for
// each possible path, parents first; choices below a path that is no directory are dropped.
const CHOICES = [null, "1", "2", "1 @600", "-> x", "|", "/", "/@700"] as const;
type Choice = (typeof CHOICES)[number];

function treeOf(paths: readonly string[], choices: readonly Choice[]): FlatTree {
  const flat: Record<string, string> = {};
  for (const [index, path] of paths.entries()) {
    const up = path.split("/").slice(0, -1).join("/");
    const choice = choices[index] ?? null;
    if (choice === null || (up !== "" && flat[`${up}/`] === undefined)) continue;
    if (choice.startsWith("/")) flat[`${path}/`] = choice.slice(1);
    else flat[path] = choice;
  }
  return flat;
}

const DEEP = ["a", "b"].flatMap((one) => [
  one,
  ...["a", "b"].flatMap((two) => [`${one}/${two}`, `${one}/${two}/a`, `${one}/${two}/b`]),
]);
const choice = fc.oneof(
  { arbitrary: fc.constantFrom<Choice>("/", "/@700"), weight: 2 },
  { arbitrary: fc.constantFrom<Choice>(...CHOICES), weight: 3 },
);
const tree = fc
  .array(choice, { minLength: DEEP.length, maxLength: DEEP.length })
  .map((choices) => treeOf(DEEP, choices));

/** All trees over "a", "a/x", "a/y" with two file contents and two directory modes. */
function smallTrees(): FlatTree[] {
  const trees: FlatTree[] = [{}, { a: "1" }, { a: "2" }];
  for (const top of ["/", "/@700"] as const) {
    for (const x of [null, "1", "2"] as const) {
      for (const y of [null, "1", "2"] as const)
        trees.push(treeOf(["a", "a/x", "a/y"], [top, x, y]));
    }
  }
  return trees;
}

function check(pristine: FlatTree, current: FlatTree, next: FlatTree): boolean {
  const expected = model(toPaths(pristine), toPaths(current), toPaths(next));
  const found = actual(pristine, current, next);
  if (!isDeepStrictEqual(found, expected)) expect(found).toEqual(expected);
  return expected.merged !== null;
}

describe("planEtcMerge against the model", () => {
  test("all combinations of three small trees", () => {
    const trees = smallTrees();
    let [mergeable, refused] = [0, 0];
    for (const pristine of trees) {
      for (const current of trees) {
        for (const next of trees) check(pristine, current, next) ? mergeable++ : refused++;
      }
    }
    expect(mergeable + refused).toBe(21 ** 3);
    expect(refused).toBeGreaterThan(100);
  }, 60_000);

  test("random deeper trees", () => {
    fc.assert(
      fc.property(tree, tree, tree, (pristine, current, next) => {
        check(pristine, current, next);
      }),
      { numRuns: 2000 },
    );
  }, 60_000);
});

describe("planEtcMerge, any trees", () => {
  test("merging once more into the result changes nothing", () => {
    fc.assert(
      fc.property(tree, tree, tree, (pristine, current, next) => {
        const { merged } = actual(pristine, current, next);
        if (merged !== null) expect(actual(pristine, current, merged).merged).toEqual(merged);
      }),
      { numRuns: 500 },
    );
  }, 60_000);

  test("without local changes the image is taken; without image changes nothing is lost", () => {
    fc.assert(
      fc.property(tree, tree, (one, other) => {
        expect(actual(one, one, other).merged).toEqual(other);
        expect(actual(one, other, one).merged).toEqual(other);
      }),
      { numRuns: 500 },
    );
  }, 60_000);
});

describe("a rule for all of /etc, every combination of three small trees", () => {
  /** Calls `work` with the three trees, their merge, and all as maps of paths. */
  function forAll(
    action: EtcRule["action"],
    work: (maps: Readonly<Record<"p" | "c" | "n", Paths>>, merge: EtcMerge) => void,
  ): void {
    const rules = [{ path: "/etc", action, source: "rules" }];
    const trees = smallTrees();
    const built = trees.map(buildTree);
    for (const [p, pristine] of built.entries()) {
      for (const [c, current] of built.entries()) {
        for (const [n, next] of built.entries()) {
          const [mapP, mapC, mapN] = [p, c, n].map((index) => toPaths(flatten(built[index]!)));
          work({ p: mapP!, c: mapC!, n: mapN! }, planEtcMerge(pristine, current, next, rules));
        }
      }
    }
  }

  test("image: what the image has or had is the image's, no conflict", () => {
    forAll("image", ({ p, c, n }, { diff, root }) => {
      expect(diff.conflicts).toEqual([]);
      const merged = toPaths(flatten(root));
      for (const [path, entry] of n) {
        if (!equal(merged.get(path), entry)) expect({ path, ...toFlat(merged) }).toEqual(toFlat(n));
      }
      for (const [path, entry] of merged) {
        if (n.has(path)) continue;
        // Only this machine has it, or it is a directory with such things in it.
        const isOwn = !p.has(path) && equal(c.get(path), entry);
        const holdsOwn = [...merged.keys()].some(
          (each) => each.startsWith(`${path}/`) && !p.has(each) && c.has(each),
        );
        expect(isOwn || holdsOwn, path).toBe(true);
      }
    });
  });

  test("keep: all that is here stays, no conflict", () => {
    forAll("keep", ({ c }, { diff, root }) => {
      expect(diff.conflicts).toEqual([]);
      const merged = toPaths(flatten(root));
      for (const [path, entry] of c) {
        if (!equal(merged.get(path), entry)) expect({ path, ...toFlat(merged) }).toEqual(toFlat(c));
      }
    });
  });

  test("fail: what is accepted is what would have been merged without it", () => {
    let [accepted, refused] = [0, 0];
    forAll("fail", ({ p, c, n }, { diff, root }) => {
      const plain = model(p, c, n);
      if (plain.merged === null) expect(diff.conflicts.length).toBeGreaterThan(0);
      if (diff.conflicts.length > 0) {
        refused += 1;
        return;
      }
      accepted += 1;
      expect(flatten(root)).toEqual(plain.merged);
      // No leaf was changed on both sides, unless to the same.
      for (const [path, entry] of p) {
        const [here, there] = [c.get(path), n.get(path)];
        const both = !equal(entry, here) && !equal(entry, there) && !equal(here, there);
        if (!entry.directory && both) expect(path).toBe("nothing");
      }
    });
    expect(Math.min(accepted, refused)).toBeGreaterThan(1000);
  });
});
