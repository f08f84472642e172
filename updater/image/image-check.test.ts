// What can be wrong with the OCI images in a repository that is sound in itself.

import { appendFileSync, mkdtempSync, rmSync, symlinkSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { checkRepository } from "../../shared/store/fsck.ts";
import { readObject, storeObject } from "../../shared/store/objects.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { publishStream, streamObject } from "../../shared/store/streams.ts";
import { type BuiltImage, writeLayout } from "../../test/support/oci-builder.ts";
import { namedRefs } from "../../test/support/repository-listing.ts";
import { makeOs } from "../../test/support/small-os.ts";
import { computeImageId, makeBootImage } from "./boot-image.ts";
import { checkImages } from "./image-check.ts";
import { readConfigOf, readNamedManifest } from "./named-image.ts";
import { type PulledImage, pullImage } from "./pull.ts";
import { makeImageReference } from "./reference.ts";
import { openSource } from "./source.ts";

const LIMIT_BYTES = 1 << 20;
let scratch: string;
let repo: Repository;
let built: BuiltImage;
let pulled: PulledImage;
let deploymentId: string;
let manifestStream: string;
let configStream: string;
let layerStream: string;

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), "image-check-"));
  const layout = join(scratch, "layout");
  [built] = writeLayout(layout, [await makeOs()]) as [BuiltImage];
  repo = ensureRepository(null, join(scratch, "repo"), { algorithm: "sha512", secure: false });
  pulled = await pullImage(repo, openSource(makeImageReference("oci", layout)));
  ({ deploymentId } = await makeBootImage(repo, pulled));
  manifestStream = `oci-manifest-${built.manifest.digest}`;
  configStream = `oci-config-${built.config.digest}`;
  layerStream = `oci-layer-${built.layers[0]!.diffId}`;
});
afterEach(() => {
  repo[Symbol.dispose]();
  rmSync(scratch, { recursive: true, force: true });
});

const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const stored = (digest: string) => join(repo.path, "objects", objectPath(digest));
const path = (name: string) => join(repo.path, "streams", name);

/** A stream of these objects in the place of another. */
async function replaceStream(
  name: string,
  type: "ocimanif" | "ociconfg" | "ocilayer",
  contents: readonly (Uint8Array | string)[],
  refs: ReadonlyMap<string, string>,
): Promise<string> {
  using writer = new SplitStreamWriter("sha512", type);
  for (const content of contents) {
    const digest = typeof content === "string" ? content : storeObject(repo, content);
    writer.writeExternal(digest, content.length);
  }
  for (const [key, digest] of refs) writer.addNamedRef(key, digest);
  const digest = storeObject(repo, Buffer.concat(await writer.finish()));
  publishStream(repo, name, digest);
  return digest;
}

const without = (refs: ReadonlyMap<string, string>, key: string) =>
  new Map([...refs].filter(([name]) => name !== key));

/** Publishes an image whose config is this; returns the names of its streams. */
async function publishConfig(config: Buffer): Promise<{ manifest: string; config: string }> {
  const digest = computeDigest(config);
  const manifest = json({
    ...pulled.manifest,
    config: { ...pulled.manifest.config, digest, size: config.length },
  });
  const refs = new Map(pulled.config.rootfs.diff_ids.map((id) => [id, streamOf(id)]));
  const names = {
    manifest: `oci-manifest-${computeDigest(manifest)}`,
    config: `oci-config-${digest}`,
  };
  const stream = await replaceStream(names.config, "ociconfg", [config], refs);
  refs.set(`config:${digest}`, stream);
  await replaceStream(names.manifest, "ocimanif", [manifest], refs);
  return names;
}

const streamOf = (diffId: string) => streamObject(repo, `oci-layer-${diffId}`)!;

async function findings(metadataOnly = false): Promise<string[]> {
  const report = await checkImages(repo, { metadataOnly });
  return report.findings.map((each) => `${each.kind} ${each.path}`);
}

test("a good image has no findings, in the repository neither", async () => {
  expect(await checkImages(repo, { metadataOnly: false })).toEqual({
    findings: [],
    checked: { tags: 1, manifests: 1, layers: 3 },
  });
  expect(checkRepository(repo, { metadataOnly: false }).findings).toEqual([]);
});

test("is read back as it was pulled, and gives the same image id", async () => {
  const named = readNamedManifest(repo, `@${built.manifest.digest}`);
  const [{ manifest }, { config }] = [named, readConfigOf(repo, named)];
  expect({ manifest, config }).toEqual({ manifest: pulled.manifest, config: pulled.config });
  const { diff_ids: diffIds } = config.rootfs;
  expect(await computeImageId(repo, diffIds, { bootable: true })).toBe(deploymentId);
  const plainId = namedRefs(repo, configStream).get("composefs.image.v1");
  expect(await computeImageId(repo, diffIds, { bootable: false })).toBe(plainId);
});

