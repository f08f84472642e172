// For tests of zstd:chunked pulls: a repository that has the first version of an image, a server with
// the second, and a second repository that gets everything from the layout, to compare with. As with
// pull-case.ts the importing file sees the values of the test that runs.

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import type { Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { planImagePull, pullImage } from "../../updater/image/pull.ts";
import type { PullPlan } from "../../updater/image/pull-plan.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { type BuiltImage, writeLayout } from "./oci-builder.ts";
import { type Behaviour, type BlobRequest, serveLayout } from "./range-server.ts";
import { findDamage } from "./repository-listing.ts";
import { openScratchRepository, openServed } from "./server-pull.ts";
import { TAR_END, type TarMember, tarMember } from "./tar-builder.ts";

export let scratch: string;
export let repo: Repository;
/** Gets whole layers only. */
export let plain: Repository;

/** To be called once, at the top of the test file. */
export function useChunkedCase(): void {
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "chunked-"));
    repo = openScratchRepository(join(scratch, "repo"));
    plain = openScratchRepository(join(scratch, "plain"));
  });
  afterEach(() => {
    repo[Symbol.dispose]();
    plain[Symbol.dispose]();
    rmSync(scratch, { recursive: true, force: true });
  });
}

export function noise(seed: string, sizeBytes: number): Buffer {
  return createHash("shake256", { outputLength: sizeBytes }).update(seed).digest();
}

/** Path -> content. */
export type Files = Readonly<Record<string, Buffer>>;

const KERNEL = "usr/lib/modules/6.1/vmlinuz";
const INITRAMFS = "usr/lib/modules/6.1/initramfs.img";

/** 60 files of up to 60 kB, one of 1.5 MB, a kernel, a few small ones. */
export const FIRST: Files = {
  ...Object.fromEntries(
    Array.from({ length: 60 }, (_, i) => [`usr/f${i}`, noise(`${i}`, 300 + i * 1000)]),
  ),
  "usr/huge": noise("huge", 1_500_000),
  "usr/tiny": Buffer.from("tiny"),
  "usr/empty": Buffer.alloc(0),
  [KERNEL]: noise("kernel", 200_000),
  [INITRAMFS]: noise("initramfs", 300_000),
};

/** One file changed, one renamed, one new, one of a few bytes; two of the same new content. */
export const SECOND: Files = {
  ...FIRST,
  "usr/f7": noise("changed", 300 + 7 * 1000),
  "usr/f8": Buffer.alloc(0),
  "usr/renamed": FIRST["usr/f8"]!,
  "usr/new": noise("new", 70_000),
  "usr/also": noise("new", 70_000),
  "usr/small": Buffer.from("new and small"),
};

export function makeFilesTar(files: Files, rest: readonly TarMember[] = []): Buffer {
  const directories = ["usr/", "usr/lib/", "usr/lib/modules/", "usr/lib/modules/6.1/"];
  return Buffer.concat([
    ...directories.map((name) => tarMember({ name, type: "5", mode: 0o755 })),
    ...Object.entries(files).map(([name, content]) => tarMember({ name, content, mode: 0o644 })),
    ...rest.map(tarMember),
    TAR_END,
  ]);
}

/** Writes a layout of one image; returns it. */
export function writeOne(name: string, layers: Parameters<typeof writeLayout>[1][0]["layers"]) {
  const path = join(scratch, name);
  const [built] = writeLayout(path, [{ layers, tag: "v1" }]);
  return { path, built: built! };
}

export async function pullLayout(into: Repository, path: string): Promise<void> {
  await using source = openSource(makeImageReference("oci", `${path}:v1`));
  await pullImage(into, source);
}

export interface ServedPull {
  readonly plan: PullPlan;
  /** Bytes of blobs that came for the plan and for the pull, without the config. */
  readonly planBytes: number;
  readonly pullBytes: number;
  readonly requests: readonly BlobRequest[];
}

/** Plans, then pulls as another process would, from a server with the layout. */
export async function pullServed(
  { path, built }: { readonly path: string; readonly built: BuiltImage },
  behave?: (request: BlobRequest) => Behaviour,
  into: Repository = repo,
): Promise<ServedPull> {
  await using server = await serveLayout(path, built.manifest.digest, behave);
  const open = () => openServed(server.reference, join(scratch, "config"));
  let plan: PullPlan;
  {
    await using source = open();
    plan = await planImagePull(into, source, await source.resolve());
  }
  const planBytes = server.sentBytes - built.config.size;
  {
    await using source = open();
    await pullImage(into, source, { patience: 0 });
  }
  const pullBytes = server.sentBytes - planBytes - 2 * built.config.size;
  return { plan, planBytes, pullBytes, requests: server.requests };
}

/** What each layer's stream is in a repository, null when it is not there. */
export function layerStreams(of: Repository, { layers }: BuiltImage) {
  return layers.map(({ diffId }) => streamObject(of, `oci-layer-${diffId}`));
}

export const firstTar = makeFilesTar(FIRST);
export const secondTar = makeFilesTar(SECOND);

/** The repository has the first version. */
export async function pullFirst(): Promise<void> {
  await pullLayout(repo, writeOne("first", [{ tar: firstTar, compression: "gzip" }]).path);
}

/** The repository's layers are those of a pull of whole layers. */
export async function expectSame({ path, built }: ReturnType<typeof writeOne>): Promise<void> {
  await pullLayout(plain, path);
  expect(layerStreams(repo, built)).toEqual(layerStreams(plain, built));
  expect(layerStreams(repo, built)).not.toContain(null);
  expect(findDamage(repo)).toEqual([]);
}
