// zstd:chunked layers from a server: only what is missing is fetched, and exactly as much as was announced.
// Tables of contents that are no good are in chunked-lies.test.ts.

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { planImagePull, pullImage } from "../../updater/image/pull.ts";
import {
  expectSame,
  FIRST,
  type Files,
  firstTar,
  layerStreams,
  makeFilesTar,
  noise,
  plain,
  pullFirst,
  pullLayout,
  pullServed,
  repo,
  SECOND,
  scratch,
  secondTar,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";
import { makeChunkedLayer } from "../support/chunked-layer.ts";
import { serveLayout } from "../support/range-server.ts";
import { findDamage, listObjects } from "../support/repository-listing.ts";
import { openServed } from "../support/server-pull.ts";

useChunkedCase();

describe("a first pull", () => {
  test("takes the whole layer, and says exactly what will be written", async () => {
    const image = writeOne("image", [makeChunkedLayer(firstTar)]);
    const { plan, planBytes, pullBytes } = await pullServed(image);
    expect(plan.layers).toMatchObject([{ method: "whole", reusedBytes: 0 }]);
    expect(planBytes).toBe(plan.planningBytes);
    expect(pullBytes).toBe(plan.fetchBytes + plan.planningBytes);
    const sizes = Object.values(FIRST)
      .map(({ length }) => length)
      .filter((size) => size > 64);
    const contentBytes = sizes.reduce((a, b) => a + b);
    expect(plan.written).toMatchObject({ contentBytes, isExact: true, inodes: sizes.length + 1 });
    expect(plan.kernel).toEqual({ kind: "known", sizeBytes: 500_000, isStored: false });
    await expectSame(image);
  });

  test("a gzip layer tells what it unpacks to; that is an estimate", async () => {
    const image = writeOne("image", [{ tar: firstTar, compression: "gzip" }]);
    await using server = await serveLayout(image.path, image.built.manifest.digest);
    await using source = openServed(server.reference, scratch);
    const plan = await planImagePull(repo, source, await source.resolve(), { isForDisplay: true });
    expect(plan.written).toMatchObject({ contentBytes: firstTar.length, isExact: false });
    expect(plan.fetchBytes).toBe(image.built.layers[0]!.size);
  });
});

describe("an update", () => {
  test("fetches only what changed, exactly as much as announced", async () => {
    await pullFirst();
    const image = writeOne("image", [makeChunkedLayer(secondTar)]);
    const { plan, planBytes, pullBytes, requests } = await pullServed(image);
    const [layer] = plan.layers;
    const { size } = image.built.layers[0]!;
    expect(layer).toMatchObject({ method: "partial" });
    expect(planBytes).toBe(plan.planningBytes);
    expect(pullBytes).toBe(plan.fetchBytes + plan.planningBytes);
    expect(plan.fetchBytes + plan.planningBytes + plan.reusedBytes).toBe(size);
    // The changed file, the new one (once), the one of a few bytes, and what lies between.
    expect(plan.fetchBytes).toBeGreaterThan(77_000);
    expect(plan.fetchBytes).toBeLessThan(77_000 + 20_000);
    expect(plan.written).toMatchObject({ contentBytes: 77_300, inodes: 3, isExact: true });
    expect(plan.kernel).toEqual({ kind: "known", sizeBytes: 500_000, isStored: true });
    // Twice config and table; then the files.
    expect(requests.length).toBe(4 + layer!.partial!.ranges.length);
    await expectSame(image);
  });

  test("nothing but names changed: nothing is fetched", async () => {
    await pullFirst();
    const moved = Object.fromEntries(
      Object.entries(FIRST).map(([path, content]) => [path.replace("usr/f", "usr/g"), content]),
    );
    const image = writeOne("image", [makeChunkedLayer(makeFilesTar(moved))]);
    const { plan, pullBytes } = await pullServed(image);
    expect(plan.fetchBytes).toBe(0);
    expect(pullBytes).toBe(plan.planningBytes);
    await expectSame(image);
  });

  test("a file that changed and kept its size and path is fetched", async () => {
    await pullFirst();
    const huge = Buffer.from(FIRST["usr/huge"]!);
    huge[1_000_000]! ^= 1;
    const image = writeOne("image", [
      makeChunkedLayer(makeFilesTar({ ...FIRST, "usr/huge": huge })),
    ]);
    const { plan, pullBytes } = await pullServed(image);
    expect(plan.fetchBytes).toBeGreaterThan(1_500_000);
    expect(pullBytes).toBe(plan.fetchBytes + plan.planningBytes);
    await expectSame(image);
  });

  test("a stored file that is damaged is not used; it is fetched, and mended", async () => {
    await pullFirst();
    const [path] = listObjects(repo).filter((each) => statSync(each).size === 300_000);
    const bytes = readFileSync(path!);
    bytes[1000]! ^= 1;
    writeFileSync(path!, bytes);
    expect(findDamage(repo)).toEqual([path]);
    const image = writeOne("image", [makeChunkedLayer(secondTar)]);
    const { plan } = await pullServed(image);
    expect(plan.layers[0]!.method).toBe("partial");
    expect(plan.fetchBytes).toBeGreaterThan(77_000 + 300_000);
    expect(plan.kernel).toMatchObject({ kind: "known", isStored: false });
    await expectSame(image);
  });

  test("layers of all kinds together; the same new file in two of them is counted once", async () => {
    const shared = { "usr/shared": noise("shared", 50_000) };
    const cached = {
      tar: makeFilesTar({ "usr/c": noise("c", 9000) }),
      compression: "gzip",
    } as const;
    const first = writeOne("first", [cached, { tar: firstTar }]);
    await pullLayout(repo, first.path);
    const image = writeOne("image", [
      cached,
      makeChunkedLayer(makeFilesTar({ ...FIRST, ...shared })),
      makeChunkedLayer(makeFilesTar({ ...SECOND, ...shared })),
      { tar: makeFilesTar({ "usr/d": noise("d", 2000) }), compression: "gzip" },
    ]);
    const { plan, pullBytes } = await pullServed(image);
    const methods = plan.layers.map(({ method }) => method);
    expect(methods).toEqual(["cached", "partial", "partial", "whole"]);
    expect(plan.layers[1]!.written.contentBytes).toBe(50_000);
    expect(plan.layers[2]!.written.contentBytes).toBe(77_300);
    expect(plan.written.isExact).toBe(false);
    expect(pullBytes).toBe(plan.fetchBytes + plan.planningBytes);
    await expectSame(image);
  });

  test("progress has the plan's total and reaches it", async () => {
    await pullFirst();
    const { path, built } = writeOne("image", [makeChunkedLayer(secondTar)]);
    await using server = await serveLayout(path, built.manifest.digest);
    await using source = openServed(server.reference, scratch);
    const plan = await planImagePull(repo, source, await source.resolve());
    const seen: number[] = [];
    await pullImage(repo, source, {
      plan,
      onProgress: ({ bytes, bytesTotal }) => {
        expect(bytesTotal).toBe(plan.fetchBytes);
        seen.push(bytes);
      },
    });
    expect(seen.at(-1)).toBe(plan.fetchBytes);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.length).toBeGreaterThan(2);
  });

  test("what an interrupted pull of parts fetched is not fetched again", async () => {
    await pullFirst();
    const files: Files = {
      ...FIRST,
      "usr/a": noise("a", 3_000_000),
      "usr/z": noise("z", 3_000_000),
    };
    const { path, built } = writeOne("image", [makeChunkedLayer(makeFilesTar(files))]);
    await using server = await serveLayout(path, built.manifest.digest, () => ({
      bytesPerSecond: 20_000_000,
    }));
    const open = () => openServed(server.reference, scratch);
    const controller = new AbortController();
    await using first = open();
    const whole = await planImagePull(repo, first, await first.resolve());
    const pulling = pullImage(repo, first, {
      signal: controller.signal,
      onProgress: ({ bytes }) => bytes > 4_000_000 && controller.abort(new Error("stop")),
    });
    await expect(pulling).rejects.toThrow("stop");
    await using second = open();
    const rest = await planImagePull(repo, second, await second.resolve());
    expect(rest.layers[0]!.method).toBe("partial");
    expect(rest.fetchBytes).toBeLessThan(whole.fetchBytes - 3_000_000);
    const before = server.sentBytes;
    await pullImage(repo, second);
    expect(server.sentBytes - before).toBe(
      rest.fetchBytes + rest.planningBytes + built.config.size,
    );
    await expectSame({ path, built });
  });
});

