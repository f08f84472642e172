// A pull from a server that breaks off, lies, stalls or is given up: what was fetched is used, by the same
// process and by the next one, and the result is that of an undisturbed pull.

import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { collectGarbage } from "../../shared/store/gc.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { flock, openat } from "../../shared/sys/file.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { dropDownloads, listKeptLayers } from "../../updater/image/kept-downloads.ts";
import { partialFilePath } from "../../updater/image/partial-file.ts";
import { type PullOptions, planImagePull, pullImage } from "../../updater/image/pull.ts";
import type { PullProgress } from "../../updater/image/pull-progress.ts";
import type { RegistryLimits } from "../../updater/registry/limits.ts";
import type { BuiltImage } from "../support/oci-builder.ts";
import { type Behaviour, type BlobRequest, serveLayout } from "../support/range-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import {
  listDownloads,
  listRepository,
  openScratchRepository,
  openServed,
  writeServedImage,
} from "../support/server-pull.ts";

const MiB = 1 << 20;
const FILES = 24;

let shared: string;
let layout: string;
let built: BuiltImage;
/** What an undisturbed pull leaves. */
let expected: string[];
let layersBytes: number;
let largest: BuiltImage["layers"][number];

let scratch: string;
let repo: Repository;

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), "pull-resume-"));
  layout = join(shared, "layout");
  built = await writeServedImage(layout, FILES);
  layersBytes = built.layers.reduce((sum, { size }) => sum + size, 0);
  largest = built.layers.toSorted((a, b) => b.size - a.size)[0]!;
  expect(largest.size).toBeGreaterThan(20 * MiB);
  const path = join(shared, "repo");
  repo = openScratchRepository(path);
  await using server = await serveLayout(layout, built.manifest.digest);
  await finish(server.reference);
  expect(server.sentBytes).toBeLessThan(layersBytes + 64 * 1024);
  expected = listRepository(path);
  repo[Symbol.dispose]();
});
afterAll(() => rmSync(shared, { recursive: true }));

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "pull-resume-"));
  repo = openScratchRepository(join(scratch, "repo"));
});
afterEach(() => {
  repo[Symbol.dispose]();
  rmSync(scratch, { recursive: true });
});

const serve = (behave?: (request: BlobRequest) => Behaviour) =>
  serveLayout(layout, built.manifest.digest, behave);

/** Waits a test can afford; `idleTimeoutMs` is what a stall costs. */
async function pull(
  reference: string,
  options: PullOptions = {},
  limits: Partial<RegistryLimits> = {},
) {
  await using source = openServed(reference, join(shared, "root"), limits);
  return await pullImage(repo, source, { patience: 0.02, ...options });
}

/** A pull and what the verbs do after it. */
async function finish(reference: string, options?: PullOptions): Promise<void> {
  const pulled = await pull(reference, options);
  await makeBootImage(repo, pulled);
  dropDownloads(repo);
  collectGarbage(repo, { roots: [], dryRun: false });
}

function expectSame(): void {
  expect(listRepository(repo.path)).toEqual(expected);
  expect(findDamage(repo)).toEqual([]);
  expect(listDownloads(repo.path)).toEqual([]);
}

/** Gives up when this many bytes were reported; returns what is kept then. */
async function interruptAt(bytes: number, reference: string): Promise<number> {
  const controller = new AbortController();
  const onProgress = (progress: PullProgress) => {
    if (progress.bytes >= bytes) controller.abort(new Error("stop"));
  };
  const pulling = pull(reference, { onProgress, signal: controller.signal });
  await expect(pulling).rejects.toThrow(/^stop$/);
  expect(findDamage(repo)).toEqual([]);
  return await countKept(reference);
}

async function countKept(reference: string): Promise<number> {
  await using source = openServed(reference, join(shared, "root"));
  const plan = await planImagePull(repo, source, await source.resolve());
  expect(plan.fetchBytes + plan.reusedBytes).toBe(layersBytes);
  return plan.reusedBytes;
}

/** Every report of a pull that succeeds. */
async function watchProgress(reference: string): Promise<PullProgress[]> {
  const reports: PullProgress[] = [];
  await finish(reference, { onProgress: (progress) => reports.push(progress) });
  for (const [i, report] of reports.entries()) {
    expect(report.bytesTotal).toBe(reports[0]!.bytesTotal);
    expect(report.bytes).toBeGreaterThanOrEqual(reports[i - 1]?.bytes ?? 0);
  }
  expect(reports.at(-1)!.bytes).toBe(reports[0]!.bytesTotal);
  return reports;
}

