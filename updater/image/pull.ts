// Pulls an image into the repository, as its plan says: layers (two at a time, largest first), then config
// and manifest.
//
// A layer's stream is published when it has arrived and agreed with its digests, and everything it needs is
// on the disk. What a pull that fails leaves for the next attempt is in kept-downloads.ts; other than that there
// are only objects nobody refers to, which the next collection removes.

import { abortable, raceAbort } from "../../shared/abortable.ts";
import { StateError } from "../../shared/error.ts";
import type { ImageConfig } from "../../shared/format/oci/config.ts";
import type { ImageManifest } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ByteSource } from "./blob.ts";
import { importPartialLayer, type PartialLayer } from "./chunked-import.ts";
import type { RangeOpener } from "./chunked-toc.ts";
import { Downloads } from "./download.ts";
import { publishImageStreams } from "./image-streams.ts";
import { dropDownloads, pruneDownloads } from "./kept-downloads.ts";
import { readRange } from "./kept-ranges.ts";
import { LayerPublisher } from "./layer-publisher.ts";
import { importLayer, type LayerInput } from "./layers.ts";
import { createObjectPool, expectWork, type ObjectPool } from "./object-pool.ts";
import {
  isUnusable,
  type LayerPlan,
  type PlanOptions,
  type PullPlan,
  planPull,
} from "./pull-plan.ts";
import { ProgressCounter, type PullProgress } from "./pull-progress.ts";
import type { ImageSource, ResolvedImage } from "./resolved-image.ts";
import { hasLayer } from "./stored-layer.ts";
import { importTarPieces } from "./tar-pieces.ts";
import { workThrough } from "./work-queue.ts";

const PARALLEL_LAYERS = 2;

export interface PullOptions {
  readonly onProgress?: (progress: PullProgress) => void;
  /** Gives up at once; the pull then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Objects that are known to be damaged, whatever their names say. */
  readonly damaged?: ReadonlySet<string>;
  /** Made for exactly this image; made here when left out. */
  readonly plan?: PullPlan;
  /** Times the waits before a server is asked again; 1 when left out. */
  readonly patience?: number;
}

export interface PulledImage extends ResolvedImage {
  readonly configDigest: string;
  readonly config: ImageConfig;
  readonly manifest: ImageManifest;
}

/**
 * IntegrityError when bytes are not what the image promises, FormatError when they are malformed,
 * StateError("no-space") when the disk is full, RegistryError when the source gave up.
 */
export async function pullImage(
  repo: Repository,
  source: ImageSource,
  options: PullOptions = {},
): Promise<PulledImage> {
  const image = await raceAbort(source.resolve(), options.signal);
  return await pullResolvedImage(repo, source, image, options);
}

/** Exactly this image, whatever the source's name stands for by now; errors as `pullImage`. */
export async function pullResolvedImage(
  repo: Repository,
  source: ImageSource,
  image: ResolvedImage,
  options: PullOptions = {},
): Promise<PulledImage> {
  await pullLayers(repo, source, image, options);
  await publishImageStreams(repo, image, new Map());
  return { ...image, configDigest: image.manifest.config.digest };
}

/** Only the layers, as far as they are not there already; errors as `pullImage`. */
export async function pullLayers(
  repo: Repository,
  source: ImageSource,
  image: ResolvedImage,
  options: PullOptions = {},
): Promise<void> {
  const isRemote = source.openRange !== undefined;
  if (isRemote) pruneDownloads(repo);
  const plan = options.plan ?? (await planImagePull(repo, source, image, options));
  const progress = new ProgressCounter(plan, options.onProgress);
  try {
    await fetchLayers({ repo, source, plan, progress, options, keeps: isRemote });
  } catch (error) {
    if (!isRemote || !(error instanceof StateError) || error.code !== "no-space") throw error;
    // There may be room for the image, if not for its downloads as well.
    dropDownloads(repo);
    const layers = plan.layers.filter(({ diffId }) => !hasLayer(repo, diffId, options.damaged));
    const rest = { ...plan, layers };
    await fetchLayers({ repo, source, plan: rest, progress, options, keeps: false });
  }
}

type PlanRequest = Pick<PlanOptions, "signal" | "damaged" | "isForDisplay">;

/** The plan of a pull, with what downloads of earlier attempts have. */
export async function planImagePull(
  repo: Repository,
  source: ImageSource,
  image: ResolvedImage,
  options: PlanRequest = {},
): Promise<PullPlan> {
  await using downloads = new Downloads(repo, source, { signal: options.signal });
  const planning = planPull(repo, source, image, { ...options, downloads });
  return await raceAbort(planning, options.signal);
}

interface LayerFetch {
  readonly repo: Repository;
  readonly source: ImageSource;
  readonly plan: PullPlan;
  readonly progress: ProgressCounter;
  readonly options: PullOptions;
  /** What is fetched is kept until it is safe somewhere else. */
  readonly keeps: boolean;
}

