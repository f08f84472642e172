// The order in which a pull, a repair and a collection reach the disk (docs/repository.md): every system
// call is written down, and a model of the disk says what a power cut at that moment would leave.

import { appendFileSync, mkdtempSync, readlinkSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { checkRepository } from "../../shared/store/fsck.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { readObject } from "../../shared/store/objects.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { checkImages } from "../../updater/image/image-check.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { repairRepository } from "../../updater/image/repair.ts";
import { openSource } from "../../updater/image/source.ts";
import { writeLayout } from "../support/oci-builder.ts";
import { serveLayout } from "../support/range-server.ts";
import { openServed, writeServedImage } from "../support/server-pull.ts";
import { makeOs } from "../support/small-os.ts";

/** One line for each call that matters; paths are below the repository. */
const log = vi.hoisted(() => ({ lines: [] as string[], watch: (_line: string) => {} }));

vi.mock("../../shared/sys/libc.ts", async (load) => {
  const real = await load<typeof import("../../shared/sys/libc.ts")>();
  const note = (result: number, line: string): number => {
    if (result >= 0) {
      log.lines.push(line);
      log.watch(line);
    }
    return result;
  };
  const text = (value: unknown) =>
    Buffer.from(value as Uint8Array)
      .toString("latin1")
      .slice(0, -1);
  const file = (fd: unknown) => readlinkSync(`/proc/self/fd/${fd}`).replace(/^.*\/repo\b\/?/, "");
  return {
    ...real,
    attempt: (...call: Parameters<typeof real.attempt>) => {
      const [name, a, b, , d] = call;
      const result = real.attempt(...call);
      if (name === "linkat") return note(result, `link ${text(d)}`);
      if (name === "symlinkat") return note(result, `symlink ${text(call[3])} -> ${text(a)}`);
      if (name === "unlinkat") return note(result, `unlink ${text(b)}`);
      if (name === "fsync") return note(result, `fsync ${file(a)}`);
      if (name === "syncfs") return note(result, "syncfs");
      return result;
    },
    attemptSyscall: (...call: Parameters<typeof real.attemptSyscall>) => {
      const result = real.attemptSyscall(...call);
      if (call[0] !== "renameat2") return result;
      return note(result, `rename ${text(call[2])} -> ${text(call[4])}`);
    },
  };
});

let scratch: string;
let repo: Repository;
let layout: string;

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), "durability-"));
  layout = join(scratch, "layout");
  writeLayout(layout, [await makeOs()]);
  log.watch = () => {};
  repo = ensureRepository(null, join(scratch, "repo"), { algorithm: "sha512", secure: false });
  log.lines = [];
});
afterEach(() => {
  log.watch = () => {};
  repo[Symbol.dispose]();
  rmSync(scratch, { recursive: true });
});

const source = () => openSource(makeImageReference("oci", layout));

/** What a power cut would lose right now: objects by digest, links by path. */
interface Disk {
  readonly objects: Set<string>;
  readonly links: Set<string>;
}

/** Follows the calls; throws where something is named before it is safe. */
function watchDisk(): Disk {
  const disk: Disk = { objects: new Set(), links: new Set() };
  log.watch = (line) => follow(disk, line);
  return disk;
}

function follow(disk: Disk, line: string): void {
  const [verb, ...words] = line.split(" ");
  const rest = words.join(" ");
  if (verb === "syncfs") {
    disk.objects.clear();
    disk.links.clear();
  } else if (verb === "fsync") {
    // A directory's names; a file's content is no matter of names.
    for (const link of disk.links)
      if (link.slice(0, link.lastIndexOf("/")) === rest) disk.links.delete(link);
  } else if (verb === "link" || (verb === "rename" && rest.includes("-> objects/"))) {
    const match = /objects\/(..)\/([0-9a-f]+)$/.exec(rest);
    if (match !== null) disk.objects.add(`${match[1]}${match[2]}`);
  } else if (verb === "symlink") {
    const [path, target] = rest.split(" -> ") as [string, string];
    if (!path.startsWith("./")) named(disk, path, target);
  } else if (verb === "rename") {
    const path = rest.split(" -> ")[1]!;
    named(disk, path, readlinkSync(join(repo.path, path)));
  }
}

/** A name came to be: what it stands for, and everything behind that, must be on the disk. */
function named(disk: Disk, path: string, target: string): void {
  const object = /^\.\.\/objects\/(..)\/([0-9a-f]+)$/.exec(target);
  if (object === null) {
    const entry = `${path.split("/")[0]}/${target.slice(target.lastIndexOf("/") + 1)}`;
    expect([...disk.links], `${path} refers to ${entry}`).not.toContain(entry);
  } else {
    const digest = `${object[1]}${object[2]}`;
    const behind = path.startsWith("streams/") ? readRefs(digest) : [];
    const lost = [digest, ...behind].filter((each) => disk.objects.has(each));
    expect(lost, `${path} was named before these were safe`).toEqual([]);
  }
  disk.links.add(path);
}

function readRefs(digest: string): string[] {
  const { objectRefs, namedRefs } = readSplitStreamRefs(readObject(repo, digest, 1 << 24));
  return [...objectRefs, ...namedRefs.values()];
}

