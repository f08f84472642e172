// What the collector keeps and removes, with real images and streams.

import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { writeErofs } from "../format/erofs/writer.ts";
import { SplitStreamWriter } from "../format/splitstream/writer.ts";
import { type DirectoryNode, NO_XATTRS } from "../format/tree/node.ts";
import { objectPath } from "../format/verity/digest.ts";
import { collectGarbage } from "./gc.ts";
import { publishImage } from "./images.ts";
import { hasObject } from "./object-inspection.ts";
import { storeObject } from "./objects.ts";
import { listRefs, setRef } from "./refs.ts";
import { ensureRepository, openRepository, type Repository } from "./repository.ts";
import { publishStream, streamObject } from "./streams.ts";

const base = mkdtempSync(join(tmpdir(), "gc-"));
afterAll(() => rmSync(base, { recursive: true }));
let path = "";
let repo: Repository;
beforeEach(() => {
  path = join(mkdtempSync(join(base, "case-")), "composefs");
  repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
  return () => repo[Symbol.dispose]();
});

const METADATA = { uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: NO_XATTRS };
const object = (text: string) => storeObject(repo, new Uint8Array(Buffer.from(text)));

/** An image of files with these objects. */
function image(...digests: string[]): string {
  const root: DirectoryNode = { kind: "directory", mode: 0o40755, ...METADATA, entries: new Map() };
  for (const [index, digest] of digests.entries()) {
    const content = {
      kind: "external",
      sizeBytes: 100,
      digest,
      payload: objectPath(digest),
    } as const;
    root.entries.set(`f${index}`, { kind: "file", mode: 0o100644, nlink: 1, ...METADATA, content });
  }
  return publishImage(repo, writeErofs(root, { version: 1, dialect: "rust" }, "sha512"));
}

/** A stream of these objects with these named references. */
async function stream(
  name: string,
  digests: readonly string[],
  named: Readonly<Record<string, string>> = {},
): Promise<string> {
  using writer = new SplitStreamWriter("sha512", "ocilayer");
  writer.writeInline(Buffer.from(name));
  for (const digest of digests) writer.writeExternal(digest, 100);
  for (const [key, digest] of Object.entries(named)) writer.addNamedRef(key, digest);
  const digest = storeObject(repo, Buffer.concat(await writer.finish()));
  publishStream(repo, name, digest);
  return digest;
}

const collect = (roots: string[] = [], dryRun = false) => collectGarbage(repo, { roots, dryRun });
const alive = (...digests: string[]) => digests.map((digest) => hasObject(repo, digest));

describe("liveness", () => {
  it("keeps what references reach, through manifest, configuration and layers", async () => {
    const [kept, bootFile, dead] = [object("kept"), object("boot"), object("dead")];
    const layer = await stream("oci-layer-sha256:1", [kept]);
    const bootImage = image(kept, bootFile);
    const json = object("config json");
    const config = await stream("oci-config-sha256:2", [json], {
      "sha256:1": layer,
      "composefs.image.boot.v1": bootImage,
    });
    await stream("oci-manifest-sha256:3", [object("manifest json")], { "config:sha256:2": config });
    await stream("oci-layer-sha256:dead", [dead]);
    setRef(repo, "streams", "oci/localhost%2Fbootc", "oci-manifest-sha256:3");

    // The image is named by the configuration: its own object lives, what only it names does not.
    expect(collect()).toMatchObject({ objectsRemoved: 3, imagesPruned: 0, streamsPruned: 1 });
    expect(alive(kept, layer, config, json, bootImage)).toEqual(Array(5).fill(true));
    expect(alive(dead, bootFile)).toEqual([false, false]);
    expect(streamObject(repo, "oci-layer-sha256:dead")).toBeNull();
    expect(listRefs(repo, "streams").length).toBe(1);
    expect(collect()).toEqual({
      objectsRemoved: 0,
      objectsBytes: 0,
      imagesPruned: 0,
      streamsPruned: 0,
    });
  });

  it("keeps the images of deployments with everything in them", () => {
    const [one, two, shared] = [object("one"), object("two"), object("shared")];
    const [first, second, third] = [image(one, shared), image(two, shared), image(shared)];
    setRef(repo, "images", "named/x", third);
    expect(collect([first])).toMatchObject({ objectsRemoved: 2, imagesPruned: 1 });
    expect(alive(first, third, one, shared)).toEqual(Array(4).fill(true));
    expect(alive(second, two)).toEqual([false, false]);
    expect(readdirSync(join(path, "images")).sort()).toEqual([first, third, "refs"].sort());
  });

  it("does not take the first level for a reason to live", async () => {
    const layer = await stream("oci-layer-sha256:1", [object("a")]);
    const lonely = image(object("b"));
    expect(collect()).toMatchObject({ objectsRemoved: 4, imagesPruned: 1, streamsPruned: 1 });
    expect(alive(layer, lonely)).toEqual([false, false]);
  });

  it("keeps a deployment whose images/ link was lost", () => {
    const file = object("file");
    const id = image(file);
    rmSync(join(path, "images", id));
    expect(collect([id])).toMatchObject({ objectsRemoved: 0 });
    expect(alive(id, file)).toEqual([true, true]);
    expect(collect(["never heard of"])).toMatchObject({ objectsRemoved: 2 });
  });

  it("follows streams that refer to each other only once", async () => {
    const one = await stream("one", [object("1")]);
    const two = await stream("two", [], { one });
    await stream("top", [], { one, two });
    expect(collect(["top"])).toMatchObject({ objectsRemoved: 0, streamsPruned: 0 });
  });
});

