// The rewrites before an image is made: their result decides the deployment id.

import { describe, expect, test } from "vitest";
import type { DirectoryNode, FileNode } from "../../shared/format/tree/node.ts";
import { makeDirectory, makeFile, makeTree } from "../../test/support/tree-builder.ts";
import { listTree } from "../../test/support/tree-listing.ts";
import type { FileReader } from "./file-content.ts";
import { transformForBoot, transformForOci } from "./transform.ts";

const readFile: FileReader = ({ content }: FileNode) => {
  if (content.kind !== "inline") throw new Error("not inline");
  return content.bytes;
};
const capability = Buffer.from([1, 2, 3]);
const xattrs = new Map<string, Uint8Array>([
  ["security.selinux", Buffer.from("old_t")],
  ["security.capability", capability],
  ["user.note", Buffer.from("x")],
]);
const usr = { mode: 0o40751, uid: 1, gid: 2, mtimeSec: 1000, mtimeNsec: 7 };

const bootable = (more: Parameters<typeof makeTree>[0] = {}): DirectoryNode =>
  makeTree({
    usr: makeDirectory(usr),
    boot: makeDirectory({ mtimeSec: 5, mtimeNsec: 6, mode: 0o40700 }),
    sysroot: makeDirectory({ mtimeSec: 5, mtimeNsec: 6 }),
    ...more,
  });

describe("transformForOci", () => {
  test("the root takes the attributes of /usr", () => {
    const root = bootable();
    transformForOci(root);
    expect(root).toMatchObject(usr);
  });

  test("/run is emptied, keeping its owner and mode", () => {
    const root = bootable({ run: makeDirectory({ mode: 0o40700, uid: 9 }), "run/x/y": "1" });
    transformForOci(root);
    expect(root.entries.get("run")).toMatchObject({
      mode: 0o40700,
      uid: 9,
      mtimeSec: 1000,
      mtimeNsec: 7,
      entries: new Map(),
    });
  });

  test("only file capabilities survive of the xattrs", () => {
    const root = bootable({
      "usr/f": makeFile("", { xattrs }),
      "usr/d": makeDirectory({ xattrs }),
    });
    root.xattrs = xattrs;
    transformForOci(root);
    const node = root.entries.get("usr") as DirectoryNode;
    for (const name of ["f", "d"]) {
      expect([...node.entries.get(name)!.xattrs]).toEqual([["security.capability", capability]]);
    }
    expect(root.xattrs.size).toBe(0);
  });

  test.each([makeTree({}), makeTree({ usr: "file" })])("without /usr", (root) => {
    expect(() => transformForOci(root)).toThrow('no directory "/usr"');
  });
});

describe("transformForBoot", () => {
  test("/boot and /sysroot are emptied and get the seconds of /usr", () => {
    const root = bootable({ "boot/EFI/x": "1", "sysroot/y": "1", "etc/z": "1" });
    transformForBoot(root, readFile);
    expect(listTree(root)).toEqual([
      "/boot dir",
      "/etc dir",
      '/etc/z "1"',
      "/sysroot dir",
      "/usr dir",
    ]);
    expect(root.entries.get("boot")).toMatchObject({ mode: 0o40700, mtimeSec: 1000, mtimeNsec: 6 });
    expect(root.entries.get("sysroot")).toMatchObject({ mtimeSec: 1000, mtimeNsec: 6 });
  });

  test.each(["boot", "sysroot"])("without /%s", (name) => {
    const root = bootable();
    root.entries.delete(name);
    expect(() => transformForBoot(root, readFile)).toThrow(`no directory "/${name}"`);
  });
});

