// Takes one step of a repair. Whatever goes wrong, the repository is as good as before: new content is
// complete and checked before it has a name, and a name is moved only to something better.

import { IntegrityError, StateError } from "../../shared/error.ts";
import { collectObjects } from "../../shared/format/erofs/reader.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import { isDamage } from "../../shared/store/finding.ts";
import { publishImage } from "../../shared/store/images.ts";
import { linkEntry, linkedObject, listNames, syncDirectory } from "../../shared/store/links.ts";
import type { ErofsVersion } from "../../shared/store/metadata.ts";
import { hasObject, isGoodObject, openStored } from "../../shared/store/object-inspection.ts";
import { ensureObjectFromFile, readObject } from "../../shared/store/objects.ts";
import { setRef } from "../../shared/store/refs.ts";
import { type Repository, withExclusiveLock } from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import { syncfs } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import type { ByteSource } from "./blob.ts";
import { buildImage, deploymentTag, imageRefName, tagRefName } from "./boot-image.ts";
import {
  configStreamName,
  IMAGE_REF_PREFIX,
  layerStreamName,
  MAX_STREAM_BYTES,
  manifestStreamName,
  publishImageStreams,
  readStream,
} from "./image-streams.ts";
import { importLayer, type LayerInput } from "./layers.ts";
import { pullLayers } from "./pull.ts";
import type { ImageSurvey } from "./repair-image-survey.ts";
import { restoreLayerObjects } from "./repair-layer.ts";
import type { RepairStep } from "./repair-plan.ts";
import type { OpenedSource, Sources } from "./repair-source.ts";
import type { Survey } from "./repair-survey.ts";

const IMAGE_LIMIT_BYTES = 1 << 30;

export interface Repair {
  readonly repo: Repository;
  readonly sources: Sources;
  readonly survey: Survey;
  readonly signal: AbortSignal | undefined;
}

/** Durable when it returns. */
export async function applyStep(repair: Repair, step: RepairStep): Promise<void> {
  const { repo } = repair;
  switch (step.kind) {
    case "seal-object":
      sealObject(repo, step.object);
      break;
    case "fetch-documents":
      await fetchDocuments(repair, requireImage(repair, step.image));
      break;
    case "fetch-layer":
      await fetchLayer(repair, requireImage(repair, step.image), step.diffId, step.objects);
      break;
    case "link-object":
      linkObject(repo, step.name, step.object);
      break;
    case "write-references":
      await publishImageStreams(repo, requireDocuments(repair, step.image), new Map());
      break;
    case "build-image":
      await restoreImage(repair, step);
      break;
    case "point-reference":
      setRef(repo, step.category, step.name, step.target);
      break;
    case "remove-link":
      removeLink(repo, step.path);
      break;
    case "remove-objects":
      removeObjects(repo, step.objects);
      break;
  }
  syncfs(repo.dir);
}

function requireImage({ survey }: Repair, manifestDigest: string): ImageSurvey {
  return survey.images.find((image) => image.manifestDigest === manifestDigest)!;
}

function requireDocuments(repair: Repair, manifestDigest: string) {
  return requireImage(repair, manifestDigest).documents!;
}

function sealObject(repo: Repository, digest: string): void {
  using fd = openStored(repo, digest);
  if (fd === null) throw missing(digest);
  // What is stored has the name of what was read: content that changed meanwhile replaces nothing.
  const stored = ensureObjectFromFile(repo, fd);
  if (stored.digest === digest) return;
  throw new IntegrityError("digest-mismatch", `Object "${digest}" changed while it was copied`, {
    digest,
  });
}

function linkObject(repo: Repository, name: string, object: string): void {
  const slash = name.indexOf("/");
  const category = name.slice(0, slash) as "streams" | "images";
  if (!hasObject(repo, object)) throw missing(object);
  linkEntry(repo, category, name.slice(slash + 1), object);
}

async function fetchDocuments(
  { repo, sources, survey, signal }: Repair,
  image: ImageSurvey,
): Promise<void> {
  const { users, manifestDigest } = image;
  await sources.attempt(users, manifestDigest, async ({ source, found }) => {
    if (found.manifestDigest !== manifestDigest) throw anotherImage(found.manifestDigest, image);
    const damaged = new Set(survey.bad.keys());
    await pullLayers(repo, source, found, {
      damaged,
      ...(signal === undefined ? {} : { signal }),
    });
    const images = hasImageRefs(repo, found.manifest.config.digest)
      ? new Map()
      : await findImages(repo, found.config.rootfs.diff_ids);
    // At once: after an interruption nobody would look for the images again.
    await publishImageStreams(repo, found, images);
    if (users.every(({ deploymentId }) => deploymentId === null)) return;
    const tag = tagRefName(deploymentTag(manifestDigest));
    setRef(repo, "streams", tag, manifestStreamName(manifestDigest));
  });
}

/** Whether the config's stream can still be read and refers to EROFS images. */
function hasImageRefs(repo: Repository, configDigest: string): boolean {
  try {
    const stream = readStream(repo, configStreamName(configDigest));
    const refs = stream === null ? [] : [...readSplitStreamRefs(stream).namedRefs.keys()];
    return refs.some((name) => name.startsWith(IMAGE_REF_PREFIX));
  } catch (error) {
    if (!isDamage(error)) throw error;
    return false;
  }
}