describe("a body that breaks off is continued", () => {
  test.each([0, 1, 65_535, 65_536, MiB - 1, MiB, 3 * MiB + 17])("after %d bytes", async (after) => {
    await using server = await serve(({ index }) => (index % 3 === 0 ? { breakAfter: after } : {}));
    await watchProgress(server.reference);
    expectSame();
    // What was on its way when the connection closed may come twice.
    expect(server.sentBytes).toBeLessThan(layersBytes + server.requests.length * 256 * 1024);
  });

  test("again and again, as long as it brings something", async () => {
    await using server = await serve(() => ({ breakAfter: MiB }));
    await finish(server.reference);
    expectSame();
  });

  test("but not for ever when it brings nothing", async () => {
    await using server = await serve(({ startByte }) =>
      startByte >= 10 * MiB ? { breakAfter: 100 } : {},
    );
    const error = await pull(server.reference).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ kind: "registry", code: "unavailable" });
    await using good = await serve();
    expect(await countKept(good.reference)).toBeGreaterThan(9 * MiB);
    await finish(good.reference);
    expectSame();
  });

  test("that stalls, as well", async () => {
    await using server = await serve(({ index }) => (index < 3 ? { stallAfter: MiB } : {}));
    await pull(server.reference, {}, { idleTimeoutMs: 300 });
    expect(server.requests.length).toBeGreaterThan(5);
  });
});

describe("a pull that was given up", () => {
  test("goes on where it stopped, with a total that is right", async () => {
    await using server = await serve();
    const keptBytes = await interruptAt(12 * MiB, server.reference);
    expect(keptBytes).toBeGreaterThan(11 * MiB);
    const before = server.sentBytes;
    const reports = await watchProgress(server.reference);
    expect(reports[0]).toMatchObject({ bytes: 0, bytesCached: keptBytes });
    expect(server.sentBytes - before).toBe(built.config.size + layersBytes - keptBytes);
    expectSame();
  });

  test("goes on from another server, and with bytes of both", async () => {
    let keptBytes: number;
    {
      await using first = await serve();
      keptBytes = await interruptAt(8 * MiB, first.reference);
    }
    await using second = await serve();
    await finish(second.reference);
    expect(second.sentBytes).toBe(built.config.size + layersBytes - keptBytes);
    expectSame();
  });

  test("many times", async () => {
    await using server = await serve();
    for (let bytes = 0; bytes < layersBytes; bytes += 5 * MiB) {
      await interruptAt(Math.min(4 * MiB, layersBytes - bytes - 1), server.reference);
    }
    await finish(server.reference);
    expectSame();
  });

  test("a server without ranges sends it again, and it counts from where it stopped", async () => {
    await using server = await serve();
    const keptBytes = await interruptAt(12 * MiB, server.reference);
    await using plain = await serve(() => ({ ignoresRange: true }));
    const reports = await watchProgress(plain.reference);
    expect(reports[0]!.bytesTotal).toBe(layersBytes - keptBytes);
    expectSame();
  });
});

describe("what is on the disk is checked", () => {
  const changeByte = (position: number) => {
    const fd = openSync(join(repo.path, partialFilePath(largest.digest)), "r+");
    const byte = new Uint8Array(1);
    readSync(fd, byte, 0, 1, position);
    byte[0]! ^= 0xff;
    writeSync(fd, byte, 0, 1, position);
    closeSync(fd);
  };
  test.each([
    ["a byte of the layer", () => 1234],
    ["a record", () => Math.ceil(largest.size / 4096) * 4096 + 40],
  ])("%s that changed costs one piece", async (_, position) => {
    await using server = await serve();
    const keptBytes = await interruptAt(12 * MiB, server.reference);
    changeByte(position());
    const leftBytes = await countKept(server.reference);
    expect(keptBytes - leftBytes).toBeGreaterThan(0);
    expect(keptBytes - leftBytes).toBeLessThanOrEqual(MiB);
    await finish(server.reference);
    expectSame();
  });

  test("a file that was cut off costs what is missing", async () => {
    await using server = await serve();
    await interruptAt(12 * MiB, server.reference);
    execFileSync("truncate", ["-s", `${MiB}`, join(repo.path, partialFilePath(largest.digest))]);
    await finish(server.reference);
    expectSame();
  });

  test("a download that somebody else has open is left alone", async () => {
    await using server = await serve();
    await interruptAt(12 * MiB, server.reference);
    using other = openat(repo.dir, partialFilePath(largest.digest), O.RDWR);
    flock(other, "exclusive", { wait: false });
    await pull(server.reference);
    dropDownloads(repo);
    expect(listDownloads(repo.path)).toHaveLength(1);
    other.close();
    await finish(server.reference);
    expectSame();
  });
});

