// Layers applied to a tree: what adds up, what is hidden, what tries to escape.

import { describe, expect, test } from "vitest";
import { FormatError } from "../../shared/error.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import { type DirectoryNode, NO_XATTRS } from "../../shared/format/tree/node.ts";
import { type TarMember, tarMember } from "../../test/support/tar-builder.ts";
import { listTree } from "../../test/support/tree-listing.ts";
import { applyEntry, createRoot } from "./layer-tree.ts";

/** All members of all layers in turn; contents are the member's name, or what `content` says. */
function applyLayers(...layers: TarMember[][]): DirectoryNode {
  const root = createRoot();
  for (const layer of layers) {
    const contents = layer.map((member) => member.content ?? "");
    const reader = new TarReader({
      raw: () => {},
      content: () => {},
      contentEnd: () => {},
      entry: (entry) =>
        applyEntry(root, entry, {
          kind: "inline",
          bytes: Buffer.from(contents.shift()!),
        }),
    });
    for (const member of layer) reader.write(tarMember(member));
    reader.finish();
  }
  return root;
}

const tarEntry: TarEntry = {
  type: "file",
  path: "",
  linkTarget: "",
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtimeSec: 0,
  mtimeNsec: 0,
  rdev: 0,
  sizeBytes: 0,
  xattrs: NO_XATTRS,
};
const dir = (name: string, mode = 0o755): TarMember => ({ name, type: "5", mode });
const file = (name: string, content = name): TarMember => ({ name, content });
const link = (name: string, linkName: string): TarMember => ({ name, type: "1", linkName });
const symlink = (name: string, linkName: string): TarMember => ({ name, type: "2", linkName });

describe("layers add up", () => {
  test.each<[string, TarMember[][], string[]]>([
    [
      "spellings of paths",
      [[dir("./"), dir("/a/"), file("./a//b/."), file("a/./c")]],
      ["/a dir", '/a/b "./a//b/."', '/a/c "a/./c"'],
    ],
    ["a later file replaces", [[file("a", "1")], [file("a", "2")]], ['/a "2"']],
    [
      "a directory keeps its children",
      [[dir("d"), file("d/x", "1")], [dir("d", 0o700)]],
      ["/d dir", '/d/x "1"'],
    ],
    ["a file replaces a directory", [[dir("d"), file("d/x")], [file("d", "1")]], ['/d "1"']],
    [
      "a directory replaces a file",
      [[file("d")], [dir("d"), file("d/x", "1")]],
      ["/d dir", '/d/x "1"'],
    ],
    [
      "a symlink replaces a directory",
      [[dir("d"), file("d/x")], [symlink("d", "/e")]],
      ["/d -> /e"],
    ],
    ["hard link in one layer", [[file("a", "1"), link("b", "./a")]], ['/a "1" =1', '/b "1" =1']],
    [
      "hard link to a lower layer",
      [[dir("d"), file("d/a", "1")], [link("b", "/d/a")]],
      ["/d dir", '/d/a "1" =1', '/b "1" =1'],
    ],
    ["hard link to a symlink", [[symlink("a", "x"), link("b", "a")]], ["/a -> x =1", "/b -> x =1"]],
    [
      "replacing one name leaves the other",
      [[file("a", "1"), link("b", "a")], [file("a", "2")]],
      ['/a "2"', '/b "1"'],
    ],
    ["hard link to itself", [[file("a", "1"), link("a", "a")]], ['/a "1"']],
    [
      "devices and fifos",
      [
        [
          { name: "c", type: "3", device: [1, 3] },
          { name: "p", type: "6" },
        ],
      ],
      ["/c 20000 259", "/p 10000 0"],
    ],
    [
      "non-UTF-8 names",
      [[{ name: Buffer.from([0xff, 0x2f]).subarray(0, 1), content: "1" }]],
      ['/\xff "1"'],
    ],
  ])("%s", (_name, layers, expected) => {
    expect(listTree(applyLayers(...layers))).toEqual([...expected].sort());
  });

  test("a directory takes the attributes of its last entry, the root too", () => {
    const root = applyLayers(
      [dir("./", 0o711), dir("d")],
      [{ ...dir("d", 0o1777), uid: 5, mtime: 9 }],
    );
    expect(root).toMatchObject({ mode: 0o40711 });
    expect(root.entries.get("d")).toMatchObject({ mode: 0o41777, uid: 5, mtimeSec: 9 });
  });
});

