// /etc as administrators have it: immutable files, files that are written to or replaced while they are
// read, strange names, a full disk, large files, an /etc on an overlay. Needs root.

import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { MNT, MS } from "../../shared/sys/constants.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import { removeFrozenTree } from "../../shared/sys/frozen-tree.ts";
import { mount, umount2, unshareMounts } from "../../shared/sys/mount.ts";
import { lgetxattr, lsetxattr } from "../../shared/sys/xattr.ts";
import { diffEtc, mergeEtc, withEtcTrees } from "../../updater/deploy/etc-merge.ts";
import { applyEtcReset } from "../../updater/deploy/etc-reset.ts";
import { parseEtcPath, planEtcReset } from "../../updater/deploy/etc-reset-plan.ts";
import { makeDirectory, readBack } from "../support/etc-directories.ts";
import { buildTree, type FlatTree } from "../support/etc-trees.ts";

const copying = vi.hoisted(() => ({ after: (_: number) => {}, count: 0 }));

vi.mock("../../shared/sys/copy.ts", async (load) => {
  const real = await load<typeof import("../../shared/sys/copy.ts")>();
  return {
    ...real,
    copyFileContents: (...files: Parameters<typeof real.copyFileContents>) => {
      const result = real.copyFileContents(...files);
      copying.after(++copying.count);
      return result;
    },
  };
});

const scratch = mkdtempSync(join(tmpdir(), "etc-edges-"));
const disk = join(scratch, "disk");
let root: string;
let number = 0;

beforeAll(() => {
  unshareMounts();
  mkdirSync(disk);
  mount("tmpfs", disk, "tmpfs", 0, "size=64m");
});
afterAll(() => {
  umount2(disk, MNT.DETACH);
  rmSync(scratch, { recursive: true });
});
beforeEach(() => {
  Object.assign(copying, { after: () => {}, count: 0 });
  root = join(disk, String(number++));
  mkdirSync(root);
});
const at = (name: string) => join(root, name);

function make(pristine: FlatTree, current: FlatTree, next: FlatTree): [string, string, string] {
  makeDirectory(at("p"), pristine);
  makeDirectory(at("c"), current);
  makeDirectory(at("n"), next);
  return [at("p"), at("c"), at("n")];
}
const chattr = (flag: string, path: string) => execFileSync("chattr", [flag, path]);