/** Reference name -> id of the EROFS images of these layers that are in the repository. */
async function findImages(
  repo: Repository,
  diffIds: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const known = new Set(listNames(repo, "images"));
  const images = new Map<string, string>();
  if (known.size === 0) return images;
  for (const bootable of [false, true]) {
    for (const version of [1, 2] as const) {
      const bytes = await buildIfPossible(repo, diffIds, { bootable, version });
      const id = bytes && computeVerityDigest(bytes, repo.algorithm);
      if (id !== null && known.has(id)) images.set(imageRefName(bootable, version), id);
    }
  }
  return images;
}

/** Null for an image without what a system needs, e.g. /usr, and when a file it depends on is damaged. */
async function buildIfPossible(
  repo: Repository,
  diffIds: readonly string[],
  options: { readonly bootable: boolean; readonly version: ErofsVersion },
): Promise<Uint8Array | null> {
  try {
    return await buildImage(repo, diffIds, options);
  } catch (error) {
    if (!isDamage(error)) throw error;
    return null;
  }
}

async function fetchLayer(
  { repo, sources, signal }: Repair,
  image: ImageSurvey,
  diffId: string,
  objects: readonly string[] | null,
): Promise<void> {
  const { descriptor, stream } = image.layers.find((layer) => layer.diffId === diffId)!;
  await sources.attempt(image.users, image.manifestDigest, async (opened) => {
    const input = makeInput(opened, diffId, descriptor, signal);
    try {
      if (objects !== null && stream !== null) {
        const bytes = readObject(repo, stream, MAX_STREAM_BYTES);
        await restoreLayerObjects(repo, input, bytes, new Set(objects));
      } else {
        publishStream(repo, layerStreamName(diffId), await importLayer(repo, input));
      }
    } catch (cause) {
      const { manifestDigest } = opened.found;
      if (manifestDigest === image.manifestDigest || !(cause instanceof IntegrityError))
        throw cause;
      throw anotherImage(manifestDigest, image, cause);
    }
  });
}

function makeInput(
  { source }: OpenedSource,
  diffId: string,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): LayerInput {
  return {
    chunks: watch(source.openLayer(descriptor, diffId), signal),
    compressedBytes: descriptor.size,
    blobDigest: descriptor.digest,
    diffId,
    what: `Layer ${descriptor.digest} of "${source.name}"`,
  };
}

async function* watch(
  chunks: ByteSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    yield chunk;
  }
}

function anotherImage(found: string, { manifestDigest }: ImageSurvey, cause?: unknown): StateError {
  return new StateError(
    "conflict",
    `It holds image ${found} by now, not ${manifestDigest}`,
    {},
    cause === undefined ? {} : { cause },
  );
}

/** Only when what is built has the digest that is wanted. */
async function restoreImage(
  repair: Repair,
  step: Extract<RepairStep, { kind: "build-image" }>,
): Promise<void> {
  const { repo } = repair;
  const { id, name } = step;
  const documents = requireDocuments(repair, step.image);
  const bootable = name === null || name.startsWith("composefs.image.boot");
  for (const version of candidateVersions(repo, name)) {
    const image = await buildImage(repo, documents.config.rootfs.diff_ids, { bootable, version });
    if (computeVerityDigest(image, repo.algorithm) !== id) continue;
    publishImage(repo, image, { replaces: true });
    const reference = name ?? imageRefName(bootable, version);
    await publishImageStreams(repo, documents, new Map([[reference, id]]));
    return;
  }
  throw new IntegrityError(
    "digest-mismatch",
    `The image that its layers make here has another digest than "${id}"; another program made it`,
    { digest: id },
  );
}

function candidateVersions(repo: Repository, name: string | null): readonly ErofsVersion[] {
  if (name === null) return [...new Set<ErofsVersion>([repo.erofsVersion, 1, 2, 0])];
  if (name.includes(".xattrs=")) return [];
  if (!name.endsWith(".v1")) return [2];
  return repo.erofsVersion === 0 ? [0, 1] : [1, 0];
}

/** Looks again while nobody else writes: the object may have come back. */
function removeLink(repo: Repository, path: string): void {
  const slash = path.indexOf("/");
  const category = path.slice(0, slash) as "streams" | "images";
  withExclusiveLock(repo, () => {
    const object = linkedObject(repo, category, path.slice(slash + 1));
    if (object === null || hasObject(repo, object)) return;
    if (unlinkatIfExists(repo.dir, path)) syncDirectory(repo, category);
  });
}

/** Only while every reference in the repository can be read, and none leads there. */
function removeObjects(repo: Repository, objects: readonly string[]): void {
  withExclusiveLock(repo, () => {
    const referred = new Set<string>();
    for (const category of ["streams", "images"] as const) {
      for (const name of listNames(repo, category)) {
        const owner = linkedObject(repo, category, name);
        if (owner === null) continue;
        for (const object of [owner, ...listObjects(repo, category, owner)]) referred.add(object);
      }
    }
    for (const object of objects) {
      if (referred.has(object) || isGoodObject(repo, object)) continue;
      unlinkatIfExists(repo.dir, `objects/${objectPath(object)}`);
    }
  });
}

function listObjects(
  repo: Repository,
  category: "streams" | "images",
  owner: string,
): readonly string[] {
  if (category === "images") {
    return [...collectObjects(readObject(repo, owner, IMAGE_LIMIT_BYTES))];
  }
  const { objectRefs, namedRefs } = readSplitStreamRefs(readObject(repo, owner, MAX_STREAM_BYTES));
  return [...objectRefs, ...namedRefs.values()];
}

function missing(digest: string): IntegrityError {
  return new IntegrityError("missing-object", `Object "${digest}" is gone`, { digest });
}
