// Repairs of several things at once, from where the image comes, what a repair leaves alone, and what it says.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { StateError } from "../../shared/error.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { publishImage } from "../../shared/store/images.ts";
import { readObject, storeObject } from "../../shared/store/objects.ts";
import { setRef } from "../../shared/store/refs.ts";
import { openRepository } from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { publishImageStreams } from "../../updater/image/image-streams.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { previewRepair, repairRepository } from "../../updater/image/repair.ts";
import { openSource } from "../../updater/image/source.ts";
import { transformForOci } from "../../updater/image/transform.ts";
import { readImageTree } from "../../updater/image/tree.ts";
import {
  blob,
  built,
  check,
  configName,
  damage,
  deploymentId,
  document,
  good,
  kinds,
  layerFiles,
  layerName,
  layout,
  link,
  manifestName,
  path,
  repair,
  repo,
  stored,
  useRepository,
  userOf,
} from "../support/damaged-repository.ts";
import { blobFile, writeLayout } from "../support/oci-builder.ts";
import { checkAll, listContents } from "../support/repair-scenario.ts";
import { findDamage, listObjects, namedRefs } from "../support/repository-listing.ts";
import { makeOs } from "../support/small-os.ts";

const LIMIT_BYTES = 1 << 22;

useRepository();

describe("more than one thing at a time", () => {
  test("what was hidden behind damage is repaired as well", async () => {
    const before = listContents(repo.path);
    damage(layerFiles(1)[0]!);
    unlinkSync(stored(deploymentId));
    damage(document(configName()));
    const result = await repair();
    expect(result.remaining).toEqual([]);
    expect(kinds(result)).toEqual(["fetch-documents", "build-image"]);
    expect(listContents(repo.path)).toEqual(before);
  });

  test("a splitstream that comes out differently: everything refers to the new one", async () => {
    // As another program's zstd would have made it: the same content, other bytes.
    const old = readObject(repo, link(`streams/${layerName(1)}`), LIMIT_BYTES);
    const other = storeObject(repo, Buffer.concat([old, Buffer.from("padding")]));
    publishStream(repo, layerName(1), other);
    const image = await openSource(makeImageReference("oci", layout)).resolve();
    await publishImageStreams(repo, image, new Map());
    expect(await check()).toEqual([]);
    damage(other);
    const result = await repair();
    expect(result.remaining).toEqual([]);
    expect(kinds(result)).toEqual(["fetch-layer", "write-references", "remove-objects"]);
    expect(existsSync(stored(other))).toBe(false);
    expect(namedRefs(repo, manifestName()).get(built.layers[1]!.diffId)).not.toBe(other);
    expect(namedRefs(repo, configName()).get("composefs.image.boot.v1")).toBe(deploymentId);
    expect([await check(), findDamage(repo)]).toEqual([[], []]);
  });

  test("a deployment whose image no config knows", async () => {
    const refs = namedRefs(repo, configName());
    const image = await openSource(makeImageReference("oci", layout)).resolve();
    unlinkSync(path(`streams/${configName()}`));
    await publishImageStreams(repo, image, new Map());
    expect(namedRefs(repo, configName()).size).toBe(refs.size - 2);
    unlinkSync(stored(deploymentId));
    const result = await repair();
    expect(result.remaining).toEqual([]);
    expect(namedRefs(repo, configName()).get("composefs.image.boot.v1")).toBe(deploymentId);
    expect(existsSync(stored(deploymentId))).toBe(true);
  });

  test("of two images with the same layer, the one nobody uses does not get in the way", async () => {
    const image = await openSource(makeImageReference("oci", layout)).resolve();
    const manifestBytes = Buffer.from(
      JSON.stringify({ ...image.manifest, annotations: { a: "b" } }),
    );
    const manifestDigest = computeDigest(manifestBytes);
    const manifest = { ...image.manifest, annotations: { a: "b" } };
    await publishImageStreams(
      repo,
      { ...image, manifest, manifestBytes, manifestDigest },
      new Map(),
    );
    const before = listContents(repo.path);
    damage(layerFiles(1)[0]!);
    const result = await repair();
    expect([result.remaining, kinds(result)]).toEqual([[], ["fetch-layer"]]);
    expect(listContents(repo.path)).toEqual(before);
  });
});

test("an artifact of another program is none of our business", async () => {
  const image = await openSource(makeImageReference("oci", layout)).resolve();
  const config = { ...image.manifest.config, mediaType: "application/vnd.oci.empty.v1+json" };
  const manifest = { ...image.manifest, config };
  const manifestBytes = Buffer.from(JSON.stringify(manifest));
  const manifestDigest = computeDigest(manifestBytes);
  await publishImageStreams(repo, { ...image, manifest, manifestBytes, manifestDigest }, new Map());
  setRef(repo, "streams", "oci/artifact", `oci-manifest-${manifestDigest}`);
  const users = [userOf(), { ...userOf(null, null, manifestDigest), label: "artifact" }];
  damage(layerFiles(1)[0]!);
  expect(kinds(await repair(users))).toEqual(["fetch-layer"]);
});

