// Transactions, atomic files and the lock, on the scratch directory of this machine. A full disk and a
// read-only one are tested in test/integration/sys-mount.test.ts, vfat in a VM.

import { spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openDirectory } from "../sys/directory.ts";
import { writeAll } from "../sys/file.ts";
import { applyTransaction } from "./apply.ts";
import { copyFileAtomic, writeFileAtomic } from "./atomic.ts";
import { acquireLock } from "./lock.ts";
import type { Step } from "./plan.ts";
import { TemporaryFile } from "./temporary-file.ts";

let dir: string;
beforeEach(() => {
  process.umask(0o022);
  dir = mkdtempSync(join(tmpdir(), "txn-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const at = (name: string) => join(dir, name);
const text = (name: string) => readFileSync(at(name), "utf8");
const bytes = (value: string) => new Uint8Array(Buffer.from(value));
const write = (name: string, content: string, mode = 0o640): Step => ({
  kind: "write",
  path: at(name),
  bytes: bytes(content),
  mode,
});
const mkdir = (name: string): Step => ({ kind: "mkdir", path: at(name), mode: 0o755 });
const listing = () => readdirSync(dir, { recursive: true }).map(String).sort();

describe("writeFileAtomic", () => {
  it.each([true, false])("replaces a file and leaves nothing beside it (sync %s)", (sync) => {
    writeFileSync(at("a"), "old");
    const inode = statSync(at("a")).ino;
    writeFileAtomic(null, at("a"), bytes("new"), { mode: 0o666, sync });
    expect([text("a"), statSync(at("a")).mode & 0o7777]).toEqual(["new", 0o666]);
    expect(statSync(at("a")).ino).not.toBe(inode);
    expect(listing()).toEqual(["a"]);
  });

  it("works below an open directory, with long and odd names", () => {
    using fd = openDirectory(null, dir);
    mkdirSync(at("sub"));
    const long = "ü".repeat(127);
    for (const name of ["a", "sub/b", long, " x\n"]) {
      writeFileAtomic(fd, name, bytes(name), { mode: 0o600 });
      writeFileAtomic(fd, name, bytes(name), { mode: 0o600 });
      expect(text(name)).toBe(name);
    }
    expect(listing().length).toBe(5);
  });

  it("replaces a symlink itself, not what it points to", () => {
    writeFileSync(at("target"), "untouched");
    symlinkSync("target", at("link"));
    writeFileAtomic(null, at("link"), bytes("new"), { mode: 0o600 });
    expect([text("link"), text("target")]).toEqual(["new", "untouched"]);
  });

  it("changes nothing when it cannot", () => {
    mkdirSync(at("d"));
    writeFileSync(at("d/kept"), "");
    expect(() => writeFileAtomic(null, at("no/a"), bytes("x"), { mode: 0o600 })).toThrow(
      `openat "${at("no/")}": No such file or directory`,
    );
    expect(() => writeFileAtomic(null, at("d"), bytes("x"), { mode: 0o600 })).toThrow();
    expect(() => copyFileAtomic(at("none"), null, at("b"), { mode: 0o600 })).toThrow(
      "No such file or directory",
    );
    expect(listing()).toEqual(["d", "d/kept"]);
  });

  it("leaves nothing of a copy that failed half-way", () => {
    expect(() => copyFileAtomic("/proc/self/mem", null, at("b"), { mode: 0o600 })).toThrow(
      "Input/output error",
    );
    expect(listing()).toEqual([]);
  });
});

describe("a temporary file with a name (file systems without O_TMPFILE)", () => {
  const options = { parent: ".", prefix: ".a.partial-", mode: 0o644, named: true };

  it("takes a free name, refuses a taken one, replaces when told", () => {
    using fd = openDirectory(null, dir);
    const make = (content: string) => {
      const file = new TemporaryFile(fd, options);
      writeAll(file.fd, bytes(content));
      return file;
    };
    using one = make("1");
    expect(listing()[0]).toMatch(/^\.a\.partial-[0-9a-f]{12}$/);
    expect(one.link("a")).toBe(true);
    using two = make("2");
    expect(two.link("a")).toBe(false);
    expect(text("a")).toBe("1");
    two.replace("a");
    expect([text("a"), listing()]).toEqual(["2", ["a"]]);
  });

  it("is gone when it was not wanted", () => {
    using fd = openDirectory(null, dir);
    {
      using file = new TemporaryFile(fd, options);
      writeAll(file.fd, bytes("x"));
    }
    expect(listing()).toEqual([]);
  });
});

describe("applyTransaction", () => {
  const remove = (name: string): Step => ({ kind: "remove", path: at(name) });

  it("prepares, exchanges and cleans up; doing a step twice is harmless", () => {
    const prepare = [
      mkdir("live"),
      write("live/old", "0"),
      mkdir("staged"),
      write("staged/new", "1"),
      { kind: "copy", from: at("staged/new"), to: at("staged/copy"), mode: 0o600 } as const,
      { kind: "symlink", target: "new", path: at("staged/link") } as const,
      { kind: "sync", path: at("staged") } as const,
      { kind: "sync", path: at("staged/new") } as const,
    ];
    const transaction = {
      prepare: [...prepare, ...prepare],
      commit: { kind: "exchange", a: at("staged"), b: at("live") } as const,
      cleanup: [remove("staged"), remove("staged"), remove("no/such")],
    };
    applyTransaction(transaction);
    expect(listing()).toEqual(["live", "live/copy", "live/link", "live/new"]);
    expect([text("live/copy"), readlinkSync(at("live/link"))]).toEqual(["1", "new"]);
    expect(statSync(at("live/copy")).mode & 0o7777).toBe(0o600);
  });

  it("leaves files alone that are right already, and no others", () => {
    const inode = (name: string) => statSync(at(name)).ino;
    const big = "x".repeat(3 << 20);
    const apply = (content: string, mode: number) => {
      applyTransaction({
        prepare: [write("a", content, mode)],
        commit: { kind: "copy", from: at("a"), to: at("b"), mode },
        cleanup: [],
      });
      return [inode("a"), inode("b")];
    };
    const first = apply(big, 0o644);
    expect(apply(big, 0o644)).toEqual(first);
    const second = apply(`${big.slice(1)}y`, 0o644);
    expect([second[0] !== first[0], second[1] !== first[1]]).toEqual([true, true]);
    const third = apply(`${big.slice(1)}y`, 0o600);
    expect([third[0] !== second[0], third[1] !== second[1]]).toEqual([true, true]);
    expect([text("a") === text("b"), statSync(at("b")).mode & 0o7777]).toEqual([true, 0o600]);
  });

  it("an exchange: first time, again, and with nothing to exchange", () => {
    const commit = { kind: "exchange", a: at("new"), b: at("live") } as const;
    const run = () => applyTransaction({ prepare: [], commit, cleanup: [] });
    expect(run).toThrow("No such file or directory");
    writeFileSync(at("new"), "1");
    run();
    expect([listing(), text("live")]).toEqual([["live"], "1"]);
    run();
    expect([listing(), text("live")]).toEqual([["live"], "1"]);
    writeFileSync(at("new"), "2");
    run();
    expect([text("live"), text("new")]).toEqual(["2", "1"]);
  });

  it("undoes what it prepared when a step fails, and does not commit", () => {
    mkdirSync(at("there"));
    writeFileSync(at("file"), "kept");
    const run = () =>
      applyTransaction({
        prepare: [
          mkdir("there"),
          mkdir("fresh"),
          write("fresh/a", "1"),
          write("there/b", "2"),
          mkdir("file"),
        ],
        commit: write("done", ""),
        cleanup: [],
      });
    expect(run).toThrow(`"${at("file")}" is not a directory`);
    expect(listing()).toEqual(["file", "there"]);
  });

  it("points an existing link elsewhere, and puts it in the place of a file", () => {
    writeFileSync(at("l"), "a file");
    for (const target of ["a", "b", "b"]) {
      applyTransaction({
        prepare: [],
        commit: { kind: "symlink", target, path: at("l") },
        cleanup: [],
      });
      expect(readlinkSync(at("l"))).toBe(target);
    }
    mkdirSync(at("d"));
    expect(() =>
      applyTransaction({
        prepare: [],
        commit: { kind: "symlink", target: "x", path: at("d") },
        cleanup: [],
      }),
    ).toThrow("Is a directory");
    expect(listing()).toEqual(["d", "l"]);
  });
});

describe("acquireLock", () => {
  it("refuses a second holder and names the file", () => {
    const first = acquireLock(at("lock"));
    expect(() => acquireLock(at("lock"))).toThrow(
      `Another bootc is running: it holds the lock "${at("lock")}"; wait until it has finished`,
    );
    first[Symbol.dispose]();
    acquireLock(at("lock"))[Symbol.dispose]();
    expect(() => acquireLock(at("no/lock"))).toThrow("No such file or directory");
  });

  it("is given back when the holder dies", async () => {
    const here = fileURLToPath(new URL(".", import.meta.url));
    const script = `
      const { acquireLock } = await import("${here}lock.ts");
      const lock = acquireLock(${JSON.stringify(at("lock"))});
      console.log("held", lock.path);
      await Bun.stdin.text();
    `;
    const holder = spawn(process.execPath, ["-e", script]);
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    expect(() => acquireLock(at("lock"))).toThrow(expect.objectContaining({ code: "locked" }));
    holder.kill("SIGKILL");
    await new Promise((resolve) => holder.once("exit", resolve));
    acquireLock(at("lock"))[Symbol.dispose]();
  });
});
