// Ctrl-C and SIGTERM for the real program while it pulls: it ends whatever the server does, with no wait
// of its own to its end, leaves no lock and nothing half-done, and the next run goes on.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { BuiltImage } from "../support/oci-builder.ts";
import { type Behaviour, type RangeServer, serveLayout } from "../support/range-server.ts";
import { insecureConf } from "../support/registry-access.ts";
import { findDamage } from "../support/repository-listing.ts";
import { listDownloads, openScratchRepository, writeServedImage } from "../support/server-pull.ts";

const MAIN = resolve(import.meta.dirname, "../../main.ts");

let scratch: string;
let layout: string;
let built: BuiltImage;
let path: string;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "pull-cancel-"));
  layout = join(scratch, "layout");
  built = await writeServedImage(layout, 12);
  writeFileSync(join(scratch, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
});
afterAll(() => rmSync(scratch, { recursive: true }));
beforeEach(() => {
  path = mkdtempSync(join(scratch, "case-"));
  openScratchRepository(join(path, "repo"))[Symbol.dispose]();
});

/** `bootc internals cfs oci pull` of what the server has. */
function startPull(server: RangeServer) {
  const registries = join(path, "registries.conf");
  writeFileSync(registries, insecureConf(server.host));
  const environment = {
    HOME: path,
    CONTAINERS_REGISTRIES_CONF: registries,
    CONTAINERS_POLICY_JSON: join(scratch, "policy.json"),
  };
  const verb = ["--repo", join(path, "repo"), "oci", "pull", `docker://${server.reference}`, "x"];
  const child = spawn(process.execPath, [MAIN, "internals", "cfs", ...verb], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data: Buffer) => {
      output += data.toString();
    });
  }
  const exit = once(child, "close").then(([code]) => ({ code: code as number | null, output }));
  return { child, exit };
}

const QUICK: Behaviour = {};
const CASES: readonly [string, Behaviour][] = [
  ["a server that does not answer", { isSilent: true }],
  ["bodies that stall", { stallAfter: 100_000 }],
  ["a wait before the next attempt", { status: 503 }],
  ["a slow server", { bytesPerSecond: 100_000 }],
  ["a quick server", QUICK],
];

test.each(
  CASES.flatMap(([name, behaviour]) =>
    (["SIGINT", "SIGTERM"] as const).map((signal) => [signal, name, behaviour] as const),
  ),
)("%s: %s", async (signal, _, behaviour) => {
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  await using server = await serveLayout(layout, built.manifest.digest, ({ index }) => {
    // The config, and the first connections of the layers.
    if (index >= 3) ask();
    return index === 0 ? {} : behaviour;
  });
  const { child, exit } = startPull(server);
  await Promise.race([asked, exit]);
  child.kill(signal);
  const { code, output } = await exit;
  // Quick as the server is, everything may be there before the signal is.
  if (behaviour === QUICK && code === 0) expect(output).toContain("tagged   x");
  else
    expect({ code, output }).toEqual({
      code: 1,
      output: expect.stringContaining(`Interrupted by ${signal}`),
    });

  const repo = openScratchRepository(join(path, "repo"));
  expect(findDamage(repo)).toEqual([]);
  repo[Symbol.dispose]();
  expect(readdirSync(join(path, "repo")).filter((name) => name.startsWith("."))).toEqual([]);
  // What a killed writer would have left.
  const objects = readdirSync(join(path, "repo"), { recursive: true, encoding: "utf8" });
  expect(objects.filter((name) => name.includes(".tmp-"))).toEqual([]);
});

test("before anything is known about the image", async () => {
  const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
  await using server = await serveLayout(layout, built.manifest.digest, () => {
    ask();
    return { isSilent: true };
  });
  const { child, exit } = startPull(server);
  await Promise.race([asked, exit]);
  child.kill("SIGINT");
  const { code, output } = await exit;
  expect(output).toContain("Interrupted by SIGINT");
  expect(code).toBe(1);
  expect(readdirSync(join(path, "repo"))).toEqual(["meta.json"]);
});

test("the next run goes on", async () => {
  {
    await using server = await serveLayout(
      layout,
      built.manifest.digest,
      () => ({ bytesPerSecond: 3_000_000 }),
      (sentBytes) => {
        // Once: a second signal ends the program at once.
        if (sentBytes > 4_000_000 && !pull.child.killed) pull.child.kill("SIGINT");
      },
    );
    const pull = startPull(server);
    expect((await pull.exit).code).toBe(1);
  }
  await using server = await serveLayout(layout, built.manifest.digest);
  const { code, output } = await startPull(server).exit;
  expect(output).toContain("tagged   x");
  expect(code).toBe(0);
  const layersBytes = built.layers.reduce((sum, { size }) => sum + size, 0);
  expect(server.sentBytes).toBeLessThan(layersBytes - 2_000_000);
  expect(listDownloads(join(path, "repo"))).toEqual([]);
});
