// One damage after another, and a repair that puts everything back as it was.

import { readdirSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { storeObject } from "../../shared/store/objects.ts";
import { publishStream } from "../../shared/store/streams.ts";
import {
  blob,
  check,
  configName,
  damage,
  deploymentId,
  document,
  fetched,
  kinds,
  layerFiles,
  layerName,
  link,
  manifestName,
  path,
  repair,
  repo,
  stored,
  useRepository,
} from "../support/damaged-repository.ts";
import { listContents } from "../support/repair-scenario.ts";
import { namedRefs } from "../support/repository-listing.ts";

useRepository();

/** What is done, the steps it takes, and the layers that are fetched. */
const DAMAGE: readonly [string, () => unknown, readonly string[], () => readonly string[]][] = [
  [
    "a file of a layer is changed",
    () => damage(layerFiles(1)[0]!),
    ["fetch-layer"],
    () => [blob(1)],
  ],
  [
    "a file of a layer is gone",
    () => unlinkSync(stored(layerFiles()[0]!)),
    ["fetch-layer"],
    () => [blob(0)],
  ],
  [
    "files of two layers are damaged in several ways",
    () => {
      const [first, second] = layerFiles(1) as [string, string];
      damage(first);
      unlinkSync(stored(second));
      unlinkSync(stored(layerFiles()[0]!));
      symlinkSync("/etc/passwd", stored(layerFiles()[0]!));
    },
    ["fetch-layer", "fetch-layer"],
    () => [blob(0), blob(1)],
  ],
  [
    "a file is cut to nothing",
    () => writeFileSync(stored(layerFiles(1)[1]!), ""),
    ["fetch-layer"],
    () => [blob(1)],
  ],
  [
    "a layer's splitstream is changed",
    () => damage(link(`streams/${layerName()}`)),
    ["fetch-layer"],
    () => [blob(0)],
  ],
  [
    "a layer's splitstream is gone",
    () => unlinkSync(stored(link(`streams/${layerName(1)}`))),
    ["fetch-layer"],
    () => [blob(1)],
  ],
  [
    "a layer's name is gone",
    () => unlinkSync(path(`streams/${layerName()}`)),
    ["link-object"],
    () => [],
  ],
  [
    "a layer's name is another's",
    () => publishStream(repo, layerName(), link(`streams/${layerName(1)}`)),
    ["link-object"],
    () => [],
  ],
  [
    "a layer's name is a file",
    () => {
      unlinkSync(path(`streams/${layerName()}`));
      writeFileSync(path(`streams/${layerName()}`), "");
    },
    ["link-object"],
    () => [],
  ],
  [
    "a layer is gone with everything in it",
    () => {
      for (const file of [...layerFiles(1), link(`streams/${layerName(1)}`)])
        unlinkSync(stored(file));
      unlinkSync(path(`streams/${layerName(1)}`));
    },
    ["fetch-layer"],
    () => [blob(1)],
  ],
  [
    "the manifest is changed",
    () => damage(document(manifestName())),
    ["fetch-documents"],
    () => [],
  ],
  [
    "the config is gone",
    () => unlinkSync(stored(document(configName()))),
    ["fetch-documents"],
    () => [],
  ],
  [
    "the manifest's stream is changed",
    () => damage(link(`streams/${manifestName()}`)),
    ["fetch-documents"],
    () => [],
  ],
  [
    "the config's stream is gone",
    () => unlinkSync(stored(link(`streams/${configName()}`))),
    ["fetch-documents"],
    () => [],
  ],
  [
    "the config's name is gone",
    () => unlinkSync(path(`streams/${configName()}`)),
    ["link-object"],
    () => [],
  ],
  [
    "the manifest's name is gone",
    () => unlinkSync(path(`streams/${manifestName()}`)),
    ["fetch-documents"],
    () => [],
  ],
  ["the boot image is changed", () => damage(deploymentId), ["build-image"], () => []],
  ["the boot image is gone", () => unlinkSync(stored(deploymentId)), ["build-image"], () => []],
  [
    "the plain image is changed",
    () => damage(namedRefs(repo, configName()).get("composefs.image.v1")!),
    ["build-image"],
    () => [],
  ],
  [
    "the boot image's name is another's",
    () => {
      unlinkSync(path(`images/${deploymentId}`));
      symlinkSync(
        `../objects/${objectPath(document(configName()))}`,
        path(`images/${deploymentId}`),
      );
    },
    ["link-object"],
    () => [],
  ],
  [
    "a reference has the wrong depth",
    () => {
      const [tag] = readdirSync(path("streams/refs/oci"));
      unlinkSync(path(`streams/refs/oci/${tag}`));
      symlinkSync(`../${manifestName()}`, path(`streams/refs/oci/${tag}`));
    },
    ["point-reference"],
    () => [],
  ],
  [
    "a link leads to nothing that anybody needs",
    () =>
      symlinkSync(`../objects/${objectPath("ab".repeat(64))}`, path("streams/oci-layer-sha256:0")),
    ["remove-link"],
    () => [],
  ],
  [
    "an object that nothing refers to is damaged",
    () => damage(storeObject(repo, Buffer.from("garbage"))),
    ["remove-objects"],
    () => [],
  ],
  [
    "all objects are gone",
    () => rmSync(path("objects"), { recursive: true }),
    ["fetch-documents", "build-image", "build-image"],
    () => [blob(1), blob(0), blob(2)],
  ],
  [
    "all streams are gone",
    () => {
      for (const name of readdirSync(path("streams"))) {
        if (name !== "refs") unlinkSync(path(`streams/${name}`));
      }
    },
    ["fetch-documents"],
    () => [blob(1), blob(0), blob(2)],
  ],
];

test.each(DAMAGE)("%s", async (_name, harm, steps, blobs) => {
  const before = listContents(repo.path);
  await harm();
  expect((await check()).length).toBeGreaterThan(0);
  const result = await repair();
  expect(result.remaining).toEqual([]);
  expect(result.steps.filter(({ error }) => error !== null)).toEqual([]);
  expect(kinds(result)).toEqual(steps);
  expect(fetched.sort()).toEqual([...blobs()].sort());
  expect(listContents(repo.path)).toEqual(before);
});
