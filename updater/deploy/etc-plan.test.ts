import { describe, expect, test } from "vitest";
import type { DirectoryNode, FileNode, TreeNode } from "../../shared/format/tree/node.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { computeEtcDiff, planEtcMerge } from "./etc-plan.ts";

interface Case {
  readonly pristine: FlatTree;
  readonly current: FlatTree;
  readonly next: FlatTree;
  /** Expected result; directories that exist by their children only are listed too. */
  readonly merged?: FlatTree;
  readonly added?: readonly string[];
  readonly modified?: readonly string[];
  readonly removed?: readonly string[];
  readonly dropped?: readonly string[];
  readonly conflicts?: readonly string[];
}

const cases: Record<string, Case> = {
  "an unchanged file follows the image": {
    pristine: { f: "1" },
    current: { f: "1" },
    next: { f: "2" },
    merged: { f: "2" },
  },
  "an unchanged file that the image dropped goes away": {
    pristine: { f: "1" },
    current: { f: "1" },
    next: {},
    merged: {},
  },
  "a changed file stays, whatever the image did": {
    pristine: { f: "1", g: "1", h: "1" },
    current: { f: "local", g: "local", h: "local" },
    next: { f: "1", g: "2" },
    merged: { f: "local", g: "local", h: "local" },
    modified: ["f", "g", "h"],
  },
  "mode, owner and group are changes": {
    pristine: { a: "1", b: "1", c: "1" },
    current: { a: "1 @600", b: "1 @644:5:0", c: "1 @644:0:6" },
    next: { a: "2", b: "2", c: "2" },
    merged: { a: "1 @600", b: "1 @644:5:0", c: "1 @644:0:6" },
    modified: ["a", "b", "c"],
  },
  "permission bits of a symlink are not a change": {
    pristine: { l: "-> a @644" },
    current: { l: "-> a" },
    next: { l: "-> b" },
    merged: { l: "-> b" },
  },
  "a changed symlink stays": {
    pristine: { l: "-> a", m: "-> a" },
    current: { l: "-> local", m: "now a file" },
    next: { l: "-> b", m: "-> b" },
    merged: { l: "-> local", m: "now a file" },
    modified: ["l", "m"],
  },
  "a deleted file stays deleted": {
    pristine: { f: "1", g: "1" },
    current: {},
    next: { f: "2" },
    merged: {},
    removed: ["f", "g"],
  },
  "additions of both sides meet in one directory": {
    pristine: { "d/": "" },
    current: { "d/local": "l" },
    next: { "d/image": "i" },
    merged: { "d/": "", "d/local": "l", "d/image": "i" },
    added: ["d/local"],
  },
  "the local one wins when both sides add a name": {
    pristine: {},
    current: { f: "local", "d/x": "local", "d/": "@700" },
    next: { f: "image", "d/x": "image", "d/y": "image", "d/": "@755" },
    merged: { f: "local", "d/": "@700", "d/x": "local", "d/y": "image" },
    added: ["d", "d/x", "f"],
  },
  "a directory's attributes and its content are separate changes": {
    pristine: { "d/": "", "d/f": "1", "e/": "", "e/f": "1" },
    current: { "d/": "@700", "d/f": "1", "e/": "", "e/f": "local" },
    next: { "d/": "@711", "d/f": "2", "e/": "@711", "e/f": "2" },
    merged: { "d/": "@700", "d/f": "2", "e/": "@711", "e/f": "local" },
    modified: ["d", "e/f"],
  },
  "a directory that the image dropped is kept for what was changed in it": {
    pristine: { "d/": "@750", "d/a": "1", "d/b": "1", "d/s/c": "1" },
    current: { "d/": "@750", "d/a": "1", "d/b": "local", "d/new": "n", "d/s/c": "1" },
    next: {},
    merged: { "d/": "@750", "d/b": "local", "d/new": "n" },
    added: ["d/new"],
    modified: ["d/b"],
  },
  "a directory that the image dropped goes when nothing in it was changed": {
    pristine: { "d/": "", "d/a": "1", "d/b": "1" },
    current: { "d/": "", "d/a": "1" },
    next: {},
    merged: {},
    removed: ["d/b"],
  },
  "a dropped directory with changed attributes stays, empty": {
    pristine: { "d/a": "1" },
    current: { "d/": "@700", "d/a": "1" },
    next: {},
    merged: { "d/": "@700" },
    modified: ["d"],
  },
  "a removed directory stays removed, its new defaults arrive": {
    pristine: { "d/a": "1", "e/a": "1", "e/s/b": "1" },
    current: {},
    next: { "d/a": "2", "e/": "@711", "e/a": "2", "e/new": "n", "e/s/b": "2", "e/s/c": "n" },
    merged: { "e/": "@711", "e/new": "n", "e/s/": "", "e/s/c": "n" },
    removed: ["d", "e"],
  },
  "a file replaced by a directory keeps the directory's content": {
    pristine: { f: "1", g: "1", h: "1" },
    current: { "f/x": "l", "f/s/y": "l", "g/x": "l", "h/x": "l" },
    next: { f: "2", "g/x": "image", "g/y": "image" },
    merged: {
      ...{ "f/": "", "f/x": "l", "f/s/": "", "f/s/y": "l" },
      ...{ "g/": "", "g/x": "l", "g/y": "image", "h/": "", "h/x": "l" },
    },
    added: ["f/s", "f/s/y", "f/x", "g/x", "h/x"],
    modified: ["f", "g", "h"],
  },
  "a directory replaced by a file or symlink stays replaced": {
    pristine: { "d/a": "1", "e/a": "1", "g/a": "1" },
    current: { d: "file", e: "-> /srv/e", g: "file" },
    next: { "d/a": "2", "d/new": "n", "e/a": "1", g: "image" },
    merged: { d: "file", e: "-> /srv/e", g: "file" },
    modified: ["d", "e", "g"],
  },
  "the image may turn unchanged files into directories and back": {
    pristine: { f: "1", "d/a": "1", "e/a": "1", "e/b": "1" },
    current: { f: "1", "d/a": "1", "e/a": "1" },
    next: { "f/x": "2", d: "2", e: "2" },
    merged: { "f/": "", "f/x": "2", d: "2", e: "2" },
    removed: ["e/b"],
  },
  "a file deleted here may become a directory there": {
    pristine: { f: "1", g: "1" },
    current: {},
    next: { "f/x": "2", "g/": "" },
    merged: { "f/": "", "f/x": "2" },
    removed: ["f", "g"],
  },
  "FIFOs are merged like files": {
    pristine: { p: "|", q: "|" },
    current: { p: "|", q: "| @600", r: "|" },
    next: { q: "|" },
    merged: { q: "| @600", r: "|" },
    added: ["r"],
    modified: ["q"],
  },
  "a changed file that became a directory in the image is refused": {
    pristine: { f: "1" },
    current: { f: "local", g: "new" },
    next: { "f/x": "2", "g/x": "2" },
    added: ["g"],
    modified: ["f"],
    conflicts: ["f", "g"],
  },
  "a changed directory that became a file in the image is refused": {
    pristine: { "d/a": "1", "e/a": "1", "f/a": "1" },
    current: { "d/a": "local", "e/a": "1", "e/": "@700", "f/a": "1", "f/s/b": "n", "g/": "" },
    next: { d: "2", e: "-> x", f: "2", g: "2" },
    added: ["f/s", "f/s/b", "g"],
    modified: ["d/a", "e"],
    conflicts: ["d", "e", "f", "g"],
  },
  "systemd's time stamp is neither a change nor kept": {
    pristine: { ".updated": "0", "d/.updated": "1" },
    current: { ".updated": "1", "d/.updated": "1" },
    next: { ".updated": "2", "d/.updated": "2" },
    merged: { "d/": "", "d/.updated": "2" },
  },
  "names that are no UTF-8": {
    pristine: { "caf\xe9": "1", "\xff\xfe/x": "1" },
    current: { "caf\xe9": "local", "\xff\xfe/x": "1", "\xff\xfe/\x80": "n" },
    next: { "caf\xe9": "2", "\xff\xfe/x": "2" },
    merged: { "caf\xe9": "local", "\xff\xfe/": "", "\xff\xfe/x": "2", "\xff\xfe/\x80": "n" },
    added: ["\xff\xfe/\x80"],
    modified: ["caf\xe9"],
  },
};