describe("SELinux labels", () => {
  const labels = (root: DirectoryNode, path = ""): string[] =>
    [...root.entries]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, node]) => [
        `${path}/${name} ${Buffer.from(node.xattrs.get("security.selinux") ?? []).toString() || "-"}`,
        ...(node.kind === "directory" ? labels(node, `${path}/${name}`) : []),
      ]);
  const labelled = (
    contexts: string,
    files: Parameters<typeof makeTree>[0],
    more: Record<string, string> = {},
  ): string[] => {
    const prefix = "etc/selinux/targeted/contexts/files";
    const root = bootable({
      "etc/selinux/config":
        "# comment\nSELINUX=enforcing\n selinuxtype = targeted \nSELINUXTYPE=other\n",
      [`${prefix}/file_contexts`]: contexts,
      ...Object.fromEntries(
        Object.entries(more).map(([name, text]) => [`${prefix}/${name}`, text]),
      ),
      ...files,
    });
    transformForBoot(root, readFile);
    return labels(root).filter((line) => !line.startsWith("/etc"));
  };

  test.each<[string, string, Parameters<typeof makeTree>[0], string[]]>([
    [
      "the last matching line wins",
      "/usr/.* a\n/usr/b b\n",
      { "usr/a": "", "usr/b": "" },
      ["/usr -", "/usr/a a", "/usr/b b"],
    ],
    [
      "even when it is less specific",
      "/usr/b b\n/usr/.* a\n",
      { "usr/b": "" },
      ["/usr -", "/usr/b a"],
    ],
    [
      "types",
      "/usr/.* any\n/usr/.* -d dir\n/usr/.* -l link\n/usr/.* -- file\n",
      { "usr/d": makeDirectory(), "usr/f": "", "usr/l": "-> f" },
      ["/usr -", "/usr/d dir", "/usr/f file", "/usr/l link"],
    ],
    [
      "<<none>> takes the label away",
      "/usr/.* a\n/usr/n <<none>>\n",
      { "usr/n": makeFile("", { xattrs }) },
      ["/usr -", "/usr/n -"],
    ],
    [
      "comments, empty lines, tabs",
      "# x\n\n  /usr/f\t\t--\tfile \n",
      { "usr/f": "" },
      ["/usr -", "/usr/f file"],
    ],
    [
      "groups and optional parts",
      "/usr/(s)?bin(/.*)? bin\n",
      { "usr/sbin/x": "", "usr/bin": "" },
      ["/usr -", "/usr/bin bin", "/usr/sbin bin", "/usr/sbin/x bin"],
    ],
    [
      "alternatives at the top",
      "/usr/a|/usr/b x\n",
      { "usr/a": "", "usr/b": "", "usr/c": "" },
      ["/usr -", "/usr/a x", "/usr/b x", "/usr/c -"],
    ],
    [
      "escapes, classes, POSIX classes",
      "/usr/a\\.b[^/]+ x\n/usr/[]a]z y\n/usr/n[[:digit:]_]+ n\n",
      { "usr/a.bc": "", "usr/axbc": "", "usr/]z": "", "usr/n1_": "", "usr/nx": "" },
      ["/usr -", "/usr/]z y", "/usr/a.bc x", "/usr/axbc -", "/usr/n1_ n", "/usr/nx -"],
    ],
    [
      "a dot matches one byte of a UTF-8 letter",
      "/usr/.. two\n/usr/. one\n",
      { "usr/ä": "", "usr/a": "" },
      ["/usr -", "/usr/a one", "/usr/Ã¤ two"],
    ],
    [
      "a quantifier after the literal part",
      "/usr/libx?/f l\n/usr/libx{2}/f ll\n",
      { "usr/lib/f": "", "usr/libx/f": "", "usr/libxx/f": "" },
      [
        "/usr -",
        "/usr/lib -",
        "/usr/lib/f l",
        "/usr/libx -",
        "/usr/libx/f l",
        "/usr/libxx -",
        "/usr/libxx/f ll",
      ],
    ],
  ])("%s", (_name, contexts, files, expected) => {
    expect(labelled(contexts, files).filter((line) => line.startsWith("/usr"))).toEqual(expected);
  });

  test("more files, in order, and path aliases", () => {
    const lines = labelled(
      "/usr/.* base\n/var/run(/.*)? run\n",
      { "usr/a": "", "usr/l": "", "usr/h": "", "usr/run/x": "" },
      {
        "file_contexts.local": "/usr/[lh] local\n",
        "file_contexts.homedirs": "/usr/h home\n",
        "file_contexts.subs": "/usr/run /wrong\n",
        "file_contexts.subs_dist": "# alias\n/usr/run /var/run\n",
      },
    );
    expect(lines.filter((line) => line.startsWith("/usr"))).toEqual([
      "/usr -",
      "/usr/a base",
      "/usr/h home",
      "/usr/l local",
      "/usr/run run",
      "/usr/run/x run",
    ]);
  });

  test("a capability stays beside the label", () => {
    const both = makeFile("", { xattrs: new Map([["security.capability", capability]]) });
    labelled("/usr/f x\n", { "usr/f": both });
    expect(new Map(both.xattrs)).toEqual(
      new Map([
        ["security.capability", capability],
        ["security.selinux", Buffer.from("x")],
      ]),
    );
  });

  test("a hard link that wants another label becomes a file of its own", () => {
    const shared = makeFile("1");
    const root = bootable({
      "etc/selinux/config": "SELINUXTYPE=t\n",
      "etc/selinux/t/contexts/files/file_contexts": "/usr/a x\n/usr/b y\n/usr/c x\n",
      "usr/a": shared,
      "usr/b": shared,
      "usr/c": shared,
    });
    transformForBoot(root, readFile);
    const { entries } = root.entries.get("usr") as DirectoryNode;
    expect(labels(root).filter((line) => line.startsWith("/usr/"))).toEqual([
      "/usr/a x",
      "/usr/b y",
      "/usr/c x",
    ]);
    expect(entries.get("c")).toBe(entries.get("a"));
    expect(entries.get("b")).not.toBe(entries.get("a"));
  });

  test.each<[string, Record<string, string>]>([
    ["no config", {}],
    ["no policy type", { "etc/selinux/config": "SELINUX=disabled\n" }],
  ])("%s: labels are removed", (_name, files) => {
    const root = bootable({ ...files, "usr/f": makeFile("", { xattrs }) });
    transformForBoot(root, readFile);
    const file = (root.entries.get("usr") as DirectoryNode).entries.get("f")!;
    expect([...file.xattrs.keys()]).toEqual(["security.capability", "user.note"]);
  });

  test.each<[string, Record<string, string>, RegExp]>([
    [
      "policy is missing",
      { "etc/selinux/config": "SELINUXTYPE=t" },
      /"t" but has no .*file_contexts/,
    ],
    [
      "malformed line",
      { "etc/selinux/t/contexts/files/file_contexts": "/usr -x label\n" },
      /malformed line/,
    ],
    [
      "regex",
      { "etc/selinux/t/contexts/files/file_contexts": "/usr/(?>x) label\n" },
      /not understood/,
    ],
  ])("bad: %s", (_name, files, message) => {
    const root = bootable({ "etc/selinux/config": "SELINUXTYPE=t\n", "usr/x": "", ...files });
    expect(() => transformForBoot(root, readFile)).toThrow(message);
  });
});