const names = (verb: string, prefix: string) =>
  log.lines.filter((line) => line.startsWith(`${verb} ${prefix}`)).length;

test("a pull: objects, syncfs, then their name; the name is safe before anything refers to it", async () => {
  const disk = watchDisk();
  const pulled = await pullImage(repo, source());
  expect([...disk.links]).toEqual([]);
  expect(names("symlink", "streams/")).toBe(5);
  await makeBootImage(repo, pulled);
  // Two images, config and manifest once more, a tag.
  expect(names("symlink", "images/")).toBe(2);
  expect(names("rename", "./.symlink-")).toBe(2);
  expect(names("symlink", "streams/refs/oci/")).toBe(1);
  expect([...disk.links]).toEqual([]);
  expect(log.lines.filter((line) => line === "syncfs").length).toBe(9);
});

test("a download goes when the name of its layer is safe, and not before", async () => {
  const served = join(scratch, "served");
  const image = await writeServedImage(served, 3);
  const downloads = image.layers.filter(({ size }) => size > 1 << 20);
  expect(downloads.length).toBe(2);
  const disk = watchDisk();
  const follow = log.watch;
  const gone: string[] = [];
  log.watch = (line) => {
    follow(line);
    const digest = /^unlink bootc-downloads\/sha256-(\w+)\.part$/.exec(line)?.[1];
    const layer = downloads.find((each) => each.digest === `sha256:${digest}`);
    if (layer === undefined) return;
    gone.push(layer.diffId);
    const name = `streams/oci-layer-${layer.diffId}`;
    expect(readlinkSync(join(repo.path, name))).toContain("../objects/");
    expect([...disk.links], name).not.toContain(name);
    expect([...disk.objects]).toEqual([]);
  };
  await using server = await serveLayout(served, image.manifest.digest);
  await using registry = openServed(server.reference, join(scratch, "root"));
  await pullImage(repo, registry);
  expect(gone.sort()).toEqual(downloads.map(({ diffId }) => diffId).sort());
});

test("the model would notice a name that comes too early", () => {
  const disk = { objects: new Set(["ab".repeat(64)]), links: new Set(["streams/oci-manifest-x"]) };
  const target = `../objects/${objectPath("ab".repeat(64))}`;
  const early = "was named before these were safe";
  expect(() => named(disk, "images/x", target)).toThrow(early);
  const reference = () => named(disk, "streams/refs/oci/tag", "../../oci-manifest-x");
  expect(reference).toThrow("streams/refs/oci/tag refers to streams/oci-manifest-x");
});

test("a damaged object is replaced by one that is on the disk before it has the name", async () => {
  const pulled = await pullImage(repo, source());
  const { deploymentId } = await makeBootImage(repo, pulled);
  const layer = streamObject(repo, `oci-layer-${pulled.config.rootfs.diff_ids[0]}`)!;
  const [file] = readRefs(layer) as [string];
  appendFileSync(join(repo.path, "objects", objectPath(file)), "x");
  const check = async () => [
    ...checkRepository(repo, { metadataOnly: false }).findings,
    ...(await checkImages(repo, { metadataOnly: false })).findings,
  ];
  const findings = await check();
  log.lines = [];
  const disk = watchDisk();
  const result = await repairRepository(repo, findings, {
    users: [
      {
        label: "x",
        manifestDigest: pulled.manifestDigest,
        reference: makeImageReference("oci", layout),
        deploymentId,
      },
    ],
    source: null,
    open: openSource,
    check,
  });
  expect(result.remaining).toEqual([]);
  expect([...disk.objects]).toEqual([]);
  // The new file, its rename over the old one, and everything written out.
  const path = `objects/${objectPath(file)}`;
  const temporary = expect.stringMatching(/^link objects\/\.tmp-object-/);
  const renamed = expect.stringMatching(new RegExp(`^rename objects/.tmp-object-\\S+ -> ${path}$`));
  const synced = expect.stringMatching(/^fsync objects\/(#\d+|\.tmp-object-\S+)( \(deleted\))?$/);
  expect(log.lines).toEqual([synced, temporary, renamed, "syncfs"]);
});

test("a collection removes names, makes that safe, and only then objects", async () => {
  const pulled = await pullImage(repo, source());
  await makeBootImage(repo, pulled);
  for (const line of [...log.lines]) {
    const tag = /^symlink (streams\/refs\/\S+) /.exec(line)?.[1];
    if (tag !== undefined) unlinkSync(join(repo.path, tag));
  }
  log.lines = [];
  collectGarbage(repo, { roots: [], dryRun: false });
  const first = log.lines.findIndex((line) => /^unlink [0-9a-f]{126}$/.test(line));
  expect(first).toBeGreaterThan(0);
  const order = log.lines
    .slice(0, first)
    .map((line) => line.replace(/^unlink (\w+)\/.*/, "unlink $1"));
  expect([...new Set(order)]).toEqual([
    "unlink images",
    "fsync images",
    "unlink streams",
    "fsync streams",
  ]);
  expect(log.lines.slice(first).every((line) => /^unlink [0-9a-f]{126}$/.test(line))).toBe(true);
});
