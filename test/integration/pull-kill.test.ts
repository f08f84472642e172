// A pull that is killed (SIGKILL) at random points, until it gets through: it ends with exactly what an
// undisturbed pull makes, has fetched hardly more, and leaves nothing behind. 20 kills; TEST_ALL: 200.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collectGarbage } from "../../shared/store/gc.ts";
import { openRepository } from "../../shared/store/repository.ts";
import { checkImages } from "../../updater/image/image-check.ts";
import type { BuiltImage } from "../support/oci-builder.ts";
import { serveLayout } from "../support/range-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import {
  listDownloads,
  listRepository,
  openScratchRepository,
  writeServedImage,
} from "../support/server-pull.ts";

const IS_LONG = process.env["TEST_ALL"] !== undefined;
const KILLS = IS_LONG ? 200 : 20;
const SEED = Number(process.env["TEST_SEED"] ?? 4);
const FILES = 40;

/** How the network is, for each of four connections, and what a kill may cost. */
interface Network {
  readonly bytesPerSecond: number;
  readonly killsWithinMs: number;
  readonly lossBytes: number;
}
/** The network takes as long as everything else: a few kills until it is through, in every phase. */
const QUICK: Network = { bytesPerSecond: 10_000_000, killsWithinMs: 2000, lossBytes: 6 << 20 };
/** One pull is killed again and again. */
const SLOW: Network = { bytesPerSecond: 500_000, killsWithinMs: 1000, lossBytes: 5 << 18 };

let scratch: string;
let layout: string;
let built: BuiltImage;
let expected: string[];
let layersBytes: number;
let seed = SEED;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "pull-kill-"));
  layout = join(scratch, "layout");
  built = await writeServedImage(layout, FILES);
  layersBytes = built.layers.reduce((sum, { size }) => sum + size, 0);
  const undisturbed = await pullKilled("undisturbed", 0, QUICK);
  expected = undisturbed.contents;
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** mulberry32 */
function random(): number {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
}

interface Campaign {
  readonly kills: number;
  readonly sentBytes: number;
  readonly contents: string[];
}

/** One pull into a new repository, killed until it gets through or `limit` is reached. */
async function pullKilled(name: string, limit: number, network: Network): Promise<Campaign> {
  const path = join(scratch, name);
  openScratchRepository(path)[Symbol.dispose]();
  let kills = 0;
  let child: ChildProcess | null = null;
  let killsAtByte = Number.POSITIVE_INFINITY;
  const { bytesPerSecond, killsWithinMs, lossBytes } = network;
  const behave = () => (kills < limit ? { bytesPerSecond } : {});
  await using server = await serveLayout(layout, built.manifest.digest, behave, (sentBytes) => {
    if (sentBytes >= killsAtByte) child?.kill("SIGKILL");
  });
  for (let isDone = false; !isDone; ) {
    const point = kills < limit ? random() : null;
    // Half of them at a byte, half of them at a time: not everything is downloading.
    const isByte = random() < 0.5;
    const withinBytes = Math.min(layersBytes / 2, (4 * bytesPerSecond * killsWithinMs) / 1000);
    killsAtByte = point !== null && isByte ? server.sentBytes + point * withinBytes : Infinity;
    const afterMs = point !== null && !isByte ? point * killsWithinMs : null;
    const started = startChild(path, server.reference, afterMs);
    child = started.child;
    const { code, signal } = await started.exit;
    isDone = code === 0;
    if (!isDone) {
      expect([code, signal], started.output()).toEqual([null, "SIGKILL"]);
      kills += 1;
    }
  }
  expect(listDownloads(path)).toEqual([]);
  using repo = openRepository(null, path);
  collectGarbage(repo, { roots: [], dryRun: false });
  expect(findDamage(repo)).toEqual([]);
  expect((await checkImages(repo, { metadataOnly: false })).findings).toEqual([]);
  expect(server.sentBytes).toBeLessThan(layersBytes + 65_536 + kills * lossBytes);
  const contents = listRepository(path);
  rmSync(path, { recursive: true });
  return { kills, sentBytes: server.sentBytes, contents };
}

function startChild(path: string, reference: string, afterMs: number | null) {
  const program = join(import.meta.dirname, "../support/pull-child.ts");
  const argv = [program, path, reference, join(scratch, "root")];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"] });
  const lines: string[] = [];
  let timer: NodeJS.Timeout | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      if (line === "begin" && afterMs !== null) {
        timer = setTimeout(() => child.kill("SIGKILL"), afterMs);
      }
    });
  }
  const exit = once(child, "close").then(([code, signal]) => {
    clearTimeout(timer);
    return { code: code as number | null, signal: signal as string | null };
  });
  return { child, exit, output: () => lines.join("\n") };
}

async function checkKilled(kills: number, network: Network): Promise<string> {
  let [left, pulls, sentBytes] = [kills, 0, 0];
  while (left > 0) {
    const campaign = await pullKilled(`${left}`, left, network);
    expect(campaign.contents).toEqual(expected);
    left -= campaign.kills;
    sentBytes += campaign.sentBytes;
    pulls += 1;
  }
  const fetched = (sentBytes / (pulls * layersBytes)).toFixed(3);
  return `${kills} kills in ${pulls} pulls, which fetched ${fetched} times their bytes`;
}

test.each([
  ["a quick network", QUICK],
  ["a slow network", SLOW],
])(
  "killed again and again, on %s, it ends with the same bytes",
  async (name, network) => {
    const report = await checkKilled(KILLS / 2, network);
    writeSync(2, `${name}: ${report} (${layersBytes} bytes)\n`);
  },
  IS_LONG ? 1_800_000 : 240_000,
);