describe("planEtcMerge", () => {
  test.each(Object.entries(cases))("%s", (_, each) => {
    const { diff, root } = planEtcMerge(
      buildTree(each.pristine),
      buildTree(each.current),
      buildTree(each.next),
    );
    expect({ ...diff, conflicts: diff.conflicts.map((c) => c.path) }).toEqual({
      added: each.added ?? [],
      modified: each.modified ?? [],
      removed: each.removed ?? [],
      dropped: each.dropped ?? [],
      held: [],
      conflicts: each.conflicts ?? [],
    });
    if (each.merged) expect(flatten(root)).toEqual(each.merged);
  });

  test("a conflict says what happened in one sentence", () => {
    const diff = computeEtcDiff(
      buildTree({ f: "1", "d/a": "1" }),
      buildTree({ f: "local", "d/a": "local" }),
      buildTree({ "f/x": "2", d: "2" }),
    );
    expect(diff.conflicts.map((each) => each.reason)).toEqual([
      'Modified directory "d" newly defaults to file',
      'Modified file "f" newly defaults to directory',
    ]);
  });

  test("attributes of /etc itself: changed here they stay, else the image's are taken", () => {
    const root = (mode: number): DirectoryNode => ({ ...buildTree({}), mode: 0o040000 | mode });
    const mode = (p: number, c: number, n: number) =>
      planEtcMerge(root(p), root(c), root(n)).root.mode & 0o7777;
    expect(mode(0o755, 0o755, 0o711)).toBe(0o711);
    expect(mode(0o755, 0o750, 0o711)).toBe(0o750);
  });

  test("xattrs are compared by name and value", () => {
    const withXattr = (value: string | null): DirectoryNode => {
      const tree = buildTree({ f: "1" });
      const xattrs = new Map(value === null ? [] : [["user.x", Buffer.from(value)] as const]);
      (tree.entries.get("f") as FileNode).xattrs = xattrs;
      return tree;
    };
    const modified = (p: string | null, c: string | null) =>
      computeEtcDiff(withXattr(p), withXattr(c), buildTree({})).modified;
    expect(modified("a", "a")).toEqual([]);
    expect(modified("a", "b")).toEqual(["f"]);
    expect(modified("a", null)).toEqual(["f"]);
    expect(modified(null, "a")).toEqual(["f"]);
  });

  test("an SELinux label on one side only is no difference, another one is", () => {
    const labelled = (label: string | null): DirectoryNode => {
      const tree = buildTree({ f: "1" });
      const name = "security.selinux";
      const xattrs = new Map(label === null ? [] : [[name, Buffer.from(label)] as const]);
      (tree.entries.get("f") as FileNode).xattrs = xattrs;
      return tree;
    };
    const modified = (p: string | null, c: string | null) =>
      computeEtcDiff(labelled(p), labelled(c), buildTree({})).modified;
    expect(modified("etc_t", "etc_t")).toEqual([]);
    expect(modified(null, "unlabeled_t")).toEqual([]);
    expect(modified("etc_t", null)).toEqual([]);
    expect(modified("etc_t", "shadow_t")).toEqual(["f"]);
  });
});

