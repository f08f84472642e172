import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { S_IFCHR, S_IFSOCK, type TreeNode } from "../../shared/format/tree/node.ts";
import { storeObject } from "../../shared/store/objects.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { mknodat } from "../../shared/sys/link.ts";
import { lgetxattr, llistxattr, lsetxattr } from "../../shared/sys/xattr.ts";
import { makeDirectory, readBack } from "../../test/support/etc-directories.ts";
import { buildTree, type FlatTree, flatten } from "../../test/support/etc-trees.ts";
import { diffEtc, type EtcSource, mergeEtc } from "./etc-merge.ts";
import { planEtcMerge } from "./etc-plan.ts";

const scratch = mkdtempSync(join(tmpdir(), "etc-merge-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;

let counter = 0;
interface Directories {
  readonly p: string;
  readonly c: string;
  readonly n: string;
  readonly out: string;
}
function makeDirectories(pristine: FlatTree, current: FlatTree, next: FlatTree): Directories {
  const root = join(scratch, String(counter++));
  mkdirSync(root);
  const [p, c, n] = [join(root, "p"), join(root, "c"), join(root, "n")];
  makeDirectory(p, pristine);
  makeDirectory(c, current);
  makeDirectory(n, next);
  return { p, c, n, out: join(root, "out") };
}

describe("mergeEtc on directories", () => {
  const pristine = { keep: "1", edit: "1", gone: "1", "d/x": "1", drop: "1" };
  const current = {
    keep: "1",
    edit: "local",
    "d/x": "1",
    "d/y": "mine",
    drop: "1",
    more: "| @600",
  };
  const next = { keep: "2", edit: "2", gone: "2", "d/x": "2", "d/z": "new", l: "-> /etc/keep" };
  const merged = {
    ...{ keep: "2", edit: "local", "d/": "", "d/x": "2", "d/y": "mine", "d/z": "new" },
    ...{ more: "| @600", l: "-> /etc/keep" },
  };
  const diff = {
    added: ["d/y", "more"],
    modified: ["edit"],
    removed: ["gone"],
    dropped: [],
    held: [],
    conflicts: [],
  };

  test("writes the merged tree, says what changed, leaves the inputs alone", () => {
    const { p, c, n, out } = makeDirectories(pristine, current, next);
    const before = [p, c, n].map((path) => readBack(path));
    expect(mergeEtc(p, c, n, out)).toEqual(diff);
    expect(readBack(out)).toEqual(merged);
    expect([p, c, n].map((path) => readBack(path))).toEqual(before);
    expect(diffEtc(p, c, n)).toEqual(diff);
  });

  test("replaces what an interrupted merge left, and can be repeated", () => {
    const { p, c, n, out } = makeDirectories(pristine, current, next);
    makeDirectory(out, { keep: "half", "d/stale": "x", "edit/was/deep": "x", "closed/": "@0" });
    for (const _ of [1, 2]) {
      mergeEtc(p, c, n, out);
      expect(readBack(out)).toEqual(merged);
    }
  });

  test("a conflict names every path and leaves no output", () => {
    const { p, c, n, out } = makeDirectories(
      { f: "1", "d/a": "1" },
      { f: "local", "d/a": "local" },
      { "f/x": "2", d: "2" },
    );
    makeDirectory(out, { stale: "x" });
    expect(() => mergeEtc(p, c, n, out)).toThrow(
      expect.objectContaining({
        kind: "state",
        code: "conflict",
        message: expect.stringMatching(/"d" newly defaults to file; .*"f" newly defaults to dir/),
      }),
    );
    expect(existsSync(out)).toBe(false);
    expect(diffEtc(p, c, n).conflicts.map((each) => each.path)).toEqual(["d", "f"]);
  });

  test("a missing input is an error that names it", () => {
    const { p, c, out } = makeDirectories({}, {}, {});
    expect(() => mergeEtc(p, c, `${p}-none`, out)).toThrow(/p-none/);
    expect(existsSync(out)).toBe(false);
  });

  test("names that are no UTF-8", () => {
    const { p, c, n, out } = makeDirectories(
      {},
      { "caf\xe9": "1", "\xff\xfe/\x80": "2", "\xe4": "-> \xfc" },
      { "\xff\xfe/\x81": "3" },
    );
    mergeEtc(p, c, n, out);
    expect(readBack(out)).toEqual({
      ...{ "caf\xe9": "1", "\xff\xfe/": "", "\xff\xfe/\x80": "2" },
      ...{ "\xe4": "-> \xfc", "\xff\xfe/\x81": "3" },
    });
  });

  test("symlinks are copied, never followed, also where a directory is expected", () => {
    const outside = join(scratch, "outside");
    mkdirSync(outside, { recursive: true });
    const { p, c, n, out } = makeDirectories(
      { "d/f": "1" },
      { d: `-> ${outside}`, abs: "-> /etc/passwd", up: "-> ../../../x" },
      { "d/f": "2", "d/g": "2" },
    );
    mergeEtc(p, c, n, out);
    expect(readBack(out)).toEqual({
      ...{ d: `-> ${outside}`, abs: "-> /etc/passwd", up: "-> ../../../x" },
    });
    expect(readBack(outside)).toEqual({});
  });

  test("a file is copied to its last byte", () => {
    const { p, c, n, out } = makeDirectories({}, {}, {});
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17, "0123456789abcde");
    writeFileSync(join(c, "large"), bytes);
    mergeEtc(p, c, n, out);
    expect(readFileSync(join(out, "large")).equals(bytes)).toBe(true);
  });
});

describe("attributes", () => {
  function setTimes(path: string, seconds: number): void {
    // Node takes a negative number for "now".
    lutimesSync(path, new Date(seconds * 1000), new Date(seconds * 1000));
  }

  test.skipIf(!isRoot)("modes, also of set-id files, closed files and closed directories", () => {
    const current = {
      ...{ suid: "x @4755", sgid: "x @2711", none: "x @0", "shut/": "@0", "shut/f": "y" },
      ...{ "sticky/": "@1777", "group/": "@2775", "ro/": "@555", "ro/f": "z @444" },
    };
    const { p, c, n, out } = makeDirectories({}, current, {});
    chmodSync(n, 0o711);
    const mask = process.umask(0o077);
    try {
      mergeEtc(p, c, n, out);
    } finally {
      process.umask(mask);
    }
    expect(readBack(out)).toEqual(current);
    // The directory itself follows the image: it was not changed locally.
    expect(lstatSync(out).mode & 0o7777).toBe(0o711);
  });

  test("time stamps of files, directories and symlinks, whoever they come from", () => {
    const { p, c, n, out } = makeDirectories(
      { image: "1", local: "1", "d/f": "1" },
      { image: "1", local: "changed", "d/f": "1", mine: "-> x", "own/f": "1" },
      { image: "1", local: "1", "d/f": "2", theirs: "-> y" },
    );
    const times: [string, string, number][] = [
      ...([
        [n, "image", 1_000_000_001.25],
        [c, "local", 1_000_000_002.5],
      ] as [string, string, number][]),
      ...([
        [n, "d/f", 1_000_000_003],
        [c, "mine", 1_000_000_004],
      ] as [string, string, number][]),
      ...([
        [c, "own/f", 1_000_000_005],
        [n, "theirs", -5],
      ] as [string, string, number][]),
    ];
    for (const [root, path, seconds] of times) setTimes(join(root, path), seconds);
    for (const [root, path, seconds] of [
      [n, "d", 1_000_000_006],
      [c, "own", 1_000_000_007],
      [n, ".", 1_000_000_008],
    ] as const) {
      utimesSync(join(root, path), seconds, seconds);
      times.push([root, path, seconds]);
    }
    mergeEtc(p, c, n, out);
    for (const [, path, seconds] of times) {
      expect(lstatSync(join(out, path)).mtimeMs, path).toBe(seconds * 1000);
    }
  });

  test("a different time stamp alone is no change", () => {
    const { p, c, n, out } = makeDirectories({ f: "1" }, { f: "1" }, { f: "2" });
    setTimes(join(c, "f"), 1_000_000_000);
    expect(mergeEtc(p, c, n, out).modified).toEqual([]);
    expect(readBack(out)).toEqual({ f: "2" });
  });

  test.skipIf(!isRoot)("owners, also of symlinks", () => {
    const { p, c, n, out } = makeDirectories(
      { f: "1", "d/": "" },
      { f: "1 @640:0:42", "d/": "@750:7:8", l: "-> x @777:9:10" },
      { f: "2", "d/new": "n @600:11:12" },
    );
    mergeEtc(p, c, n, out);
    expect(readBack(out)).toEqual({
      ...{ f: "1 @640:0:42", "d/": "@750:7:8", "d/new": "n @600:11:12", l: "-> x @777:9:10" },
    });
  });

  test("hard links are kept, on both sides", () => {
    const { p, c, n, out } = makeDirectories(
      { shared: "1" },
      { shared: "1", first: "local" },
      { shared: "1", "image/a": "i" },
    );
    linkSync(join(c, "first"), join(c, "second"));
    linkSync(join(c, "shared"), join(c, "alias"));
    linkSync(join(n, "image/a"), join(n, "b"));
    mergeEtc(p, c, n, out);
    const inode = (path: string) => lstatSync(join(out, path)).ino;
    expect(inode("second")).toBe(inode("first"));
    expect(inode("alias")).toBe(inode("shared"));
    expect(inode("b")).toBe(inode("image/a"));
    expect(lstatSync(join(out, "first")).nlink).toBe(2);
    expect(lstatSync(join(c, "first")).nlink).toBe(2);
  });

  test("device nodes are kept, sockets are not there", () => {
    const { p, c, n, out } = makeDirectories({ s: "1" }, { "d/f": "1" }, { s: "2" });
    mknodat(null, join(c, "s"), S_IFSOCK | 0o600, 0);
    mknodat(null, join(c, "d/s"), S_IFSOCK | 0o600, 0);
    if (isRoot) mknodat(null, join(c, "null"), S_IFCHR | 0o640, 0x103);
    expect(mergeEtc(p, c, n, out).removed).toEqual(["s"]);
    expect(Object.keys(readBack(out)).sort()).toEqual(["d/", "d/f", ...(isRoot ? ["null"] : [])]);
    if (isRoot) {
      const stat = lstatSync(join(out, "null"));
      expect([stat.isCharacterDevice(), stat.rdev, stat.mode & 0o777]).toEqual([
        true,
        0x103,
        0o640,
      ]);
    }
  });
});

describe.skipIf(!isRoot)("extended attributes", () => {
  const set = (path: string, name: string, hex: string) =>
    lsetxattr(path, name, Buffer.from(hex, "hex"));
  const get = (path: string): Record<string, string> =>
    Object.fromEntries(
      llistxattr(path).map((name) => [name, Buffer.from(lgetxattr(path, name)!).toString("hex")]),
    );
  // Version 2, effective, CAP_NET_RAW.
  const CAPABILITY = `0100000200200000${"00".repeat(12)}`;

  test("of files, directories and symlinks; the local set replaces the image's", () => {
    const { p, c, n, out } = makeDirectories(
      { f: "1", ping: "1", "d/": "" },
      { f: "1", ping: "1", "d/": "", l: "-> x" },
      { f: "1", ping: "1", "d/": "" },
    );
    set(join(n, "f"), "user.image", "69");
    set(join(c, "f"), "user.x", "00ff00");
    set(join(c, "f"), "user.empty", "");
    set(join(c, "d"), "user.d", "64");
    set(join(c, "l"), "trusted.l", "6c");
    for (const root of [p, c, n]) set(join(root, "ping"), "security.capability", CAPABILITY);
    chmodSync(join(c, "ping"), 0o4750);
    expect(mergeEtc(p, c, n, out).modified).toEqual(["d", "f", "ping"]);
    expect(get(join(out, "f"))).toEqual({ "user.x": "00ff00", "user.empty": "" });
    expect(get(join(out, "d"))).toEqual({ "user.d": "64" });
    expect(get(join(out, "l"))).toEqual({ "trusted.l": "6c" });
    expect(get(join(out, "ping"))).toEqual({ "security.capability": CAPABILITY });
    expect(lstatSync(join(out, "ping")).mode & 0o7777).toBe(0o4750);
  });

  test("access control lists, with the mode they give", () => {
    const { p, c, n, out } = makeDirectories({ f: "1" }, { f: "1", "d/": "" }, { f: "2" });
    const [owner, named, group, mask, other] = [1, 2, 4, 0x10, 0x20];
    const entry = (tag: number, permissions: number, id = 0xffffffff) =>
      Buffer.from([tag, 0, permissions, 0, id, id >> 8, id >> 16, id >> 24]).toString("hex");
    const list = [entry(owner!, 6), entry(named!, 6, 1000), entry(group!, 4)];
    const acl = `02000000${[...list, entry(mask!, 6), entry(other!, 0)].join("")}`;
    set(join(c, "f"), "system.posix_acl_access", acl);
    set(join(c, "d"), "system.posix_acl_default", acl);
    expect(mergeEtc(p, c, n, out)).toMatchObject({ added: ["d"], modified: ["f"] });
    expect(get(join(out, "f"))).toEqual({ "system.posix_acl_access": acl });
    expect(get(join(out, "d"))).toEqual({ "system.posix_acl_default": acl });
    expect(readBack(out)).toEqual({ f: "1 @660", "d/": "" });
  });

  test("what belongs to an overlay is neither compared nor copied", () => {
    const { p, c, n, out } = makeDirectories({ f: "1" }, { f: "1", g: "1" }, { f: "1" });
    set(join(c, "f"), "trusted.overlay.origin", "78");
    set(join(c, "g"), "trusted.overlay.origin", "78");
    set(join(c, "g"), "user.overlay.x", "78");
    expect(mergeEtc(p, c, n, out)).toMatchObject({ added: ["g"], modified: [] });
    expect(get(join(out, "g"))).toEqual({});
  });
});

// The images' files belong to root.
describe.skipIf(!isRoot)("mergeEtc from images", () => {
  function withRepository<T>(work: (repo: Repository) => T): T {
    const config = { algorithm: "sha512", secure: false } as const;
    using repo = ensureRepository(null, join(scratch, `repo-${counter++}`), config);
    return work(repo);
  }
  /** The tree with every file of more than 8 bytes in the object store. */
  function store(repo: Repository, flat: FlatTree): EtcSource {
    const etc = buildTree(flat);
    const move = (node: TreeNode): void => {
      if (node.kind === "directory") for (const child of node.entries.values()) move(child);
      if (node.kind !== "file" || node.content.kind !== "inline") return;
      const { bytes } = node.content;
      if (bytes.length <= 8) return;
      node.content = {
        kind: "external",
        sizeBytes: bytes.length,
        digest: storeObject(repo, bytes),
      };
    };
    move(etc);
    return { repo, etc };
  }

  test("pristine and next from the store, current from disk", () => {
    withRepository((repo) => {
      const long = "a longer text that is an object of its own";
      const pristine = { small: "1", long, edited: long, gone: long };
      const { c, out } = makeDirectories({}, { small: "1", long, edited: "mine" }, {});
      const next = { small: "2", long: `${long}, updated`, edited: `${long}, updated`, gone: "x" };
      const diff = mergeEtc(store(repo, pristine), c, store(repo, next), out);
      expect(diff).toMatchObject({ added: [], modified: ["edited"], removed: ["gone"] });
      expect(readBack(out)).toEqual({ small: "2", long: `${long}, updated`, edited: "mine" });
    });
  });

  test("a missing object is reported and leaves no output", () => {
    withRepository((repo) => {
      const next = store(repo, { a: "1" });
      const digest = "ab".repeat(64);
      const etc = buildTree({ a: "1", b: "2" });
      const b = etc.entries.get("b");
      if (b?.kind === "file") b.content = { kind: "external", sizeBytes: 9, digest };
      const { c, out } = makeDirectories({}, { a: "1" }, {});
      expect(() => mergeEtc(next, c, { repo, etc }, out)).toThrow(
        expect.objectContaining({ kind: "integrity", code: "missing-object" }),
      );
      expect(existsSync(out)).toBe(false);
    });
  });

  test("a file that vanishes between reading and copying is taken as removed", () => {
    withRepository((repo) => {
      const { c, out } = makeDirectories({}, { stays: "1", vanishes: "1" }, {});
      // The image's tree is looked at after the live one was read.
      const etc = buildTree({ x: "1" });
      const entries = etc.entries;
      const keys = entries.keys.bind(entries);
      entries.keys = () => {
        if (existsSync(join(c, "vanishes"))) unlinkSync(join(c, "vanishes"));
        return keys();
      };
      expect(mergeEtc({ repo, etc: buildTree({}) }, c, { repo, etc }, out).added).toEqual([
        "stays",
      ]);
      expect(readBack(out)).toEqual({ stays: "1", x: "1" });
    });
  });
});

describe("any three directories", () => {
  const paths = ["a", "a/x", "a/y", "b", "b/x", "b/x/z"];
  const choices = [null, "1", "22", "1 @600", "-> t", "/", "/@750"] as const;
  const flatTree = fc
    .array(fc.constantFrom(...choices), { minLength: paths.length, maxLength: paths.length })
    .map((picks): FlatTree => {
      const flat: Record<string, string> = {};
      for (const [index, path] of paths.entries()) {
        const up = path.split("/").slice(0, -1).join("/");
        const pick = picks[index] ?? null;
        if (pick === null || (up !== "" && flat[`${up}/`] === undefined)) continue;
        flat[pick.startsWith("/") ? `${path}/` : path] = pick.replace("/", "");
      }
      return flat;
    });

  test("the disk shows what the plan says", () => {
    fc.assert(
      fc.property(flatTree, flatTree, flatTree, (pristine, current, next) => {
        const plan = planEtcMerge(buildTree(pristine), buildTree(current), buildTree(next));
        const { p, c, n, out } = makeDirectories(pristine, current, next);
        expect(diffEtc(p, c, n)).toEqual(plan.diff);
        if (plan.diff.conflicts.length > 0) return;
        mergeEtc(p, c, n, out);
        expect(readBack(out)).toEqual(flatten(plan.root));
      }),
      { numRuns: 60 },
    );
  }, 60_000);
});