const DAMAGE: readonly [string, () => unknown, () => readonly string[]][] = [
  [
    "a tag with a name no tag has",
    () => symlinkSync(`../../${manifestStream}`, path("refs/oci/@tag")),
    () => ["invalid-ref-name streams/refs/oci/@tag"],
  ],
  [
    "a tag of nothing",
    () => symlinkSync("../../oci-manifest-sha256:0", path("refs/oci/tag")),
    () => ["ref-resolve-failed streams/refs/oci/tag"],
  ],
  [
    "a tag of something else",
    () => symlinkSync(`../../${configStream}`, path("refs/oci/tag")),
    () => ["ref-resolve-failed streams/refs/oci/tag"],
  ],
  [
    "a manifest of two objects",
    () => replaceStream(manifestStream, "ocimanif", [json(1), json(2)], new Map()),
    () => [`manifest-read-failed streams/${manifestStream}`],
  ],
  [
    "another manifest",
    () => replaceStream(manifestStream, "ocimanif", [json({})], namedRefs(repo, manifestStream)),
    () => [`manifest-digest-mismatch streams/${manifestStream}`],
  ],
  [
    "a manifest that is none",
    () =>
      replaceStream(`oci-manifest-${computeDigest(json({}))}`, "ocimanif", [json({})], new Map()),
    () => [`manifest-parse-failed streams/oci-manifest-${computeDigest(json({}))}`],
  ],
  [
    "a manifest without its config",
    () =>
      replaceStream(
        manifestStream,
        "ocimanif",
        [Buffer.from(pulled.manifestBytes)],
        without(namedRefs(repo, manifestStream), `config:${built.config.digest}`),
      ),
    () => [`config-ref-missing streams/${manifestStream}`],
  ],
  [
    "a config without its stream",
    () => unlinkSync(path(configStream)),
    () => [`config-read-failed streams/${configStream}`],
  ],
  [
    "another config",
    () => replaceStream(configStream, "ociconfg", [json({})], new Map()),
    () => [`config-digest-mismatch streams/${configStream}`],
  ],
  [
    "an image of the config without its name",
    () => unlinkSync(join(repo.path, "images", deploymentId)),
    () => [`image-open-failed images/${deploymentId}`],
  ],
  [
    "a manifest without one of its layers",
    () =>
      replaceStream(
        manifestStream,
        "ocimanif",
        [Buffer.from(pulled.manifestBytes)],
        without(namedRefs(repo, manifestStream), built.layers[0]!.diffId),
      ),
    () => [`layer-ref-missing streams/${manifestStream}`],
  ],
  [
    "a config without one of its layers",
    () =>
      replaceStream(
        configStream,
        "ociconfg",
        [Buffer.from(pulled.configBytes)],
        without(namedRefs(repo, configStream), built.layers[1]!.diffId),
      ),
    () => [`layer-ref-missing streams/${configStream}`],
  ],
  [
    "a layer without its stream",
    () => unlinkSync(path(layerStream)),
    () => [`layer-stream-missing streams/${layerStream}`],
  ],
  [
    "a layer that is another",
    () => publishStream(repo, layerStream, streamOf(built.layers[1]!.diffId)),
    () => [`layer-check-failed streams/${layerStream}`],
  ],
  [
    "a layer whose splitstream is damaged",
    () => appendFileSync(stored(streamObject(repo, layerStream)!), "x"),
    () => [`layer-check-failed streams/${layerStream}`],
  ],
  [
    "a layer without one of its files",
    () => {
      const stream = readObject(repo, streamObject(repo, layerStream)!, LIMIT_BYTES);
      unlinkSync(stored(readSplitStreamRefs(stream).objectRefs[0]!));
    },
    () => [`layer-object-missing streams/${layerStream}`],
  ],
];
test.each(DAMAGE)("%s", async (_name, damage, expected) => {
  await damage();
  expect(await findings()).toEqual(expected());
});

test("a config that is none", async () => {
  const names = await publishConfig(json({ rootfs: 1 }));
  expect(await findings()).toEqual([`config-parse-failed streams/${names.config}`]);
});

test("a config that names an image", async () => {
  const seal = (image: string) =>
    publishConfig(
      json({ ...pulled.config, config: { Labels: { "containers.composefs.fsverity": image } } }),
    );
  await seal(deploymentId);
  expect(await findings()).toEqual([]);
  const names = await seal("ab".repeat(64));
  expect(await findings()).toEqual([`seal-image-missing streams/${names.config}`]);
});

test("what only reading everything finds is left out on demand", async () => {
  publishStream(repo, layerStream, streamOf(built.layers[1]!.diffId));
  expect(await findings(true)).toEqual([]);
});

test("an artifact that another program stored is no image, but has layers", async () => {
  const artifact = json({
    schemaVersion: 2,
    config: { ...pulled.manifest.config, mediaType: "application/vnd.oci.empty.v1+json" },
    layers: pulled.manifest.layers,
  });
  const name = `oci-manifest-${computeDigest(artifact)}`;
  const digests = pulled.manifest.layers.map(({ digest }) => digest);
  const blob = await replaceStream("oci-layer-x", "ocilayer", [Buffer.from("blob")], new Map());
  const refs = new Map(digests.map((digest) => [digest, blob]));
  await replaceStream(name, "ocimanif", [artifact], refs);
  expect(await findings()).toEqual([]);
  await replaceStream(name, "ocimanif", [artifact], without(refs, digests[0]!));
  expect(await findings()).toEqual([`artifact-layer-ref-missing streams/${name}`]);
  const { objectRefs } = readSplitStreamRefs(readObject(repo, blob, LIMIT_BYTES));
  for (const object of [...objectRefs, blob]) {
    unlinkSync(stored(object));
    await replaceStream(name, "ocimanif", [artifact], new Map([[digests[0]!, blob]]));
    const missing = `artifact-layer-object-missing streams/${name}`;
    expect((await findings()).filter((line) => line.startsWith("artifact-layer-o"))).toEqual([
      missing,
    ]);
  }
});
