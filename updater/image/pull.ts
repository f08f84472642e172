// Pulls an image into the repository: layers (two at a time, largest first), then config and manifest.
//
// Streams are published only when every layer has arrived and agreed with its digests. Until then, and
// after any failure, there are only objects nobody refers to, which the next collection removes.
// A layer whose stream is there, with all its objects, is not fetched again.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import type { ImageConfig } from "../../shared/format/oci/config.ts";
import type { Descriptor, ImageManifest } from "../../shared/format/oci/manifest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { hasObject } from "../../shared/store/object-inspection.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import type { ByteSource } from "./blob.ts";
import { layerStreamName, publishImageStreams, readStream } from "./image-streams.ts";
import { importLayer } from "./layers.ts";
import type { ImageSource, ResolvedImage } from "./resolved-image.ts";

const PARALLEL_LAYERS = 2;

/** Compressed bytes. `bytesTotal` is final from the first report on; `bytes` never goes back. */
export interface PullProgress {
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Size of the layers that need not be fetched; not part of the other two. */
  readonly bytesCached: number;
  readonly layersDone: number;
  readonly layersTotal: number;
  readonly layersCached: number;
}

export interface PullOptions {
  readonly onProgress?: (progress: PullProgress) => void;
  /** Gives up at the next chunk; the pull then fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Objects that are known to be damaged, whatever their names say. */
  readonly damaged?: ReadonlySet<string>;
}

export interface PulledImage extends ResolvedImage {
  readonly configDigest: string;
  readonly config: ImageConfig;
  readonly manifest: ImageManifest;
}

interface Layer {
  readonly diffId: string;
  readonly descriptor: Descriptor;
}

/**
 * IntegrityError when bytes are not what the image promises, FormatError when they are malformed,
 * StateError("no-space") when the disk is full.
 */
export async function pullImage(
  repo: Repository,
  source: ImageSource,
  options: PullOptions = {},
): Promise<PulledImage> {
  const image = await source.resolve();
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
  const layers = pairLayers(image);
  const missing = layers.filter(({ diffId }) => !hasLayer(repo, diffId, options.damaged));
  const progress = new ProgressCounter(layers, missing, options.onProgress);
  const streams = await importLayers(repo, source, missing, progress, options.signal);
  for (const [diffId, digest] of streams) publishStream(repo, layerStreamName(diffId), digest);
}

/** Each distinct layer once. */
function pairLayers({ manifest, config }: ResolvedImage): Layer[] {
  const layers = new Map<string, Layer>();
  for (const [i, diffId] of config.rootfs.diff_ids.entries()) {
    layers.set(diffId, { diffId, descriptor: manifest.layers[i]! });
  }
  return [...layers.values()];
}

/** A stream that is damaged or lacks an object does not count: the layer is imported again. */
function hasLayer(repo: Repository, diffId: string, damaged?: ReadonlySet<string>): boolean {
  try {
    const stream = readStream(repo, layerStreamName(diffId));
    if (stream === null) return false;
    const { objectRefs } = readSplitStreamRefs(stream);
    return objectRefs.every((digest) => damaged?.has(digest) !== true && hasObject(repo, digest));
  } catch (error) {
    if (error instanceof IntegrityError || error instanceof FormatError) return false;
    throw error;
  }
}

async function importLayers(
  repo: Repository,
  source: ImageSource,
  layers: readonly Layer[],
  progress: ProgressCounter,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, string>> {
  const queue = layers.toSorted((a, b) => b.descriptor.size - a.descriptor.size);
  const streams = new Map<string, string>();
  const failure = new AbortController();
  const stop = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
  async function work(): Promise<void> {
    for (let layer = queue.shift(); layer !== undefined; layer = queue.shift()) {
      const { diffId, descriptor } = layer;
      const digest = await importLayer(repo, {
        chunks: watch(source.openLayer(descriptor), progress, stop),
        compressedBytes: descriptor.size,
        blobDigest: descriptor.digest,
        diffId,
        what: `Layer ${descriptor.digest} of "${source.name}"`,
      });
      streams.set(diffId, digest);
      progress.finishLayer();
    }
  }
  const workers = Array.from({ length: PARALLEL_LAYERS }, () =>
    work().catch((error: unknown) => {
      // The first failure stops the others; theirs is only its echo.
      if (!failure.signal.aborted) failure.abort(error);
    }),
  );
  await Promise.all(workers);
  stop.throwIfAborted();
  return streams;
}

async function* watch(
  chunks: ByteSource,
  progress: ProgressCounter,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  signal.throwIfAborted();
  for await (const chunk of chunks) {
    signal.throwIfAborted();
    progress.addBytes(chunk.length);
    yield chunk;
  }
}

class ProgressCounter {
  #state: PullProgress;
  readonly #report: ((progress: PullProgress) => void) | undefined;

  constructor(
    layers: readonly Layer[],
    missing: readonly Layer[],
    report: ((progress: PullProgress) => void) | undefined,
  ) {
    const bytesTotal = sumSizes(missing);
    this.#state = {
      bytes: 0,
      bytesTotal,
      bytesCached: sumSizes(layers) - bytesTotal,
      layersDone: 0,
      layersTotal: missing.length,
      layersCached: layers.length - missing.length,
    };
    this.#report = report;
    report?.(this.#state);
  }

  addBytes(count: number): void {
    this.#update({ bytes: this.#state.bytes + count });
  }

  finishLayer(): void {
    this.#update({ layersDone: this.#state.layersDone + 1 });
  }

  #update(change: Partial<PullProgress>): void {
    this.#state = { ...this.#state, ...change };
    this.#report?.(this.#state);
  }
}

function sumSizes(layers: readonly Layer[]): number {
  return layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
}
