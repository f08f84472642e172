import { describe, expect, test } from "vitest";
import { S_IFCHR } from "../../shared/format/tree/node.ts";
import { buildTree, type FlatTree } from "../../test/support/etc-trees.ts";
import { formatConfigDiff, formatDrift } from "../output/etc-text.ts";
import { computeDrift, type EtcDrift } from "./etc-drift.ts";
import { planEtcMerge } from "./etc-plan.ts";
import type { EtcRule } from "./etc-policy.ts";

function drift(
  pristine: FlatTree,
  current: FlatTree,
  next: FlatTree | null,
  rules: readonly EtcRule[] = [],
): readonly EtcDrift[] {
  const sides = {
    pristine: buildTree(pristine),
    current: buildTree(current),
    next: next === null ? null : buildTree(next),
  };
  return computeDrift(sides, rules, "sha256");
}

const summary = (changes: readonly EtcDrift[]) =>
  changes.map(({ path, change, differs, outcome, imageChanged }) =>
    [path, change, differs.join("+"), outcome, imageChanged ? "image changed" : ""]
      .join(" ")
      .trim(),
  );

describe("computeDrift", () => {
  test("what was changed, in what, and what becomes of it", () => {
    const changes = drift(
      { a: "1", b: "1", c: "-> x", d: "1", "e/": "", "gone/f": "1", h: "1", p: "|" },
      {
        a: "local",
        b: "1 @600:5:6",
        c: "-> y",
        d: "1",
        "e/": "@700",
        h: "-> z",
        p: "| @600",
        n: "new",
      },
      { a: "2", b: "1", c: "-> x", d: "2", "e/": "", "gone/f": "1", h: "1", p: "|", n: "theirs" },
    );
    expect(summary(changes)).toEqual(
      [
        "/etc/a modified content local image changed",
        "/etc/b modified mode+owner local",
        "/etc/c modified target local",
        "/etc/e modified mode local",
        "/etc/gone removed  local",
        "/etc/h modified type local",
        "/etc/n added  local image changed",
        "/etc/p modified mode local",
      ].map((line) => line.trim()),
    );
  });

  test("the three sides of an entry", () => {
    const [change] = drift({ f: "1" }, { f: "local @600:5:6" }, {});
    expect(change).toMatchObject({
      image: { type: "file", mode: "0644", uid: 0, gid: 0, size: 1 },
      local: { type: "file", mode: "0600", uid: 5, gid: 6, size: 5 },
      staged: null,
    });
    expect(change?.image?.verity).toMatch(/^[0-9a-f]{64}$/);
    expect(drift({}, { l: "-> t" }, null)[0]).toMatchObject({
      image: null,
      local: { type: "symlink", target: "t" },
    });
    expect("staged" in drift({}, { l: "-> t" }, null)[0]!).toBe(false);
  });

  test("devices and extended attributes", () => {
    const current = buildTree({ n: "|", x: "1" });
    const device = current.entries.get("n")!;
    Object.assign(device, { mode: S_IFCHR | 0o640, rdev: 0x103 });
    current.entries.get("x")!.xattrs = new Map([["user.a", Buffer.from("b")]]);
    const pristine = buildTree({ x: "1" });
    const [n, x] = computeDrift({ pristine, current, next: null }, [], "sha512");
    expect(n?.local).toEqual({ type: "char", mode: "0640", uid: 0, gid: 0, device: "1:3" });
    expect(x).toMatchObject({ differs: ["xattrs"], local: { xattrs: { "user.a": "Yg==" } } });
  });

  test("conflicts and rules", () => {
    const rules: EtcRule[] = [
      { path: "/etc/mine", action: "image", source: "policy:1" },
      { path: "/etc/strict", action: "fail", source: "policy:2" },
      { path: "/etc/z", action: "keep", source: "policy:3" },
    ];
    const changes = drift(
      { f: "1", "d/a": "1", mine: "1", strict: "1", z: "1" },
      { f: "local", "d/a": "local", mine: "local", strict: "local", z: "1" },
      { "f/x": "2", d: "2", mine: "2", strict: "2", z: "2" },
      rules,
    );
    expect(summary(changes)).toEqual([
      "/etc/d modified  conflict image changed",
      "/etc/d/a modified content local image changed",
      "/etc/f modified content conflict image changed",
      "/etc/mine modified content image image changed",
      "/etc/strict modified content conflict image changed",
      "/etc/z kept  local image changed",
    ]);
    expect(changes[3]?.rule).toEqual({ action: "image", source: "policy:1" });
    expect(formatDrift(changes, { verbose: false })).toEqual([
      'modified  /etc/d  (conflict: Modified directory "d" newly defaults to file)',
      "modified  /etc/d/a  (content; stays, though the staged image changed it)",
      'modified  /etc/f  (content; conflict: Modified file "f" newly defaults to directory)',
      "modified  /etc/mine  (content; follows the image, rule policy:1)",
      'modified  /etc/strict  (content; conflict: "strict" was changed here, and the image changed it as well (rule policy:2))',
      "kept      /etc/z  (stays, though the staged image changed it, rule policy:3)",
    ]);
  });

  test("for people, all sides", () => {
    const changes = drift({ f: "1" }, { f: "12 @600:5:6", "a b": "-> x" }, { f: "1" });
    expect(
      formatDrift(changes, { verbose: true }).map((line) => line.replace(/[0-9a-f]{16}/, "V")),
    ).toEqual([
      'added     "/etc/a b"',
      "    image:  -",
      "    local:  symlink 0:0 -> x",
      "    staged: -",
      "modified  /etc/f  (content, mode, owner)",
      "    image:  file 0644 0:0 1 bytes verity V",
      "    local:  file 0600 5:6 2 bytes verity V",
      "    staged: file 0644 0:0 1 bytes verity V",
    ]);
  });
});

test("bootc's lines: order, quoting as in Rust, colours", () => {
  const { diff } = planEtcMerge(
    buildTree({ 'm"': "1", r: "1", f: "1" }),
    buildTree({ 'm"': "2", "d/a\nb": "1", "caf\xc3\xa9": "1", "\xff\x01": "1", f: "local" }),
    buildTree({ "f/x": "1" }),
  );
  const text = formatConfigDiff(diff, { colors: false });
  expect(text).toBe(
    [
      'Added "café"',
      'Added "d"',
      'Added "d/a\\nb"',
      'Added "\\xFF\\x01"',
      'Modified "f"',
      'Modified "m\\""',
      'Removed "r"',
      'Unmergable Modified file "f" newly defaults to directory',
      "",
    ].join("\n"),
  );
  expect(formatConfigDiff(diff, { colors: true })).toContain('\u001b[31mRemoved\u001b[39m "r"');
});