describe("merging", () => {
  test("immutable and append-only files are carried along, without their flags", () => {
    const sides = make({ f: "1" }, { f: "local", "d/log": "x" }, { f: "2" });
    chattr("+i", at("c/f"));
    chattr("+a", at("c/d/log"));
    chattr("+i", at("c/d"));
    try {
      mergeEtc(...sides, at("out"));
      expect(readBack(at("out"))).toEqual({ f: "local", "d/": "", "d/log": "x" });
      mergeEtc(...sides, at("out")); // what is replaced can be removed
      expect(() => removeTree(null, at("c"))).toThrow(/Operation not permitted/);
    } finally {
      removeFrozenTree(null, at("c"));
    }
    expect(existsSync(at("c"))).toBe(false);
  });

  test("a file that is written to while it is copied is copied again", () => {
    const sides = make({}, { log: "first\n" }, {});
    copying.after = (count) => {
      if (count <= 2) appendFileSync(at("c/log"), `line ${count}\n`);
    };
    mergeEtc(...sides, at("out"));
    expect(readFileSync(at("out/log"), "utf8")).toBe("first\nline 1\nline 2\n");
    expect(copying.count).toBe(3);
  });

  test("a file that never rests is taken as it is then", () => {
    const sides = make({}, { log: "" }, {});
    copying.after = () => appendFileSync(at("c/log"), "x");
    mergeEtc(...sides, at("out"));
    expect(copying.count).toBe(5);
    expect(readFileSync(at("out/log"), "utf8")).toBe("xxxx");
  });

  test("a file that gets shorter while it is copied", () => {
    const sides = make({}, { f: "a long text" }, {});
    copying.after = (count) => {
      if (count === 1) writeFileSync(at("c/f"), "s");
    };
    mergeEtc(...sides, at("out"));
    expect(readFileSync(at("out/f"), "utf8")).toBe("s");
  });

  test.each<[string, () => void, Record<string, string>]>([
    ["a FIFO", () => execFileSync("mkfifo", ["-m", "600", at("c/b")]), { b: "| @600" }],
    ["a directory", () => makeDirectory(at("c/b"), { x: "1" }), { "b/": "", "b/x": "1" }],
    ["a symlink", () => execFileSync("ln", ["-s", "a", at("c/b")]), { b: "-> a" }],
    ["nothing", () => {}, {}],
  ])("a file that becomes %s before it is copied", (_, replace, expected) => {
    const sides = make({}, { a: "1", b: "2" }, {});
    copying.after = (count) => {
      if (count !== 1) return;
      unlinkSync(at("c/b"));
      replace();
    };
    mergeEtc(...sides, at("out"));
    expect(readBack(at("out"))).toEqual({ a: "1", ...expected });
  });

  test("an editor's rename between reading and copying leaves the new text", () => {
    const sides = make({}, { a: "1", b: "2" }, {});
    copying.after = (count) => {
      if (count !== 1) return;
      writeFileSync(at("c/b.tmp"), "edited");
      renameSync(at("c/b.tmp"), at("c/b"));
    };
    mergeEtc(...sides, at("out"));
    expect(readBack(at("out"))).toEqual({ a: "1", b: "edited" });
  });

  test("strange names and long ones", () => {
    const long = "n".repeat(255);
    const odd = { "a\nb": "1", " ": "2", "-rf": "3", "\\": "4", "%s": "5", "\x01\x7f": "6" };
    const current = { ...odd, [long]: "7", [`${long}/`.replace("n", "m")]: "", "..x": "8" };
    const sides = make({ "*": "1" }, { ...current, "*": "local" }, { "*": "2" });
    expect(mergeEtc(...sides, at("out")).added).toHaveLength(9);
    expect(readBack(at("out"))).toEqual({ ...current, "*": "local" });
  });

  test("deep directories, and too deep ones", () => {
    const deep = (levels: number) => `${"d/".repeat(levels)}f`;
    const sides = make({}, { [deep(200)]: "x" }, {});
    mergeEtc(...sides, at("out"));
    expect(readBack(at("out"))[deep(200)]).toBe("x");
    makeDirectory(at("deeper"), { [deep(300)]: "x" });
    expect(() => mergeEtc(at("p"), at("deeper"), at("n"), at("out2"))).toThrow(/256 levels/);
    expect(existsSync(at("out2"))).toBe(false);
  });

  test("hard links whose first name has a path longer than a path can be", () => {
    const sides = make({}, {}, {});
    const down = `for _ in $(seq 20); do mkdir ${"d".repeat(250)}; cd ${"d".repeat(250)}; done`;
    const up = "for _ in $(seq 20); do cd -P ..; ln d*/[ae] e; done";
    const script = `${down}; echo x >a; ${up}`;
    execFileSync("bash", ["-euc", script], { cwd: at("c") });
    mergeEtc(...sides, at("out"));
    const list = ["-printf", "%f %y %m %n %s\\n"];
    const found = (side: string) => execFileSync("find", [".", ...list], { cwd: at(side) });
    expect(found("out").toString()).toContain("e f 644 21 2\n");
    expect(found("out").toString()).toBe(found("c").toString());
  });

  test("a disk that fills up halfway leaves nothing and says so", () => {
    const sides = make({}, { a: "1" }, { n: "1" });
    writeFileSync(at("c/large"), Buffer.alloc(12 << 20, "x"));
    mkdirSync(at("small"));
    mount("tmpfs", at("small"), "tmpfs", 0, "size=8m");
    try {
      expect(() => mergeEtc(...sides, at("small/out"))).toThrow(
        expect.objectContaining({ kind: "state", code: "no-space" }),
      );
      expect(readdirSync(at("small"))).toEqual([]);
      unlinkSync(at("c/large"));
      mergeEtc(...sides, at("small/out"));
      expect(readBack(at("small/out"))).toEqual({ a: "1", n: "1" });
    } finally {
      umount2(at("small"), MNT.DETACH);
    }
  });

  test("a disk without inodes", () => {
    const many = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, "x"]));
    const sides = make({}, many, {});
    mkdirSync(at("small"));
    mount("tmpfs", at("small"), "tmpfs", 0, "nr_inodes=30");
    try {
      expect(() => mergeEtc(...sides, at("small/out"))).toThrow(/No space left/);
      expect(readdirSync(at("small"))).toEqual([]);
    } finally {
      umount2(at("small"), MNT.DETACH);
    }
  });

  test("a large file with holes", () => {
    const sides = make({}, {}, {});
    execFileSync("truncate", ["-s", "300M", at("c/sparse")]);
    writeFileSync(at("c/sparse"), "tail", { flag: "r+" });
    const size = 300 << 20;
    mkdirSync(at("big"));
    mount("tmpfs", at("big"), "tmpfs", 0, "size=400m");
    try {
      mergeEtc(...sides, at("big/out"));
      expect(statSync(at("big/out/sparse")).size).toBe(size);
      expect(readFileSync(at("big/out/sparse")).subarray(0, 4).toString()).toBe("tail");
    } finally {
      umount2(at("big"), MNT.DETACH);
    }
  });

  test("an /etc on an overlay: whiteouts and copied-up directories are what they stand for", () => {
    const [p] = make(
      { f: "1", gone: "1", "d/a": "1", "d/b": "1" },
      {},
      { f: "2", gone: "2", "d/a": "2" },
    );
    for (const name of ["upper", "work", "live"]) mkdirSync(at(name));
    const options = `lowerdir=${p},upperdir=${at("upper")},workdir=${at("work")}`;
    mount("overlay", at("live"), "overlay", 0, options);
    try {
      unlinkSync(at("live/gone"));
      rmSync(at("live/d"), { recursive: true });
      makeDirectory(at("live/d"), { mine: "m" });
      writeFileSync(at("live/f"), "local");
      const diff = mergeEtc(p, at("live"), at("n"), at("out"));
      expect(diff).toMatchObject({
        added: ["d/mine"],
        modified: ["f"],
        removed: ["d/a", "d/b", "gone"],
      });
      expect(readBack(at("out"))).toEqual({ f: "local", "d/": "", "d/mine": "m" });
    } finally {
      umount2(at("live"), MNT.DETACH);
    }
  });

  test("for an image whose /etc is an overlay: the same through the overlay, the next update as well", () => {
    const next = { f: "2", gone: "2", "d/a": "2", "d/b": "2", t: "2", "old/x": "2" };
    const sides = make(
      { f: "1", gone: "1", "d/a": "1", "d/b": "1", t: "1", "old/x": "1" },
      { f: "local @600:5:6", "d/a": "1", "d/mine": "m", "t/in": "i", l: "-> f", "old/": "@700" },
      next,
    );
    mergeEtc(...sides, at("plain"));
    mergeEtc(...sides, at("out"), { forOverlay: true });
    for (const name of ["out/work", "live"]) mkdirSync(at(name));
    const options = `lowerdir=${at("n")},upperdir=${at("out/upper")},workdir=${at("out/work")}`;
    mount("overlay", at("live"), "overlay", 0, options);
    try {
      expect(readBack(at("live"))).toEqual(readBack(at("plain")));
      expect(lstatSync(at("live/f")).nlink).toBe(1);
      // What the overlay shows is what the next merge starts from.
      makeDirectory(at("third"), { ...next, f: "3", t: "3" });
      expect(mergeEtc(at("n"), at("live"), at("third"), at("out3"))).toEqual(
        diffEtc(at("n"), at("plain"), at("third")),
      );
    } finally {
      umount2(at("live"), MNT.DETACH);
    }
  });
});

