// Every wrapper's good and failing case, on real files in a scratch directory.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SyscallError } from "../error.ts";
import { fchmod, fchmodat, fchownat, utimensat } from "./attributes.ts";
import { O, RENAME } from "./constants.ts";
import {
  mkdirat,
  mkdiratIfMissing,
  openDirectory,
  readDirectory,
  removeTree,
  rmdirat,
} from "./directory.ts";
import { Fd } from "./fd.ts";
import {
  flock,
  fsync,
  ftruncate,
  openat,
  openatIfExists,
  openRegularFile,
  pread,
  read,
  readAll,
  reopenReadOnly,
  syncfs,
  writeAll,
} from "./file.ts";
import {
  linkat,
  linkFd,
  linkFdIfFree,
  mknodat,
  readlinkat,
  renameat2,
  symlinkat,
  unlinkat,
  unlinkatIfExists,
} from "./link.ts";
import { fstat, fstatat, fstatatIfExists, fstatfs } from "./stat.ts";
import { enableVerity, measureVerity } from "./verity.ts";
import { fgetxattr, flistxattr, lgetxattr, llistxattr, lsetxattr } from "./xattr.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: not root)";
const base = mkdtempSync(join(tmpdir(), "sys-"));
let root = "";
let dir: Fd;

beforeAll(() => process.umask(0o022));
beforeEach(() => {
  root = mkdtempSync(join(base, "case-"));
  dir = openDirectory(null, root);
  return () => dir.close();
});
afterAll(() => removeTree(null, base));

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const bytes = (value: string) => new Uint8Array(Buffer.from(value));
const put = (name: string, content = "") => writeFileSync(join(root, name), content);
/** Code and message of what `action` throws. */
function refusal(action: () => unknown): [string, string] {
  try {
    action();
  } catch (error) {
    if (error instanceof SyscallError) return [error.code, error.message.replaceAll(root, "ROOT")];
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("Fd", () => {
  it("closes once, and is useless afterwards", () => {
    const fd = openat(dir, ".", O.RDONLY);
    const copy = new Fd(fd.number);
    fd.close();
    fd.close();
    expect(() => fd.number).toThrow("used after it was closed");
    expect(refusal(() => read(copy, new Uint8Array(1)))[0]).toBe("EBADF");
    copy.release();
  });

  it("gives its number away", () => {
    const number = openat(dir, ".", O.RDONLY).release();
    using owner = new Fd(number);
    expect(fstat(owner).ino).toBe(fstat(dir).ino);
  });
});

describe("opening, reading, writing", () => {
  it("creates, writes and reads back", () => {
    using fd = openat(dir, "a", O.RDWR | O.CREAT | O.EXCL, 0o640);
    writeAll(fd, bytes("hello world"));
    const part = new Uint8Array(5);
    expect([pread(fd, part, 6), text(part)]).toEqual([5, "world"]);
    expect(pread(fd, part, 100)).toBe(0);
    using again = reopenReadOnly(fd);
    expect(text(readAll(again, 100))).toBe("hello world");
    expect(read(again, part)).toBe(0);
    expect(refusal(() => writeAll(again, part))[0]).toBe("EBADF");
    expect(fstat(fd).mode).toBe(0o100640);
  });

  it("opens regular files only, and does not touch what else there is", () => {
    writeFileSync(join(root, "f"), "content");
    symlinkSync("f", join(root, "l"));
    // Opening it would fail, so what is seen is that it is not tried.
    mknodat(dir, "s", 0o140600, 0);
    expect(refusal(() => openat(dir, "s", O.RDONLY))[0]).toBe("ENXIO");
    execFileSync("mkfifo", [join(root, "p")]);
    for (const name of ["s", "p", "."]) expect(openRegularFile(dir, name)).toBeNull();
    expect(openRegularFile(dir, "l", O.NOFOLLOW)).toBeNull();
    for (const name of ["f", "l"]) {
      using fd = openRegularFile(dir, name)!;
      expect(text(readAll(fd, 100))).toBe("content");
    }
    expect(refusal(() => openRegularFile(dir, "none"))[0]).toBe("ENOENT");
  });

  it("marks every descriptor close-on-exec", () => {
    using fd = openat(dir, ".", O.RDONLY);
    expect(readFileSync(`/proc/self/fdinfo/${fd.number}`, "utf8")).toMatch(/^flags:\s+02\d{6}$/m);
  });

  it.each([
    ["missing", O.RDONLY, "ENOENT", 'openat "ROOT/missing": No such file or directory'],
    ["file/x", O.RDONLY, "ENOTDIR", 'openat "ROOT/file/x": Not a directory'],
    ["file", O.WRONLY | O.CREAT | O.EXCL, "EEXIST", 'openat "ROOT/file": File exists'],
    [
      "link",
      O.RDONLY | O.NOFOLLOW,
      "ELOOP",
      'openat "ROOT/link": Too many levels of symbolic links',
    ],
    ["a\0b", O.RDONLY, "EINVAL", 'path "a\0b": Invalid argument (it contains a NUL byte)'],
    ["file", O.RDONLY | O.DIRECTORY, "ENOTDIR", 'openat "ROOT/file": Not a directory'],
    [
      "x".repeat(300),
      O.RDONLY,
      "ENAMETOOLONG",
      `openat "ROOT/${"x".repeat(300)}": File name too long`,
    ],
  ])("openat refuses %j", (name, flags, code, message) => {
    put("file");
    symlinkSync("file", join(root, "link"));
    expect(refusal(() => openat(dir, name, flags))).toEqual([code, message]);
  });

  it("openatIfExists tells a missing name from other trouble", () => {
    put("file");
    expect(openatIfExists(dir, "missing", O.RDONLY)).toBeNull();
    expect(refusal(() => openatIfExists(dir, "file/x", O.RDONLY))[0]).toBe("ENOTDIR");
    using fd = openatIfExists(dir, "file", O.RDONLY);
    expect(fd).not.toBeNull();
  });

  it("takes names that are not UTF-8", () => {
    const name = new Uint8Array([0xff, 0x61]);
    openat(dir, name, O.WRONLY | O.CREAT, 0o644).close();
    expect(readDirectory(dir).map((entry) => [...entry.name])).toEqual([[0xff, 0x61]]);
    expect(refusal(() => openat(dir, new Uint8Array([0xff, 0]), 0))[0]).toBe("EINVAL");
  });

  it("readAll keeps the limit, also where the size is not known before", () => {
    put("big", "x".repeat(10_000));
    using exact = openat(dir, "big", O.RDONLY);
    expect(readAll(exact, 10_000).length).toBe(10_000);
    using over = openat(dir, "big", O.RDONLY);
    expect(() => readAll(over, 9_999)).toThrow("is larger than 9999 bytes");
    using proc = openat(null, "/proc/self/maps", O.RDONLY); // its size says 0
    expect(readAll(proc, 1 << 24).length).toBeGreaterThan(4096);
    using endless = openat(null, "/dev/zero", O.RDONLY);
    expect(() => readAll(endless, 100_000)).toThrow("is larger than 100000 bytes");
  });

  it("syncs and truncates", () => {
    using fd = openat(dir, "a", O.RDWR | O.CREAT, 0o644);
    ftruncate(fd, 70_000);
    expect(fstat(fd).sizeBytes).toBe(70_000);
    fsync(fd);
    fsync(dir);
    syncfs(fd);
    expect(refusal(() => ftruncate(fd, -1))[0]).toBe("EINVAL");
    using path = openat(dir, "a", O.PATH);
    expect(refusal(() => fsync(path))[0]).toBe("EBADF");
    expect(refusal(() => syncfs(path))[0]).toBe("EBADF");
  });

  it("reports a full device", () => {
    using full = openat(null, "/dev/full", O.WRONLY);
    expect(refusal(() => writeAll(full, bytes("x")))).toEqual([
      "ENOSPC",
      'write "/dev/full": No space left on device',
    ]);
  });
});

describe("flock", () => {
  it("shares and excludes between descriptions", () => {
    put("lock");
    using one = openat(dir, "lock", O.RDONLY);
    using two = openat(dir, "lock", O.RDONLY);
    expect(flock(one, "shared", { wait: false })).toBe(true);
    expect(flock(two, "shared", { wait: false })).toBe(true);
    expect(flock(two, "exclusive", { wait: false })).toBe(false);
    flock(one, "unlock", { wait: false });
    expect(flock(two, "exclusive", { wait: false })).toBe(true);
    using path = openat(dir, "lock", O.PATH);
    expect(refusal(() => flock(path, "shared", { wait: true }))[0]).toBe("EBADF");
  });

  it("waits for another process", async () => {
    put("lock");
    execFileSync("mkfifo", [join(root, "go")]);
    const script = `echo locked; read line < ${join(root, "go")}`;
    const child = spawn("flock", [join(root, "lock"), "sh", "-c", script]);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    using fd = openat(dir, "lock", O.RDONLY);
    expect(flock(fd, "exclusive", { wait: false })).toBe(false);
    writeFileSync(join(root, "go"), "\n");
    expect(flock(fd, "exclusive", { wait: true })).toBe(true);
  });
});

describe("status", () => {
  it("follows a symlink only when asked", () => {
    put("file", "12345");
    symlinkSync("file", join(root, "link"));
    expect(fstatat(dir, "link").mode & 0o170000).toBe(0o120000);
    expect(fstatat(dir, "link", { follow: true })).toMatchObject({ mode: 0o100644, sizeBytes: 5 });
    expect(refusal(() => fstatat(dir, "none"))[0]).toBe("ENOENT");
    expect(fstatatIfExists(dir, "none")).toBeNull();
    expect(fstatatIfExists(dir, "file/x")).toBeNull();
    expect(fstatatIfExists(dir, "file")?.sizeBytes).toBe(5);
    expect(refusal(() => fstatatIfExists(dir, "x".repeat(300)))[0]).toBe("ENAMETOOLONG");
  });

  it("knows mount points, devices and file systems", () => {
    expect(fstatat(null, "/proc").isMountRoot).toBe(true);
    expect(fstatat(null, root).isMountRoot).toBe(false);
    expect(fstatat(null, "/dev/null")).toMatchObject({ rdev: 0x103, mode: 0o20666 });
    using proc = openat(null, "/proc", O.PATH);
    expect(fstatfs(proc).type).toBe(0x9fa0);
    const here = fstatfs(dir);
    expect(here.blocks).toBeGreaterThan(here.blocksAvailable);
    expect(here.readOnly).toBe(false);
  });
});

describe("directories", () => {
  it("makes and removes", () => {
    mkdirat(dir, "d", 0o700);
    expect(fstatat(dir, "d").mode).toBe(0o40700);
    expect(refusal(() => mkdirat(dir, "d", 0o700))[0]).toBe("EEXIST");
    expect([mkdiratIfMissing(dir, "d", 0o755), mkdiratIfMissing(dir, "e", 0o755)]).toEqual([
      false,
      true,
    ]);
    expect(refusal(() => mkdiratIfMissing(dir, "no/d", 0o755))[0]).toBe("ENOENT");
    put("d/x");
    expect(refusal(() => rmdirat(dir, "d"))).toEqual([
      "ENOTEMPTY",
      'rmdir "ROOT/d": Directory not empty',
    ]);
    unlinkat(dir, "d/x");
    rmdirat(dir, "d");
    expect(fstatatIfExists(dir, "d")).toBeNull();
  });

  it("lists many entries with their types, from the start each time", () => {
    for (let i = 0; i < 3000; i++) put(`file-with-a-rather-long-name-${i}`);
    mkdirat(dir, "...", 0o755);
    symlinkSync("x", join(root, "link"));
    execFileSync("mkfifo", [join(root, "fifo")]);
    const entries = readDirectory(dir);
    expect(readDirectory(dir).length).toBe(3003);
    const types = new Map(entries.map((entry) => [text(entry.name), entry.type]));
    expect(types.size).toBe(3003);
    expect(
      ["...", "link", "fifo", "file-with-a-rather-long-name-7"].map((n) => types.get(n)),
    ).toEqual(["directory", "symlink", "fifo", "file"]);
    put("file");
    using file = openat(dir, "file", O.RDONLY);
    expect(refusal(() => readDirectory(file))[0]).toBe("ENOTDIR");
  });

  it("removeTree removes everything below and nothing behind links", () => {
    mkdirat(dir, "keep", 0o755);
    put("keep/file");
    mkdirat(dir, "tree", 0o755);
    mkdirat(dir, "tree/sub", 0o500);
    put("tree/file");
    symlinkSync("../keep", join(root, "tree/link"));
    symlinkSync("keep", join(root, "top"));
    removeTree(dir, "tree");
    removeTree(dir, "top");
    removeTree(dir, "never-there");
    removeTree(dir, "keep/file");
    expect(readDirectory(dir).map((entry) => text(entry.name))).toEqual(["keep"]);
    put("plain");
    expect(refusal(() => removeTree(dir, "plain/x"))[0]).toBe("ENOTDIR");
  });
});

describe("names", () => {
  it("links, also files without a name", () => {
    put("a", "A");
    linkat(dir, "a", dir, "b");
    expect(fstatat(dir, "b").nlink).toBe(2);
    expect(refusal(() => linkat(dir, "none", dir, "c"))).toEqual([
      "ENOENT",
      'linkat "ROOT/none": No such file or directory (to "ROOT/c")',
    ]);
    using fd = openat(dir, ".", O.TMPFILE | O.WRONLY, 0o644);
    linkFd(fd, dir, "named");
    expect(refusal(() => linkFd(fd, dir, "a"))[0]).toBe("EEXIST");
    expect([linkFdIfFree(fd, dir, "a"), linkFdIfFree(fd, dir, "third")]).toEqual([false, true]);
    expect(refusal(() => linkFdIfFree(fd, dir, "no/x"))[0]).toBe("ENOENT");
  });

  it("renames, keeps and exchanges", () => {
    put("a", "A");
    put("b", "B");
    expect(refusal(() => renameat2(dir, "a", dir, "b", RENAME.NOREPLACE))[0]).toBe("EEXIST");
    renameat2(dir, "a", dir, "b", RENAME.EXCHANGE);
    expect(readFileSync(join(root, "a"), "utf8")).toBe("B");
    renameat2(dir, "a", dir, "b");
    expect(readFileSync(join(root, "b"), "utf8")).toBe("B");
    expect(refusal(() => renameat2(dir, "a", dir, "b", RENAME.EXCHANGE))).toEqual([
      "ENOENT",
      'rename (exchange) "ROOT/a": No such file or directory (to "ROOT/b")',
    ]);
  });

  it("makes and reads symlinks", () => {
    symlinkat(new Uint8Array([0x2f, 0xfe]), dir, "link");
    expect([...readlinkat(dir, "link")]).toEqual([0x2f, 0xfe]);
    expect(refusal(() => symlinkat("x", dir, "link"))[0]).toBe("EEXIST");
    put("file");
    expect(refusal(() => readlinkat(dir, "file"))[0]).toBe("EINVAL");
  });

  it("unlinks", () => {
    put("a");
    expect([unlinkatIfExists(dir, "a"), unlinkatIfExists(dir, "a")]).toEqual([true, false]);
    expect(refusal(() => unlinkat(dir, "a"))[0]).toBe("ENOENT");
    mkdirat(dir, "d", 0o755);
    expect(refusal(() => unlinkatIfExists(dir, "d"))[0]).toBe("EISDIR");
  });

  it.skipIf(notRoot !== "")(`makes devices${notRoot}`, () => {
    mknodat(dir, "whiteout", 0o020000, 0);
    mknodat(dir, "null", 0o020666, 0x103);
    mknodat(dir, "far", 0o060600, 0xabc123de);
    mknodat(dir, "fifo", 0o010600, 0);
    const found = ["whiteout", "null", "far", "fifo"].map((name) => fstatat(dir, name));
    expect(found.map((stat) => [stat.mode & 0o170000, stat.rdev])).toEqual([
      [0o020000, 0],
      [0o020000, 0x103],
      [0o060000, 0xabc123de],
      [0o010000, 0],
    ]);
    expect(refusal(() => mknodat(dir, "fifo", 0o010600, 0))[0]).toBe("EEXIST");
  });
});

describe("attributes", () => {
  it("sets modes exactly, without following", () => {
    put("file");
    using fd = openat(dir, "file", O.RDONLY);
    fchmod(fd, 0o666);
    expect(fstat(fd).mode).toBe(0o100666);
    fchmodat(dir, "file", 0o4711);
    expect(fstat(fd).mode).toBe(0o104711);
    symlinkSync("file", join(root, "link"));
    expect(refusal(() => fchmodat(dir, "link", 0o600))[0]).toBe("EOPNOTSUPP");
    expect(refusal(() => fchmodat(dir, "none", 0o600))[0]).toBe("ENOENT");
    using path = openat(dir, "file", O.PATH);
    expect(refusal(() => fchmod(path, 0o600))[0]).toBe("EBADF");
  });

  it("sets times before and after the epoch", () => {
    put("file");
    symlinkSync("file", join(root, "link"));
    utimensat(dir, "link", -2, 5);
    utimensat(dir, "file", 4_000_000_000, 999_999_999);
    expect(fstatat(dir, "link")).toMatchObject({ mtimeSec: -2, mtimeNsec: 5 });
    expect(fstatat(dir, "file")).toMatchObject({ mtimeSec: 4_000_000_000, mtimeNsec: 999_999_999 });
    expect(refusal(() => utimensat(dir, "none", 0, 0))[0]).toBe("ENOENT");
  });

  it.skipIf(notRoot !== "")(`sets owners, of symlinks too${notRoot}`, () => {
    put("file");
    symlinkSync("file", join(root, "link"));
    fchownat(dir, "link", 12, 34);
    expect(fstatat(dir, "link")).toMatchObject({ uid: 12, gid: 34 });
    expect(fstatat(dir, "file")).toMatchObject({ uid: 0, gid: 0 });
    expect(refusal(() => fchownat(dir, "none", 0, 0))[0]).toBe("ENOENT");
  });
});

describe("extended attributes", () => {
  it("sets, lists and reads", () => {
    put("file");
    const path = join(root, "file");
    lsetxattr(path, "user.text", bytes("value"));
    lsetxattr(path, "user.empty", new Uint8Array(0));
    lsetxattr(path, "user.\xff", bytes("name that is not UTF-8"));
    expect(
      llistxattr(path)
        .filter((name) => name.startsWith("user."))
        .sort(),
    ).toEqual(["user.empty", "user.text", "user.\xff"]);
    expect(text(lgetxattr(path, "user.text")!)).toBe("value");
    expect(lgetxattr(path, "user.empty")).toEqual(new Uint8Array(0));
    expect(lgetxattr(path, "user.none")).toBeNull();
    expect(refusal(() => lsetxattr(path, "nonsense", bytes("x")))[0]).toBe("EOPNOTSUPP");
    expect(refusal(() => lgetxattr(join(root, "none"), "user.x"))[0]).toBe("ENOENT");
    expect(refusal(() => llistxattr(join(root, "none")))[0]).toBe("ENOENT");
  });

  it("are read of open files and directories", () => {
    const path = join(root, "f");
    writeFileSync(path, "");
    using file = openat(null, path, O.RDONLY);
    expect(flistxattr(file).filter((name) => name.startsWith("user."))).toEqual([]);
    lsetxattr(path, "user.text", bytes("value"));
    expect(flistxattr(file)).toContain("user.text");
    expect(text(fgetxattr(file, "user.text")!)).toBe("value");
    expect(fgetxattr(file, "user.none")).toBeNull();
    lsetxattr(root, "user.of-directory", bytes("d"));
    expect(text(fgetxattr(dir, "user.of-directory")!)).toBe("d");
    using pathOnly = openat(null, path, O.PATH);
    expect(refusal(() => flistxattr(pathOnly))).toEqual([
      "EBADF",
      'flistxattr "ROOT/f": Bad file descriptor',
    ]);
  });

  it.skipIf(notRoot !== "")(`reaches trusted.* and symlinks${notRoot}`, () => {
    symlinkSync("nowhere", join(root, "link"));
    lsetxattr(join(root, "link"), "trusted.x", bytes("1"));
    expect(llistxattr(join(root, "link"))).toContain("trusted.x");
    expect(refusal(() => lsetxattr(join(root, "link"), "user.x", bytes("1")))[0]).toBe("EPERM");
  });
});

describe("fs-verity where the file system has none", () => {
  it("says so, and what to do", () => {
    using fd = openat(null, "/proc/self/status", O.RDONLY);
    for (const action of [() => measureVerity(fd), () => enableVerity(fd, "sha256")]) {
      expect(action).toThrow(expect.objectContaining({ kind: "unsupported", code: "no-fsverity" }));
      expect(action).toThrow(/has no fs-verity \(ext4 needs "tune2fs -O verity"/);
    }
  });
});
