// A repository with an image in it, damaged in several ways at once, and its repair. Used by tests that
// end a repair at any moment.

import {
  appendFileSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { checkRepository } from "../../shared/store/fsck.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { readObject } from "../../shared/store/objects.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { checkImages } from "../../updater/image/image-check.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { type RepairResult, repairRepository } from "../../updater/image/repair.ts";
import type { ImageSource } from "../../updater/image/resolved-image.ts";
import { openSource } from "../../updater/image/source.ts";
import { writeLayout } from "./oci-builder.ts";
import { makeOs } from "./small-os.ts";

export interface Scenario {
  readonly manifestDigest: string;
  readonly deploymentId: string;
  readonly layout: string;
}

const LIMIT_BYTES = 1 << 24;
const reference = (layout: string) => makeImageReference("oci", layout);

/** Makes `repo` and `layout` below `directory`. */
export async function makeScenario(
  directory: string,
  { secure }: { readonly secure: boolean } = { secure: false },
): Promise<Scenario> {
  const layout = join(directory, "layout");
  writeLayout(layout, [await makeOs()]);
  const path = join(directory, "repo");
  using repo = ensureRepository(null, path, { algorithm: "sha512", secure });
  const pulled = await pullImage(repo, openSource(reference(layout)));
  const { deploymentId } = await makeBootImage(repo, pulled);
  collectGarbage(repo, { roots: [deploymentId], dryRun: false });
  return { manifestDigest: pulled.manifestDigest, deploymentId, layout };
}

/** Something of every kind that a repair has a step for, as far as it takes no fs-verity. */
export function damageScenario(
  repo: Repository,
  { manifestDigest, deploymentId }: Scenario,
  { documents }: { readonly documents: boolean },
): void {
  const file = (digest: string) => join(repo.path, "objects", objectPath(digest));
  const refs = (digest: string) => readSplitStreamRefs(readObject(repo, digest, LIMIT_BYTES));
  const manifest = refs(streamObject(repo, `oci-manifest-${manifestDigest}`)!);
  const streams = [...manifest.namedRefs].map(([, digest]) => digest);
  const layers = readdirSync(join(repo.path, "streams")).filter((name) =>
    name.startsWith("oci-layer"),
  );
  const objects = layers
    .map((name) => streamObject(repo, name)!)
    .sort((a, b) => size(file(a)) - size(file(b)));
  const files = refs(objects.at(-1)!).objectRefs;
  appendFileSync(file(files[0]!), "x");
  if (files[1] !== undefined) unlinkSync(file(files[1]));
  appendFileSync(file(objects[0]!), "x");
  unlinkSync(file(deploymentId));
  // Without its config nobody knows the image's layers.
  if (documents) unlinkSync(file(streams.find((digest) => !objects.includes(digest))!));
}

const size = (path: string) => lstatSync(path).size;

export async function checkAll(repo: Repository): Promise<readonly Finding[]> {
  const images = await checkImages(repo, { metadataOnly: false });
  return [...checkRepository(repo, { metadataOnly: false }).findings, ...images.findings];
}

export async function repairScenario(
  repo: Repository,
  { manifestDigest, deploymentId, layout }: Scenario,
  open: (layout: string) => ImageSource = (path) => openSource(reference(path)),
): Promise<RepairResult> {
  const user = { label: "x", manifestDigest, reference: reference(layout), deploymentId };
  return await repairRepository(repo, await checkAll(repo), {
    users: [user],
    source: null,
    open: () => open(layout),
    check: () => checkAll(repo),
  });
}

/** Path -> digest of files, target of links; without what writers that died leave behind. */
export function listContents(path: string): ReadonlyMap<string, string> {
  const names = readdirSync(path, { recursive: true }).map(String).sort();
  const kept = names.filter((name) => !/(^|\/)\.(symlink|tmp-object|meta)-/.test(name));
  return new Map(
    kept.flatMap((name): [string, string][] => {
      const file = join(path, name);
      const stat = lstatSync(file);
      if (stat.isDirectory()) return [];
      return [
        [name, stat.isSymbolicLink() ? readlinkSync(file) : computeDigest(readFileSync(file))],
      ];
    }),
  );
}