describe("a dry run", () => {
  it("counts and changes nothing", async () => {
    const content = "x".repeat(1000);
    const dead = object(content);
    const lone = await stream("s", [dead]);
    const id = image(dead);
    const sizes = [dead, lone, id].map(
      (d) => readFileSync(join(path, "objects", objectPath(d))).length,
    );
    const expected = {
      objectsRemoved: 3,
      objectsBytes: sizes.reduce((a, b) => a + b),
      imagesPruned: 1,
      streamsPruned: 1,
    };
    expect(collect([], true)).toEqual(expected);
    expect(alive(dead, lone, id)).toEqual([true, true, true]);
    expect(collect()).toEqual(expected);
  });
});

describe("leftovers and damage", () => {
  it("removes the temporary files of dead writers, and nothing foreign", () => {
    object("dead");
    for (const name of [
      "objects/.tmp-object-abc123",
      ".symlink-x",
      ".meta-y",
      "objects/00/keep",
      "own",
    ]) {
      mkdirSync(join(path, name, ".."), { recursive: true });
      writeFileSync(join(path, name), "");
    }
    collect([], true);
    expect(existsSync(join(path, "objects/.tmp-object-abc123"))).toBe(true);
    expect(collect()).toMatchObject({ objectsRemoved: 1 });
    expect(readdirSync(path).sort()).toEqual(["meta.json", "objects", "own"]);
    expect(readdirSync(join(path, "objects/00"))).toEqual(["keep"]);
    expect(existsSync(join(path, "objects/.tmp-object-abc123"))).toBe(false);
  });

  it("removes links to objects that are gone, and references to them", async () => {
    const gone = await stream("s", []);
    setRef(repo, "streams", "a/b", "s");
    symlinkSync("../nothing", join(path, "streams/refs/dangling"));
    rmSync(join(path, "objects", objectPath(gone)));
    rmSync(join(path, "streams/s"));
    publishStream(repo, "other", object("o"));
    expect(collect()).toMatchObject({ streamsPruned: 1 });
    expect(listRefs(repo, "streams")).toEqual([]);
  });

  it.each([
    ["image", () => image(object("file"))],
    ["stream", () => stream("top", [object("file")])],
  ] as const)("stops before removing anything when a live %s is damaged", async (what, make) => {
    const root = await make();
    const dead = object("dead");
    const roots = [what === "image" ? root : "top"];
    const file = join(path, "objects", objectPath(root));
    const content = readFileSync(file);
    for (const damage of [
      () => writeFileSync(file, Buffer.concat([content, Buffer.from("x")])),
      () => rmSync(file),
    ]) {
      damage();
      expect(() => collect(roots)).toThrow(
        `Cannot collect garbage: ${what} "${root}", which is in use, cannot be read`,
      );
      expect(alive(dead)).toEqual([true]);
    }
  });

  it("leaves alone what is not a repository's", () => {
    object("dead");
    mkdirSync(join(path, "images/refs"), { recursive: true });
    mkdirSync(join(path, "streams/directory"), { recursive: true });
    const odd = [
      ["/etc", "images/odd"],
      [`../objects/${objectPath("ab".repeat(64))}`, "images/\xff"],
      ["../../nothing", "images/refs/\x01"],
    ] as const;
    for (const [target, name] of odd) {
      symlinkSync(target, Buffer.from(`${path}/${name}`, "latin1"));
    }
    writeFileSync(join(path, "streams/file"), "");
    expect(collect()).toMatchObject({ objectsRemoved: 1, imagesPruned: 0, streamsPruned: 0 });
    expect(readdirSync(join(path, "images"), "latin1").sort()).toEqual(["odd", "refs", "\xff"]);
    expect(readdirSync(join(path, "images/refs"))).toEqual(["\x01"]);
    expect(readdirSync(join(path, "streams")).sort()).toEqual(["directory", "file"]);
  });

  it.each([
    ["a link elsewhere", () => symlinkSync("/etc", join(path, "streams/odd"))],
    ["a file", () => writeFileSync(join(path, "streams/odd"), "")],
  ])("stops when what a reference leads to is %s", (_, make) => {
    const dead = object("dead");
    mkdirSync(join(path, "streams/refs"), { recursive: true });
    make();
    symlinkSync("../odd", join(path, "streams/refs/name"));
    expect(() => collect()).toThrow(
      'Cannot collect garbage: "streams/odd", which is in use, is not a link to an object',
    );
    expect(alive(dead)).toEqual([true]);
  });
});