describe("file content", () => {
  function tree(content: FileNode["content"]): DirectoryNode {
    const root = buildTree({ f: "" });
    (root.entries.get("f") as FileNode).content = content;
    return root;
  }
  const bytes = Buffer.from("hello");
  const inline = { kind: "inline", bytes } as const;
  const sha256 = computeVerityDigest(bytes, "sha256");
  const sha512 = computeVerityDigest(bytes, "sha512");
  const external = (digest: string | undefined, sizeBytes = 5): FileNode["content"] =>
    digest === undefined
      ? { kind: "external", sizeBytes }
      : { kind: "external", sizeBytes, digest };

  test.each<[string, FileNode["content"], FileNode["content"], boolean]>([
    ["inline, inline", inline, { kind: "inline", bytes: Buffer.from("hello") }, true],
    ["inline, other inline", inline, { kind: "inline", bytes: Buffer.from("hellO") }, false],
    ["inline, sha256 digest", inline, external(sha256), true],
    ["sha512 digest, inline", external(sha512), inline, true],
    [
      "sha512 digest, other inline",
      external(sha512),
      { kind: "inline", bytes: Buffer.from("hallo") },
      false,
    ],
    ["equal digests", external(sha512), external(sha512), true],
    ["two different digests", external(sha512), external(sha512.replace(/./, "x")), false],
    ["equal digests, lying size", external(sha512), external(sha512, 6), false],
    ["no digest proves nothing", external(undefined), external(undefined), false],
  ])("%s", (_, a, b, same) => {
    expect(computeEtcDiff(tree(a), tree(b), tree(a)).modified).toEqual(same ? [] : ["f"]);
  });
});

describe("hard links", () => {
  /** `names` share one inode with `text`. */
  function linked(text: string, names: readonly string[], others: FlatTree = {}): DirectoryNode {
    const root = buildTree({ shared: text, ...others });
    const leaf = root.entries.get("shared") as FileNode;
    root.entries.delete("shared");
    leaf.nlink = names.length;
    for (const name of names) root.entries.set(name, leaf);
    return root;
  }
  const leafOf = (root: DirectoryNode, name: string): TreeNode => root.entries.get(name)!;

  test("a link added locally to an unchanged file stays one inode with it", () => {
    const current = linked("1", ["a", "b"]);
    const { diff, root } = planEtcMerge(buildTree({ a: "1" }), current, buildTree({ a: "1" }));
    expect(diff.added).toEqual(["b"]);
    expect(leafOf(root, "a")).toBe(leafOf(root, "b"));
  });

  test("when the image updates the file the local name keeps the old content", () => {
    const current = linked("1", ["a", "b"]);
    const { root } = planEtcMerge(buildTree({ a: "1" }), current, buildTree({ a: "2" }));
    expect(flatten(root)).toEqual({ a: "2", b: "1" });
  });

  test("linking or unlinking equal files is no change, the image's links arrive", () => {
    const next = linked("2", ["a", "b"]);
    const { diff, root } = planEtcMerge(
      linked("1", ["a", "b"]),
      buildTree({ a: "1", b: "1" }),
      next,
    );
    expect(diff).toEqual({
      added: [],
      modified: [],
      removed: [],
      dropped: [],
      held: [],
      conflicts: [],
    });
    expect(leafOf(root, "a")).toBe(leafOf(root, "b"));
    expect(flatten(root)).toEqual({ a: "2", b: "2" });
  });
});