describe("whiteouts", () => {
  const base = [dir("d"), file("d/a", "1"), file("d/b", "1"), dir("d/s"), file("d/s/x", "1")];
  test.each<[string, TarMember[][], string[]]>([
    ["of a file", [base, [file("d/.wh.a", "")]], ["/d dir", '/d/b "1"', "/d/s dir", '/d/s/x "1"']],
    ["of a directory", [base, [file("d/.wh.s", "")]], ["/d dir", '/d/a "1"', '/d/b "1"']],
    ["of nothing", [[dir("d")], [file("d/.wh.zzz", "")]], ["/d dir"]],
    ["in the root", [base, [file(".wh.d", "")]], []],
    [
      "opaque",
      [base, [dir("d"), file("d/.wh..wh..opq", ""), file("d/n", "2")]],
      ["/d dir", '/d/n "2"'],
    ],
    [
      "opaque also hides what the layer added before",
      [base, [file("d/n", "2"), file("d/.wh..wh..opq", "")]],
      ["/d dir"],
    ],
    [
      "then the same name again",
      [base, [file("d/.wh.a", ""), file("d/a", "2")]],
      ["/d dir", '/d/a "2"', '/d/b "1"', "/d/s dir", '/d/s/x "1"'],
    ],
    ["hides what the same layer added before", [[file("a"), file(".wh.a", "")]], []],
    [
      "leaves the other name of a hard link",
      [[file("a", "1"), link("b", "a")], [file(".wh.a", "")]],
      ['/b "1"'],
    ],
  ])("%s", (_name, layers, expected) => {
    expect(listTree(applyLayers(...layers))).toEqual([...expected].sort());
  });
});

describe("escapes and clashes are refused", () => {
  test.each<[string, TarMember[], RegExp]>([
    ["..", [file("../etc/passwd")], /contains "\.\."/],
    [".. inside", [dir("a"), file("a/../../x")], /contains "\.\."/],
    ["absolute ..", [file("/../x")], /contains "\.\."/],
    ["hard link to outside", [link("a", "../../etc/shadow")], /contains "\.\."/],
    ["hard link through ..", [dir("d"), file("d/f"), link("a", "d/../d/f")], /contains "\.\."/],
    [
      "hard link to an absolute path outside the tree",
      [link("a", "/etc/shadow")],
      /"\/etc" does not exist/,
    ],
    ["hard link to nothing", [link("a", "b")], /target "b" is missing/],
    ["hard link to a later file", [link("a", "b"), file("b")], /target "b" is missing/],
    ["hard link to a directory", [dir("d"), link("a", "d")], /is a directory/],
    ["hard link to the root", [link("a", "/")], /is a directory/],
    ["symlink as parent", [dir("real"), symlink("d", "real"), file("d/x")], /"\/d" is a symlink/],
    [
      "symlink to outside as parent",
      [symlink("d", "/etc"), file("d/passwd")],
      /"\/d" is a symlink/,
    ],
    [
      "whiteout through a symlink",
      [dir("real"), file("real/x"), symlink("d", "real"), file("d/.wh.x")],
      /"\/d" is a symlink/,
    ],
    ["opaque through a symlink", [symlink("d", "/"), file("d/.wh..wh..opq")], /"\/d" is a symlink/],
    [
      "hard link through a symlink",
      [dir("real"), file("real/x"), symlink("d", "real"), link("a", "d/x")],
      /"\/d" is a symlink/,
    ],
    ["file as parent", [file("f"), file("f/x")], /"\/f" is a file/],
    ["missing parent", [file("a/b/c")], /"\/a" does not exist/],
    ["whiteout in a missing directory", [file("a/.wh.x")], /"\/a" does not exist/],
    ["whiteout of ..", [file(".wh...")], /names no file/],
    ["whiteout of .", [file(".wh..")], /names no file/],
    ["whiteout of nothing", [file(".wh.")], /names no file/],
    ["root as a file", [file("/")], /not a file name/],
    ["root as a symlink", [symlink("./", "/etc")], /not a file name/],
  ])("%s", (_name, members, message) => {
    expect(() => applyLayers(members)).toThrow(FormatError);
    expect(() => applyLayers(members)).toThrow(message);
  });
});

test("a name over 255 bytes is refused", () => {
  const entry = { ...tarEntry, path: "n".repeat(256) };
  expect(() =>
    applyEntry(createRoot(), entry, { kind: "inline", bytes: new Uint8Array(0) }),
  ).toThrow(/longer than 255/);
});