describe("locks between processes", () => {
  const here = fileURLToPath(new URL(".", import.meta.url));

  /** A process that has the repository open until its standard input ends. */
  async function openElsewhere() {
    const child = spawnReader();
    await new Promise((resolve) => child.stdout.once("data", resolve));
    return child;
  }

  function spawnReader() {
    const script = `
      const { openRepository } = await import("${here}repository.ts");
      const repo = openRepository(null, ${JSON.stringify(path)});
      console.log("open");
      await Bun.stdin.text();
    `;
    return spawn(process.execPath, ["-e", script], { stdio: ["pipe", "pipe", "inherit"] });
  }

  /** Until the process has the repository's directory open, i.e. is about to ask for the lock. */
  async function waitForOpen(pid: number): Promise<void> {
    for (;;) {
      const links = readdirSync(`/proc/${pid}/fd`).map((number) => `/proc/${pid}/fd/${number}`);
      if (links.some((link) => readlinkIfExists(link) === path)) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  function readlinkIfExists(link: string): string | null {
    try {
      return readlinkSync(link);
    } catch {
      return null;
    }
  }

  it("readers share; the collector waits for them and they for it", async () => {
    const dead = object("dead");
    const reader = await openElsewhere();
    // The collector runs in a process of its own: here it would block the one that ends the reader.
    const script = `
      const { openRepository } = await import("${here}repository.ts");
      const { collectGarbage } = await import("${here}gc.ts");
      using repo = openRepository(null, ${JSON.stringify(path)});
      console.log("start");
      console.log(JSON.stringify(collectGarbage(repo, { roots: [], dryRun: false })));
    `;
    repo[Symbol.dispose]();
    const collector = spawn(process.execPath, ["-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = new Promise((resolve) => collector.once("exit", resolve));
    let output = "";
    collector.stdout.on("data", (data) => {
      output += data;
    });
    await new Promise((resolve) => collector.stdout.once("data", resolve));
    repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
    expect(alive(dead)).toEqual([true]);
    repo[Symbol.dispose]();
    reader.stdin.end();
    expect(await ended).toBe(0);
    expect(JSON.parse(output.split("\n")[1]!)).toMatchObject({ objectsRemoved: 1 });
    repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
    expect(alive(dead)).toEqual([false]);
  });

  it("a dry run takes no more than the shared lock", async () => {
    object("dead");
    const reader = await openElsewhere();
    expect(collect([], true)).toMatchObject({ objectsRemoved: 1 });
    reader.stdin.end();
    await new Promise((resolve) => reader.once("exit", resolve));
  });

  it("who opens it while somebody collects waits for the end", async () => {
    // flock(1) stands for a collector that takes its time.
    const collector = spawn("flock", ["--exclusive", path, "sh", "-c", "echo held; read line"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    repo[Symbol.dispose]();
    await new Promise((resolve) => collector.stdout.once("data", resolve));
    const reader = spawnReader();
    await waitForOpen(reader.pid!);
    expect([reader.exitCode, collector.exitCode]).toEqual([null, null]);
    collector.stdin.end("\n");
    await new Promise((resolve) => reader.stdout.once("data", resolve));
    reader.stdin.end();
    await new Promise((resolve) => reader.once("exit", resolve));
    repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
    expect([reader.exitCode, collector.exitCode]).toEqual([0, 0]);
  });

  it("several collectors at the same time come one after the other", async () => {
    const dead = object("dead");
    repo[Symbol.dispose]();
    const script = `
      const { openRepository } = await import("${here}repository.ts");
      const { collectGarbage } = await import("${here}gc.ts");
      using repo = openRepository(null, ${JSON.stringify(path)});
      console.log(collectGarbage(repo, { roots: [], dryRun: false }).objectsRemoved);
    `;
    const removed = await Promise.all(
      [1, 2, 3].map(async () => {
        const child = spawn(process.execPath, ["-e", script], {
          stdio: ["ignore", "pipe", "inherit"],
        });
        let output = "";
        child.stdout.on("data", (data) => {
          output += data;
        });
        const code = await new Promise((resolve) => child.once("close", resolve));
        return [code, output.trim()];
      }),
    );
    expect(removed.map(String).sort()).toEqual(["0,0", "0,0", "0,1"]);
    repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
    expect(alive(dead)).toEqual([false]);
  });

  it("the shared lock is back after collecting", async () => {
    collect();
    const other = await openElsewhere();
    other.stdin.end();
    await new Promise((resolve) => other.once("exit", resolve));
    expect(other.exitCode).toBe(0);
  });
});

describe("for one who cannot wait", () => {
  it("objects stay for the next time", () => {
    const garbage = object("garbage");
    const options = { roots: [], dryRun: false };
    expect(collectGarbage(repo, { ...options, timeLimitMs: 0 }).objectsRemoved).toBe(0);
    expect(hasObject(repo, garbage)).toBe(true);
    expect(collectGarbage(repo, { ...options, timeLimitMs: 60_000 }).objectsRemoved).toBe(1);
  });

  it("others are waited for only so long", () => {
    using _other = openRepository(null, path);
    const collecting = () => collectGarbage(repo, { roots: [], dryRun: false, timeLimitMs: 50 });
    expect(collecting).toThrow(/is in use by another process/);
  });
});
