// A good repository with one image, copied for every test: to be damaged, and repaired from the layout that
// lies beside it.

import { appendFileSync, cpSync, existsSync, mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { readObject } from "../../shared/store/objects.ts";
import {
  ensureRepository,
  openRepository,
  type Repository,
} from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { type RepairResult, repairRepository } from "../../updater/image/repair.ts";
import type { ImageUser } from "../../updater/image/repair-source.ts";
import type { ImageSource } from "../../updater/image/resolved-image.ts";
import { openSource } from "../../updater/image/source.ts";
import { type BuiltImage, writeLayout } from "./oci-builder.ts";
import { checkAll } from "./repair-scenario.ts";
import { makeOs } from "./small-os.ts";

const LIMIT_BYTES = 1 << 22;
let scratch: string;
export let built: BuiltImage;
export let deploymentId: string;
/** Made once, copied for every test. */
export let good: string;
export let layout: string;
export let repo: Repository;
/** Blobs that were read from the source. */
export let fetched: string[];

/** A fresh copy for every test of the file. */
export function useRepository(): void {
  beforeAll(async () => {
    // In memory where that is possible: every step of every repair is synced.
    scratch = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "repair-"));
    good = join(scratch, "good");
    [built] = writeLayout(join(scratch, "image"), [await makeOs()]) as [BuiltImage];
    using made = ensureRepository(null, good, { algorithm: "sha512", secure: false });
    const source = openSource(makeImageReference("oci", join(scratch, "image")));
    ({ deploymentId } = await makeBootImage(made, await pullImage(made, source)));
    collectGarbage(made, { roots: [deploymentId], dryRun: false });
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  beforeEach(() => {
    const directory = mkdtempSync(join(scratch, "case-"));
    cpSync(good, join(directory, "repo"), { recursive: true, verbatimSymlinks: true });
    layout = join(directory, "layout");
    cpSync(join(scratch, "image"), layout, { recursive: true });
    repo = openRepository(null, join(directory, "repo"));
    fetched = [];
  });
  afterEach(() => {
    repo[Symbol.dispose]();
    rmSync(join(repo.path, ".."), { recursive: true });
  });
}

export const path = (name: string) => join(repo.path, name);
export const stored = (digest: string) => path(`objects/${objectPath(digest)}`);
export const damage = (digest: string) => appendFileSync(stored(digest), "x");
export const link = (name: string) => {
  const [, prefix, rest] = /objects\/(..)\/(.*)$/.exec(readlinkSync(path(name)))!;
  return `${prefix}${rest}`;
};
export const manifestName = () => `oci-manifest-${built.manifest.digest}`;
export const configName = () => `oci-config-${built.config.digest}`;
export const layerName = (index = 0) => `oci-layer-${built.layers[index]!.diffId}`;
const objectsOf = (name: string) =>
  readSplitStreamRefs(readObject(repo, streamObject(repo, name)!, LIMIT_BYTES)).objectRefs;
export const layerFiles = (index = 0) => objectsOf(layerName(index));
export const document = (name: string) => objectsOf(name)[0]!;

export function userOf(
  image: string | null = layout,
  id: string | null = deploymentId,
  manifestDigest = built.manifest.digest,
): ImageUser {
  const reference = image === null ? null : makeImageReference("oci", image);
  return { label: "deployment x", manifestDigest, reference, deploymentId: id };
}

export async function check(): Promise<readonly Finding[]> {
  return await checkAll(repo);
}

const watchedSource = (reference: Parameters<typeof openSource>[0]): ImageSource => {
  const source = openSource(reference);
  return {
    ...source,
    openLayer: (layer, diffId) => {
      fetched.push(layer.digest);
      return source.openLayer(layer, diffId);
    },
  };
};

export async function repair(
  users: readonly ImageUser[] = [userOf()],
  source: string | null = null,
): Promise<RepairResult> {
  return await repairRepository(repo, await check(), {
    users,
    source: source === null ? null : makeImageReference("oci", source),
    open: watchedSource,
    check,
  });
}

export const kinds = (result: RepairResult) => result.steps.map(({ step }) => step.kind);
export const blob = (index: number) => built.layers[index]!.digest;