describe("a server that is wrong", () => {
  test("about ranges, at first: all of it is thrown away and fetched anew", async () => {
    await using server = await serve(({ index }) => (index < 6 ? { shiftBytes: MiB } : {}));
    await watchProgress(server.reference);
    expectSame();
  });

  test.each<[string, Behaviour]>([
    ["about ranges", { shiftBytes: MiB }],
    ["about every byte", { isCorrupt: true }],
  ])("%s, always: nothing of it is kept", async (_, behaviour) => {
    await using server = await serve(({ digest }) => (digest === largest.digest ? behaviour : {}));
    const error = await pull(server.reference).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ kind: "integrity", code: "digest-mismatch" });
    expect((error as Error).message).toContain(`Layer ${largest.digest} of "docker://127.0.0.1:`);
    expect(listDownloads(repo.path)).not.toContain(partialFilePath(largest.digest).split("/")[1]);
  });

  test("and has no ranges: one connection for each layer, nothing twice", async () => {
    await using server = await serve(() => ({ ignoresRange: true }));
    await watchProgress(server.reference);
    expectSame();
    // The first requests found out.
    expect(server.sentBytes).toBeLessThan(2 * layersBytes);
  });

  test("and has no ranges, and breaks off: begun again from its first byte", async () => {
    await using server = await serve(({ index }) =>
      index === 4 ? { ignoresRange: true, breakAfter: 2 * MiB } : { ignoresRange: true },
    );
    await watchProgress(server.reference);
    expectSame();
  });
});

describe("giving up takes no time", () => {
  const controllers = () => {
    const controller = new AbortController();
    return { controller, signal: controller.signal, reason: new Error("stop") };
  };
  test.each<[string, (request: BlobRequest) => Behaviour]>([
    ["a server that does not answer", () => ({ isSilent: true })],
    ["bodies that stall", () => ({ stallAfter: 100_000 })],
    ["a wait before the next attempt", () => ({ status: 503 })],
    ["a slow server", () => ({ bytesPerSecond: 50_000 })],
    ["an import in progress", () => ({})],
  ])("%s", async (_, behave) => {
    const { controller, signal, reason } = controllers();
    let isAsked = () => {};
    const asked = new Promise<void>((resolve) => {
      isAsked = resolve;
    });
    await using server = await serve((request) => {
      if (request.index >= 3) isAsked();
      return request.index === 0 ? {} : behave(request); // the config
    });
    const pulling = pull(server.reference, { signal, patience: 100 });
    pulling.catch(() => {});
    await asked;
    controller.abort(reason);
    await expect(pulling).rejects.toBe(reason);
  });
});

describe("room on the disk", () => {
  let mounted: string;
  beforeEach(() => {
    repo[Symbol.dispose]();
    mounted = join(scratch, "disk");
    mkdirSync(mounted);
  });
  afterEach(() => {
    repo[Symbol.dispose]();
    execFileSync("umount", [mounted]);
  });
  const mount = (size: number) => {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", mounted]);
    repo = openScratchRepository(join(mounted, "repo"));
  };

  test("for the image, but not for its download as well: it is streamed", async () => {
    mount((FILES + 12) * MiB);
    await using server = await serve();
    await finish(server.reference);
    expectSame();
  });

  test("not even for the image: nothing is left", async () => {
    mount(15 * MiB);
    await using server = await serve();
    const error = await pull(server.reference).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ kind: "state", code: "no-space" });
    expect(listDownloads(repo.path)).toEqual([]);
  });
});

test("layers get their names while others are still fetched", async () => {
  await using server = await serve(({ digest, startByte }) =>
    digest === largest.digest && startByte > 16 * MiB ? { isSilent: true } : {},
  );
  const controller = new AbortController();
  const pulling = pull(server.reference, { signal: controller.signal });
  pulling.catch(() => {});
  const isNamed = () => listDownloads(repo.path).some((name) => name.endsWith(".layer"));
  while (!isNamed()) await new Promise((resolve) => setTimeout(resolve, 20));
  controller.abort(new Error("stop"));
  await expect(pulling).rejects.toThrow(/^stop$/);
  const names = listDownloads(repo.path).map((name) => name.replace(/^.*\./, ""));
  expect(new Set(names)).toEqual(new Set(["layer", "part"]));
  collectGarbage(repo, { roots: listKeptLayers(repo), dryRun: false });
  expect(await countKept(server.reference)).toBeGreaterThan(16 * MiB);
  await using good = await serve();
  await finish(good.reference);
  expectSame();
});

test("finished layers survive garbage collection until the image is there", async () => {
  await using server = await serve();
  await pull(server.reference);
  expect(listKeptLayers(repo).sort()).toEqual(
    built.layers.map(({ diffId }) => `oci-layer-${diffId}`).sort(),
  );
  collectGarbage(repo, { roots: listKeptLayers(repo), dryRun: false });
  const before = server.sentBytes;
  await finish(server.reference);
  expect(server.sentBytes).toBe(before + built.config.size);
  expectSame();
});