test.each([
  ["V2 only, from before there were others", undefined, ["", ".boot"]],
  ["V2 and V1", { default: 2, extra: [1] }, ["", ".boot", ".boot.v1", ".v1"]],
])("a repository with images of format %s", async (_name, formats, suffixes) => {
  const meta = { version: 1, algorithm: "fsverity-sha512-12", erofs_formats: formats };
  mkdirSync(join(layout, "../old"));
  writeFileSync(join(layout, "../old/meta.json"), JSON.stringify(meta));
  using old = openRepository(null, join(layout, "../old"));
  const source = openSource(makeImageReference("oci", layout));
  const made = await makeBootImage(old, await pullImage(old, source));
  const refs = namedRefs(old, configName());
  const images = [...refs].filter(([name]) => name.startsWith("composefs.image")).sort();
  expect(images.map(([name]) => name)).toEqual(
    suffixes.map((suffix) => `composefs.image${suffix}`),
  );
  expect(refs.get("composefs.image.boot")).toBe(made.deploymentId);
  const before = listContents(old.path);
  for (const [, id] of images) rmSync(join(old.path, "objects", objectPath(id)));
  const users = [userOf(layout, made.deploymentId)];
  const result = await repairRepository(old, await checkAll(old), {
    users,
    source: null,
    open: openSource,
    check: () => checkAll(old),
  });
  expect([result.remaining, kinds(result).length]).toEqual([[], images.length]);
  expect(listContents(old.path)).toEqual(before);
});

describe("the plan", () => {
  test("is made without changing anything", async () => {
    damage(layerFiles(1)[0]!);
    damage(deploymentId);
    const before = listContents(repo.path);
    const findings = await check();
    expect(previewRepair(repo, findings, { users: [userOf()] })).toEqual([
      {
        kind: "fetch-layer",
        image: built.manifest.digest,
        diffId: built.layers[1]!.diffId,
        objects: [layerFiles(1)[0]!],
      },
      {
        kind: "build-image",
        image: built.manifest.digest,
        id: deploymentId,
        name: "composefs.image.boot.v1",
      },
    ]);
    expect(listContents(repo.path)).toEqual(before);
  });

  test("of a good repository is empty", async () => {
    const before = listContents(repo.path);
    const result = await repair();
    expect(result).toEqual({ steps: [], remaining: [] });
    expect(listContents(repo.path)).toEqual(before);
  });
});

/** Repairs in vain; the repository must not change. Returns what is said about the first problem. */
async function refused(...args: Parameters<typeof repair>) {
  const before = listContents(repo.path);
  const result = await repair(...args);
  expect(listContents(repo.path)).toEqual(before);
  expect(result.remaining.length).toBeGreaterThan(0);
  return result.remaining[0]!;
}

describe("where it comes from", () => {
  test("the source is gone", async () => {
    damage(layerFiles(1)[0]!);
    rmSync(layout, { recursive: true });
    const { finding, neededBy, reason, advice } = await refused();
    expect(finding.path).toBe(`objects/${objectPath(layerFiles(1)[0]!)}`);
    expect(neededBy).toEqual([`deployment x (image ${built.manifest.digest})`]);
    expect(reason).toContain(`There is no directory "${layout}"`);
    expect(advice).toContain(`"--source" (tried: ostree-unverified-image:oci:${layout})`);
  });

  test("nobody knows one", async () => {
    damage(layerFiles(1)[0]!);
    const { reason } = await refused([userOf(null)]);
    expect(reason).toBe(
      `Nobody knows where image ${built.manifest.digest} came from; name a place with "--source"`,
    );
  });

  test("it holds another image by now", async () => {
    rmSync(layout, { recursive: true });
    const [other] = writeLayout(layout, [{ ...(await makeOs()), annotations: { is: "another" } }]);
    rmSync(blobFile(layout, blob(1)));
    damage(layerFiles(1)[0]!);
    damage(document(manifestName()));
    const { reason, neededBy } = await refused();
    expect(reason).toContain(`It holds image ${other!.manifest.digest} by now`);
    expect(neededBy).toHaveLength(1);
  });

  test("it holds another image by now, and lacks a layer", async () => {
    writeLayout(layout, [{ ...(await makeOs()), annotations: { is: "another" } }]);
    rmSync(blobFile(layout, blob(1)));
    damage(layerFiles(1)[0]!);
    const { reason } = await refused();
    expect(reason).toContain("by now");
    expect(reason).toContain("is missing from the directory");
  });

  test("it holds another image by now, but still has the layer", async () => {
    const before = listContents(repo.path);
    damage(layerFiles(1)[0]!);
    writeLayout(layout, [{ ...(await makeOs()), annotations: { is: "another" } }]);
    expect((await repair()).remaining).toEqual([]);
    expect(listContents(repo.path)).toEqual(before);
  });

  test("its layer is damaged as well", async () => {
    damage(layerFiles(1)[0]!);
    const file = blobFile(layout, blob(1));
    const bytes = readFileSync(file);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(file, bytes);
    const result = await repair();
    expect(result.steps[0]!.error).toContain(`Blob ${blob(1)}`.replace("Blob", "Layer"));
    // Whether the file came before the fault or after it: it is as it was, or good.
    expect(findDamage(repo).length).toBeLessThanOrEqual(1);
    expect(listObjects(repo).length).toBe(listContents(join(good, "objects")).size);
  });

  test("the caller knows a better place", async () => {
    const before = listContents(repo.path);
    damage(layerFiles(1)[0]!);
    renameSync(layout, `${layout}-moved`);
    const moved = `${layout}-moved`;
    expect((await repair([userOf()], moved)).remaining).toEqual([]);
    expect(listContents(repo.path)).toEqual(before);
  });

  test("the second user's place is as good as the first's", async () => {
    damage(layerFiles(1)[0]!);
    const result = await repair([userOf("/no/such/place"), userOf()]);
    expect(result.remaining).toEqual([]);
  });
});