describe("a server", () => {
  test("without ranges: the whole layer", async () => {
    await pullFirst();
    const image = writeOne("image", [makeChunkedLayer(secondTar)]);
    const { plan } = await pullServed(image, () => ({ ignoresRange: true }));
    expect(plan.layers).toMatchObject([{ method: "whole" }]);
    await expectSame(image);
  });

  test.each<[string, { isCorrupt?: boolean; shiftBytes?: number; ignoresRange?: boolean }]>([
    ["that sends other bytes for the files' ranges", { isCorrupt: true }],
    ["that sends other ranges", { shiftBytes: 977 }],
    ["that forgets its ranges", { ignoresRange: true }],
  ])("%s: the whole layer", async (_, behaviour) => {
    await pullFirst();
    const image = writeOne("image", [makeChunkedLayer(secondTar)]);
    const [layer] = image.built.layers;
    let answers = 0;
    const { plan } = await pullServed(image, ({ digest, startByte }) => {
      // The two tables come well, as does what begins at the beginning; the first of the rest does not.
      const isPart = digest === layer!.digest && startByte > 0 && ++answers > 2;
      return isPart && answers <= 4 ? behaviour : {};
    });
    expect(plan.layers).toMatchObject([{ method: "partial" }]);
    await expectSame(image);
  });

  test("whose connections break goes on where it was", async () => {
    await pullFirst();
    const files = { ...FIRST, "usr/a": noise("a", 3_000_000) };
    const image = writeOne("image", [makeChunkedLayer(makeFilesTar(files))]);
    const { plan, pullBytes } = await pullServed(image, ({ index }) =>
      index > 3 ? { breakAfter: 300_000 } : {},
    );
    expect(plan.layers).toMatchObject([{ method: "partial" }]);
    // What was on its way when a connection broke is lost.
    expect(pullBytes).toBeLessThan(1.5 * plan.fetchBytes);
    await expectSame(image);
  });
});

test("zstd of many frames, with skippable ones in between, is one tar", async () => {
  const skippable = Buffer.concat([Buffer.from("5a2a4d1803000000", "hex"), Buffer.from("abc")]);
  const cut = [0, 1, 511, 512, 100_000, 100_001, firstTar.length];
  const frames = cut
    .slice(1)
    .flatMap((end, i) => [skippable, zstdCompressSync(firstTar.subarray(cut[i]!, end))]);
  const blob = Buffer.concat([...frames, skippable]);
  const image = writeOne("image", [{ tar: firstTar, compression: "zstd", blob }]);
  await pullServed(image);
  await pullLayout(plain, writeOne("other", [{ tar: firstTar, compression: "none" }]).path);
  expect(layerStreams(repo, image.built)).toEqual(layerStreams(plain, image.built));
});
