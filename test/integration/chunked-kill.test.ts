// A pull of what is missing that is killed (SIGKILL) here and there until it gets through: it makes what whole
// layers make, goes on from what it had, and leaves nothing behind.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import { planImagePull } from "../../updater/image/pull.ts";
import {
  FIRST,
  type Files,
  layerStreams,
  makeFilesTar,
  noise,
  plain,
  pullLayout,
  repo,
  scratch,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";
import { makeChunkedLayer } from "../support/chunked-layer.ts";
import { serveLayout } from "../support/range-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import { listDownloads, openServed } from "../support/server-pull.ts";

useChunkedCase();

const KILLS = process.env["TEST_ALL"] === undefined ? 6 : 60;
/** What is on its way to each of three connections, and the table once more. */
const LOSS_BYTES = 4 << 20;
const DIRECTORIES = ["boot/", "sysroot/", "run/", "etc/", "var/"].map((name) => ({
  name,
  type: "5",
}));

test("killed again and again", { timeout: KILLS * 60_000 }, async () => {
  const news = Array.from({ length: 8 }, (_, i) => [`usr/new${i}`, noise(`new ${i}`, 1_500_000)]);
  const files: Files = { ...FIRST, ...Object.fromEntries(news) };
  await pullLayout(repo, writeOne("first", [{ tar: makeFilesTar(FIRST, DIRECTORIES) }]).path);
  const image = writeOne("image", [makeChunkedLayer(makeFilesTar(files, DIRECTORIES))]);
  let killsAtByte = Number.POSITIVE_INFINITY;
  let child: ChildProcess | null = null;
  await using server = await serveLayout(
    image.path,
    image.built.manifest.digest,
    () => ({ bytesPerSecond: 20_000_000 }),
    (sentBytes) => {
      if (sentBytes >= killsAtByte) child?.kill("SIGKILL");
    },
  );
  let fetchBytes: number;
  {
    await using source = openServed(server.reference, join(scratch, "root"));
    const plan = await planImagePull(repo, source, await source.resolve());
    expect(plan.layers).toMatchObject([{ method: "partial" }]);
    fetchBytes = plan.fetchBytes;
  }
  const before = server.sentBytes;
  let kills = 0;
  for (let isDone = false; !isDone; ) {
    // The table passes; then somewhere in the files, or not at all.
    const isKilled = kills < KILLS;
    const point = (kills * 0.618) % 1;
    killsAtByte = isKilled ? server.sentBytes + 100_000 + point * 3_000_000 : Infinity;
    const program = join(import.meta.dirname, "../support/pull-child.ts");
    const argv = [program, repo.path, server.reference, join(scratch, "root")];
    child = spawn(process.execPath, argv, { stdio: ["ignore", "ignore", "inherit"] });
    const [code, signal] = (await once(child, "close")) as [number | null, string | null];
    isDone = code === 0;
    if (!isDone) expect([code, signal]).toEqual([null, "SIGKILL"]);
    if (!isDone) kills += 1;
  }
  expect(kills).toBeGreaterThan(1);
  expect(server.sentBytes - before).toBeLessThan(fetchBytes + (kills + 1) * LOSS_BYTES);
  await pullLayout(plain, image.path);
  expect(layerStreams(repo, image.built)).toEqual(layerStreams(plain, image.built));
  expect(findDamage(repo)).toEqual([]);
  expect(listDownloads(repo.path)).toEqual([]);
});