describe("what stays as it is", () => {
  test("an image that another program made", async () => {
    const foreign = publishImage(repo, await makeForeignImage());
    const image = await openSource(makeImageReference("oci", layout)).resolve();
    await publishImageStreams(repo, image, new Map([["composefs.image.boot", foreign]]));
    damage(foreign);
    const { finding, reason, neededBy } = await refused();
    expect(finding.object).toBe(foreign);
    expect(reason).toContain("another program made it");
    expect(neededBy).toHaveLength(1);
  });

  test("files that are not the repository's", async () => {
    mkdirSync(path("objects/zz"));
    writeFileSync(path("streams/note"), "");
    symlinkSync("/etc/passwd", path("images/odd"));
    const { neededBy, advice } = await refused();
    expect([neededBy, advice]).toEqual([[], "remove it: nothing can refer to it"]);
  });

  test("an object in whose place a directory lies", async () => {
    const [file] = layerFiles(1) as [string];
    unlinkSync(stored(file));
    mkdirSync(stored(file));
    writeFileSync(join(stored(file), "precious"), "");
    const { reason } = await refused();
    expect(reason).toContain("is a directory in the place of an object; move it away");
  });

  test("a damaged image that nobody uses, whose source nobody knows", async () => {
    for (const tag of readdirSync(path("streams/refs/oci")))
      unlinkSync(path(`streams/refs/oci/${tag}`));
    damage(layerFiles(1)[0]!);
    const { neededBy, reason, advice } = await refused([]);
    expect(neededBy).toEqual([`image ${built.manifest.digest}, which has no tag`]);
    expect(advice).toContain("garbage collection removes it");
    expect(reason).toContain("Nobody knows where");
  });

  test("damage in the place of garbage, when an image in use cannot be read", async () => {
    symlinkSync(`../objects/${objectPath("ab".repeat(64))}`, path("streams/oci-layer-sha256:0"));
    damage(document(configName()));
    rmSync(layout, { recursive: true });
    await refused();
  });
});

describe("interrupted", () => {
  test("by a signal: nothing half-done, and the next run finishes", async () => {
    const before = listContents(repo.path);
    damage(layerFiles(1)[0]!);
    const controller = new AbortController();
    const interrupted = repairRepository(repo, await check(), {
      users: [userOf()],
      source: null,
      signal: controller.signal,
      open: (reference) => {
        const source = openSource(reference);
        return {
          ...source,
          openLayer: async function* (layer, diffId) {
            controller.abort(new StateError("interrupted", "Interrupted by SIGINT"));
            yield* source.openLayer(layer, diffId);
          },
        };
      },
      check,
    });
    await expect(interrupted).rejects.toThrow("Interrupted by SIGINT");
    expect((await check()).map(({ kind }) => kind)).toContain("object-digest-mismatch");
    expect((await repair()).remaining).toEqual([]);
    expect(listContents(repo.path)).toEqual(before);
  });
});

/** Of the same layers, with something in it that our transformation does not make. */
async function makeForeignImage(): Promise<Uint8Array> {
  const { config } = await openSource(makeImageReference("oci", layout)).resolve();
  const tree = await readImageTree(repo, config.rootfs.diff_ids);
  transformForOci(tree);
  tree.entries.delete("boot");
  return writeErofs(tree, { version: 2, dialect: "rust" }, repo.algorithm);
}
