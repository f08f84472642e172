// Updates from a server that are interrupted: the machine boots what it did, what was fetched stays for the
// next attempt and nothing else does, and a staged update takes it away.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { collectGarbage } from "../../shared/store/gc.ts";
import { type UpdateObserver, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import type { Behaviour, RangeServer } from "../support/range-server.ts";
import { serveLayout } from "../support/range-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { listDownloads, listRepository, openServed } from "../support/server-pull.ts";

const MiB = 1 << 20;
const quiet: UpdateObserver = { onProgress: () => {}, onStep: () => {} };

let machine: ScratchMachine;
let running: RunningMachine;
let layout: string;
/** The repository before any update. */
let before: string[];

beforeEach(async () => {
  machine = new ScratchMachine();
  const installed = join(machine.directory, "old.oci");
  writeScratchImage(installed, { version: "1" });
  await installScratch(machine, installed);
  running = machine.boot();
  collectGarbage(running.repo, { roots: [running.booted.id], dryRun: false });
  before = listRepository(running.repo.path);
  layout = join(machine.directory, "new.oci");
  const content = createHash("shake256", { outputLength: 6 * MiB })
    .update("2")
    .digest();
  writeScratchImage(layout, { version: "2", members: [{ name: "usr/noise", content }] });
});
afterEach(() => {
  running[Symbol.dispose]();
  machine[Symbol.dispose]();
});

function serve(behaviour: Behaviour = {}): Promise<RangeServer> {
  const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8"));
  // The first blob is the config.
  return serveLayout(layout, index.manifests[0].digest, (request) =>
    request.index === 0 ? {} : behaviour,
  );
}

async function update(server: RangeServer, observer = quiet) {
  await using source = openServed(server.reference, join(machine.directory, "root"));
  // A transport that needs no policy.json; where the bytes come from is the source.
  const reference = makeImageReference("oci", layout);
  const request = { kind: "upgrade", reference, source } as const;
  const options = { checkOnly: false, downloadOnly: false, dryRun: false };
  return await updateImage(running, running.booted, { ...request, ...options }, observer);
}

const entries = () => readdirSync(join(machine.esp, "loader"));
/** All but the downloads. */
const repository = () =>
  listRepository(running.repo.path).filter((path) => !path.startsWith("bootc-downloads"));

describe("an interrupted update", () => {
  test("keeps what it fetched, and the next one goes on from there", async () => {
    await using server = await serve();
    const bootEntries = entries();
    const controller = new AbortController();
    const interrupted = update(server, {
      ...quiet,
      signal: controller.signal,
      onProgress: ({ bytes }) => {
        if (bytes > 3 * MiB) controller.abort(new Error("stop"));
      },
    });
    await expect(interrupted).rejects.toThrow(/^stop$/);
    expect(entries()).toEqual(bootEntries);
    expect(repository()).toEqual(before);
    expect(listDownloads(running.repo.path)).toEqual([expect.stringMatching(/\.part$/)]);
    expect(findDamage(running.repo)).toEqual([]);
    const sentBytes = server.sentBytes;
    await expect(update(server)).resolves.toMatchObject({ kind: "staged" });
    expect(server.sentBytes - sentBytes).toBeLessThan(4 * MiB);
    expect(existsSync(join(running.repo.path, "bootc-downloads"))).toBe(false);
    expect(findDamage(running.repo)).toEqual([]);
  });

  test("while its boot image is made: the layers stay, and are not fetched again", async () => {
    await using server = await serve();
    const controller = new AbortController();
    const interrupted = update(server, {
      ...quiet,
      signal: controller.signal,
      onStep: () => controller.abort(new Error("stop")),
    });
    await expect(interrupted).rejects.toThrow(/^stop$/);
    const sentBytes = server.sentBytes;
    await expect(update(server)).resolves.toMatchObject({ kind: "staged" });
    expect(server.sentBytes - sentBytes).toBeLessThan(64 * 1024);
    expect(existsSync(join(running.repo.path, "bootc-downloads"))).toBe(false);
  });

  test("of which nothing had arrived leaves nothing", async () => {
    await using server = await serve({ isSilent: true });
    const controller = new AbortController();
    const interrupted = update(server, {
      ...quiet,
      signal: controller.signal,
      onProgress: () => controller.abort(new Error("stop")),
    });
    await expect(interrupted).rejects.toThrow(/^stop$/);
    expect(listRepository(running.repo.path)).toEqual(before);
  });
});

test("an update whose bytes are wrong leaves nothing", async () => {
  await using server = await serve({ isCorrupt: true });
  const error = await update(server).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ kind: "integrity" });
  expect(listRepository(running.repo.path)).toEqual(before);
});