async function fetchLayers(fetch: LayerFetch): Promise<void> {
  const { repo, source, plan, progress, keeps } = fetch;
  const { signal, patience = 1 } = fetch.options;
  const failure = new AbortController();
  const stop = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
  const diffIds = new Map(plan.layers.map((each) => [each.descriptor.digest, each.diffId]));
  await using downloads = new Downloads(repo, source, {
    signal: stop,
    onBytes: ({ digest }, count) => progress.addBytes(diffIds.get(digest)!, count),
    ...{ patience, keeps },
  });
  using pool = createObjectPool(repo);
  const pull: Pull = { repo, source, downloads, progress, pool, patience, stop };
  const publisher = new LayerPublisher(repo, keeps ? downloads : null, stop, patience);
  const queue = plan.layers
    .filter(({ method }) => method !== "cached")
    .toSorted((a, b) => b.fetchBytes - a.fetchBytes || b.descriptor.size - a.descriptor.size);
  const whole = queue.filter(({ method }) => method === "whole");
  downloads.start(whole.map(({ descriptor }) => descriptor));
  await workThrough(queue, PARALLEL_LAYERS, failure, async (layer) => {
    const digest = await fetchLayer(pull, layer);
    publisher.add({ ...layer, digest });
    pull.progress.finishLayer(layer.diffId);
  });
  await publisher.settle();
  stop.throwIfAborted();
  await publisher.finish();
}

/** What every layer of a pull needs. */
interface Pull {
  readonly repo: Repository;
  readonly source: ImageSource;
  readonly downloads: Downloads;
  readonly progress: ProgressCounter;
  readonly pool: ObjectPool;
  readonly patience: number;
  readonly stop: AbortSignal;
}

/** The splitstream's digest. */
async function fetchLayer(pull: Pull, layer: LayerPlan): Promise<string> {
  const { repo, source, pool, stop } = pull;
  const { diffId, descriptor } = layer;
  const what = `Layer ${descriptor.digest} of "${source.name}"`;
  if (layer.method === "pieces") {
    const pieces = source.openPieces!(descriptor, diffId);
    expectWork(pool, descriptor.size);
    return await importTarPieces(repo, abortable(pieces, stop), { diffId, what, pool });
  }
  if (layer.partial !== null) {
    const digest = await fetchPartially(pull, layer, layer.partial, what);
    if (digest !== null) return digest;
    // The layer was not started with the others.
    pull.downloads.add(descriptor);
  }
  return await fetchWhole(pull, layer, what);
}

/** Null when the layer is not what its table says. */
async function fetchPartially(
  { repo, source, downloads, progress, patience, stop }: Pull,
  { diffId, descriptor }: LayerPlan,
  partial: PartialLayer,
  what: string,
): Promise<string | null> {
  const keeper = {
    fetch: { source, layer: descriptor, support: { isMissing: false }, patience },
    store: partial.ranges.length === 0 ? null : await downloads.openStore(descriptor),
    onBytes: (count: number) => progress.addBytes(diffId, count),
  };
  const openRange: RangeOpener = (range, signal) => readRange(keeper, range, signal);
  const input = { diffId, compressedBytes: descriptor.size, what };
  try {
    return await raceAbort(importPartialLayer(repo, partial, openRange, input, stop), stop);
  } catch (error) {
    stop.throwIfAborted();
    if (isUnusable(error)) return null;
    throw error;
  }
}

/** A download whose bytes are wrong is thrown away and tried once more. */
async function fetchWhole(pull: Pull, { diffId, descriptor }: LayerPlan, what: string) {
  const { repo, source, downloads, pool } = pull;
  const { digest: blobDigest, size: compressedBytes } = descriptor;
  const input: Omit<LayerInput, "chunks"> = { compressedBytes, blobDigest, diffId, what, pool };
  if (source.openRange === undefined) {
    return await importLayer(repo, { ...input, chunks: watch(pull, diffId, descriptor) });
  }
  for (let isRetry = false; ; isRetry = true) {
    try {
      const digest = await importLayer(repo, { ...input, chunks: downloads.read(descriptor) });
      downloads.finish(descriptor);
      return digest;
    } catch (error) {
      if (!downloads.isCorrupt(descriptor)) throw error;
      if (isRetry) {
        await downloads.remove(descriptor);
        throw error;
      }
      await downloads.restart(descriptor);
    }
  }
}

async function* watch(
  { source, progress, stop }: Pull,
  diffId: string,
  descriptor: LayerPlan["descriptor"],
): ByteSource {
  for await (const chunk of abortable(source.openLayer(descriptor, diffId), stop)) {
    progress.addBytes(diffId, chunk.length);
    yield chunk;
  }
}