describe("resetting", () => {
  function withRepository(work: (repo: Repository) => void): void {
    const config = { algorithm: "sha512", secure: false } as const;
    using repo = ensureRepository(null, at("repo"), config);
    work(repo);
  }

  /** Resets in the directory `etc` to the image with these files. */
  function reset(
    etc: string,
    image: FlatTree,
    paths: readonly string[],
    removeAdded = false,
  ): void {
    withRepository((repo) => {
      const tree = buildTree(image);
      const steps = withEtcTrees([{ repo, etc: tree }, etc, { repo, etc: tree }], (ours, theirs) =>
        planEtcReset(ours, theirs, paths.map(parseEtcPath), { removeAdded }),
      );
      applyEtcReset(etc, repo, steps);
    });
  }

  test("files, attributes, links, directories and what was added", () => {
    const image = {
      a: "1 @640:5:6",
      "d/": "@750:7:8",
      "d/l": "-> x",
      "d/p": "|",
      "e/f": "1",
      g: "1",
    };
    makeDirectory(at("etc"), {
      a: "2",
      "d/": "",
      "d/l": "no link",
      "d/mine": "m",
      e: "file",
      z: "z",
    });
    lsetxattr(at("etc/d"), "user.x", Buffer.from("y"));
    chmodXattr(at("etc/a"));
    reset(at("etc"), image, ["/etc/a", "/etc/d", "/etc/e", "/etc/g"]);
    const kept = { ...image, "d/mine": "m", "e/": "", z: "z" };
    expect(readBack(at("etc"))).toEqual(kept);
    expect(lgetxattr(at("etc/d"), "user.x")).toBe(null);
    expect(lgetxattr(at("etc/a"), "user.local")).toBe(null);
    reset(at("etc"), image, ["/etc/d", "/etc/z"], true);
    expect(readBack(at("etc"))).toEqual({ ...image, "e/": "" });
  });

  function chmodXattr(path: string): void {
    lsetxattr(path, "user.local", Buffer.from("1"));
  }

  test("labels are the image's, and stay where the image has none", () => {
    const label = "security.selinux";
    const labels: Readonly<Record<string, string>> = { f: "etc_t\0", d: "dir_t\0" };
    const tree = buildTree({ f: "1", "d/": "@700", g: "1" });
    for (const [name, value] of Object.entries(labels)) {
      tree.entries.get(name)!.xattrs = new Map([[label, Buffer.from(value)]]);
    }
    makeDirectory(at("etc"), { f: "local", "d/": "", g: "1" });
    for (const name of ["f", "d", "g"])
      lsetxattr(at(`etc/${name}`), label, Buffer.from("user_t\0"));
    withRepository((repo) => {
      const sides = [{ repo, etc: tree }, at("etc"), { repo, etc: tree }] as const;
      const steps = withEtcTrees(sides, (ours, theirs) =>
        planEtcReset(ours, theirs, ["f", "d", "g"], { removeAdded: false }),
      );
      expect(steps.map(({ kind, path }) => `${kind} ${path}`)).toEqual(["attributes d", "write f"]);
      applyEtcReset(at("etc"), repo, steps);
    });
    const now = ["f", "d", "g"].map((name) => Buffer.from(lgetxattr(at(`etc/${name}`), label)!));
    expect(now.map(String)).toEqual(["etc_t\0", "dir_t\0", "user_t\0"]);
  });

  test("an immutable file is refused with the way out, and stays", () => {
    makeDirectory(at("etc"), { f: "local", g: "local" });
    chattr("+i", at("etc/f"));
    try {
      expect(() => reset(at("etc"), { f: "1", g: "1" }, ["/etc/f"])).toThrow(
        /"\/etc\/f".*chattr -i/,
      );
      expect(readBack(at("etc"))).toEqual({ f: "local", g: "local" });
    } finally {
      chattr("-i", at("etc/f"));
    }
  });

  test("what is mounted over a path is left alone", () => {
    makeDirectory(at("state"), { "resolv.conf": "local", "d/f": "local" });
    writeFileSync(at("other"), "mounted");
    mkdirSync(at("etc"));
    mount(at("state"), at("etc"), null, MS.BIND, null);
    mount(at("other"), at("etc/resolv.conf"), null, MS.BIND, null);
    try {
      const image = { "resolv.conf": "1", "d/f": "1" };
      expect(() => reset(at("etc"), image, ["/etc/resolv.conf"])).toThrow(
        /something is mounted there/,
      );
      reset(at("etc"), image, ["/etc/d"]);
      expect(readFileSync(at("etc/d/f"), "utf8")).toBe("1");
      expect(readFileSync(at("etc/resolv.conf"), "utf8")).toBe("mounted");
      expect(readdirSync(at("etc")).sort()).toEqual(["d", "resolv.conf"]);
    } finally {
      umount2(at("etc/resolv.conf"), MNT.DETACH);
      umount2(at("etc"), MNT.DETACH);
    }
  });

  test("on an overlay, directories of the image included", () => {
    const image = { f: "1", "d/a": "1", "d/b": "1", gone: "1" };
    makeDirectory(at("lower"), image);
    for (const name of ["upper", "work", "live"]) mkdirSync(at(name));
    const options = `lowerdir=${at("lower")},upperdir=${at("upper")},workdir=${at("work")}`;
    mount("overlay", at("live"), "overlay", 0, options);
    try {
      writeFileSync(at("live/f"), "local");
      unlinkSync(at("live/gone"));
      rmSync(at("live/d"), { recursive: true });
      writeFileSync(at("live/d"), "a file");
      reset(at("live"), image, ["/etc/f", "/etc/gone", "/etc/d"]);
      expect(readBack(at("live"))).toEqual({ ...image, "d/": "" });
      // And the other way: a directory that is the lower layer's gives way to a file.
      reset(at("live"), { d: "now a file" }, ["/etc/d"]);
      expect(readFileSync(at("live/d"), "utf8")).toBe("now a file");
    } finally {
      umount2(at("live"), MNT.DETACH);
    }
  });

  test("a read-only /etc says so", () => {
    makeDirectory(at("state"), { f: "local" });
    mkdirSync(at("etc"));
    mount(at("state"), at("etc"), null, MS.BIND, null);
    mount(null, at("etc"), null, MS.BIND | MS.REMOUNT | MS.RDONLY, null);
    try {
      expect(() => reset(at("etc"), { f: "1" }, ["/etc/f"])).toThrow(/\/etc is read-only/);
    } finally {
      umount2(at("etc"), MNT.DETACH);
    }
  });

  test("leaves times, hard links and modes as the image has them", () => {
    makeDirectory(at("etc"), { f: "local" });
    reset(at("etc"), { f: "1 @4755" }, ["/etc/f"]);
    const stat = lstatSync(at("etc/f"));
    expect([stat.mtimeMs, stat.mode & 0o7777, stat.nlink]).toEqual([0, 0o4755, 1]);
    withRepository((repo) => {
      const image = { repo, etc: buildTree({ f: "1 @4755" }) };
      expect(diffEtc(image, at("etc"), image).modified).toEqual([]);
    });
  });
});
