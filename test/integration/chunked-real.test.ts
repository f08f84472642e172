// zstd:chunked as skopeo and podman make it, from Debian's docker-registry, also through nginx: what is fetched
// is what was announced, and what is stored is what whole layers give.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { planImagePull, pullImage } from "../../updater/image/pull.ts";
import type { ByteRange, ImageSource } from "../../updater/image/resolved-image.ts";
import {
  FIRST,
  layerStreams,
  makeFilesTar,
  plain,
  pullLayout,
  repo,
  SECOND,
  scratch,
  useChunkedCase,
  writeOne,
} from "../support/chunked-case.ts";
import { runImageTool } from "../support/image-tools.ts";
import { passTo, startNginx } from "../support/registry-nginx.ts";
import { startRegistry } from "../support/registry-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { openServed } from "../support/server-pull.ts";
import { paxMember, type TarMember, tarMember } from "../support/tar-builder.ts";

useChunkedCase();

let directory: string;
let registry: ServerProcess;
/** In front of the registry. */
let nginx: ServerProcess;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "chunked-real-"));
  registry = await startRegistry({ directory, name: "registry" });
  const locations = passTo(`http://127.0.0.1:${registry.port}`);
  nginx = await startNginx({ directory, name: "nginx", locations });
}, 600_000);
afterAll(async () => {
  await nginx?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const name = (tag: string, { port } = registry) => `127.0.0.1:${port}/os:${tag}`;
const FORCED = ["--dest-compress-format", "zstd:chunked", "--dest-force-compress-format"];

async function copyWithSkopeo(layout: string, tag: string): Promise<void> {
  const target = ["--dest-tls-verify=false", `oci:${layout}:v1`, `docker://${name(tag)}`];
  await runImageTool(["skopeo", "copy", "--quiet", ...FORCED, ...target]);
}

async function pushWithPodman(layout: string, tag: string): Promise<void> {
  const own = join(scratch, "podman");
  const storage = ["--root", `${own}/root`, "--runroot", `${own}/run`, "--storage-driver", "vfs"];
  const podman = (...argv: string[]) => runImageTool(["podman", ...storage, ...argv]);
  const id = (await podman("pull", "--quiet", `oci:${layout}:v1`)).trim();
  const format = ["--compression-format", "zstd:chunked", "--force-compression"];
  await podman("push", "--quiet", "--tls-verify=false", ...format, id, `docker://${name(tag)}`);
}

/** `source`, with the bytes that come by ranges counted. */
function countRanges(source: ImageSource): { source: ImageSource; fetchedBytes: () => number } {
  let bytes = 0;
  async function* openRange(
    layer: Parameters<NonNullable<ImageSource["openRange"]>>[0],
    range: ByteRange,
    signal?: AbortSignal,
  ) {
    for await (const chunk of source.openRange!(layer, range, signal)) {
      bytes += chunk.length;
      yield chunk;
    }
  }
  return { source: { ...source, openRange }, fetchedBytes: () => bytes };
}

/** What a tar of a distribution has besides files, and what a compressor may treat in its own way. */
const ODDITIES: readonly TarMember[] = [
  { name: "usr/holes", content: Buffer.concat([Buffer.alloc(3_000_000), Buffer.from("x")]) },
  { name: "usr/hard", type: "1", linkName: "usr/f1" },
  { name: "usr/soft", type: "2", linkName: "f1" },
  { name: "usr/fifo", type: "6" },
  { name: "usr/device", type: "3", device: [1, 3] },
  { name: "usr/.wh.gone", content: "" },
  { name: Buffer.from("usr/b\xe4d", "latin1"), content: "not UTF-8" },
];
const LONG = Buffer.concat([
  paxMember([
    ["path", `usr/${"long/".repeat(30)}name`.replaceAll("long/", "long-")],
    ["SCHILY.xattr.user.x", Buffer.from([0xff, 0, 1])],
  ]),
  tarMember({ name: "usr/short", content: "long name" }),
]);

const firstTar = makeFilesTar(FIRST);
const secondTar = Buffer.concat([LONG, makeFilesTar(SECOND, ODDITIES)]);

test.each([
  ["skopeo", copyWithSkopeo, () => registry],
  ["podman", pushWithPodman, () => registry],
  ["skopeo-nginx", copyWithSkopeo, () => nginx],
] as const)("by %s", { timeout: 300_000 }, async (tool, publish, server) => {
  const first = writeOne("first", [{ tar: firstTar, compression: "gzip" }]);
  const second = writeOne("second", [{ tar: secondTar, compression: "gzip" }]);
  await publish(first.path, `${tool}-1`);
  await publish(second.path, `${tool}-2`);

  for (const [tag, image, method] of [
    ["1", first, "whole"],
    ["2", second, "partial"],
  ] as const) {
    await using served = openServed(name(`${tool}-${tag}`, server()), scratch);
    const planning = countRanges(served);
    const plan = await planImagePull(repo, planning.source, await served.resolve());
    expect(plan.layers).toMatchObject([{ method, written: { isExact: true } }]);
    expect(planning.fetchedBytes()).toBe(plan.planningBytes);
    const pulling = countRanges(served);
    await pullImage(repo, pulling.source);
    expect(pulling.fetchedBytes()).toBe(plan.fetchBytes + plan.planningBytes);
    if (method === "partial") expect(plan.fetchBytes).toBeLessThan(110_000);
    await pullLayout(plain, image.path);
    expect(layerStreams(repo, image.built)).toEqual(layerStreams(plain, image.built));
  }
  expect(findDamage(repo)).toEqual([]);
});
