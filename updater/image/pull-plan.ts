// What a pull will do, layer by layer, before it does it: what is here, what has to be fetched, what will be
// written. `bootc upgrade --check` prints it, the space check decides by it, pull.ts carries it out and takes
// its progress totals from it.
//
// Exact is what a table of contents tells (zstd:chunked). Of other layers only the compressed size is
// known; what they unpack to is an estimate and marked as one. Making a plan writes nothing.

import {
  FormatError,
  IntegrityError,
  RegistryError,
  UnsupportedError,
} from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { PartialLayer } from "./chunked-import.ts";
import { joinRanges } from "./chunked-ranges.ts";
import { type ChunkedLayer, fetchChunkedLayer } from "./chunked-toc.ts";
import {
  addWritten,
  type DiskUse,
  estimateWritten,
  measureWritten,
  NO_USE,
  type StoreSettings,
} from "./disk-use.ts";
import type { Ranges } from "./download-record.ts";
import { countMissing } from "./kept-ranges.ts";
import { type KernelFinding, KernelSearch } from "./kernel-finding.ts";
import { fetchRange } from "./range-fetch.ts";
import type { ByteRange, ImageSource, ResolvedImage } from "./resolved-image.ts";
import { readStoredFiles, type StoredContent, type StoredFiles } from "./stored-files.ts";
import { hasLayer, type Layer, listLayers } from "./stored-layer.ts";
import { fetchUnpackedSize } from "./unpacked-size.ts";
import { workThrough } from "./work-queue.ts";

export interface LayerPlan extends Layer {
  /** "cached": nothing to do; "partial": only missing files; "pieces": files from elsewhere on this machine. */
  readonly method: "cached" | "partial" | "pieces" | "whole";
  /** What must still come from the source, compressed. */
  readonly fetchBytes: number;
  /** Of the layer's compressed size, what need not come: stored, or kept from a download before. */
  readonly reusedBytes: number;
  /** What was fetched to make this plan (tables of contents), and will be again by the next one. */
  readonly planningBytes: number;
  readonly written: DiskUse;
  /** With method "partial". */
  readonly partial: PartialLayer | null;
}

export interface PullPlan {
  /** Each distinct layer once, lowest first. */
  readonly layers: readonly LayerPlan[];
  readonly fetchBytes: number;
  readonly reusedBytes: number;
  readonly planningBytes: number;
  readonly written: DiskUse;
  /** What is known about kernel and initramfs of the image. */
  readonly kernel: KernelFinding;
}

export interface PlanOptions {
  /** What downloads before have kept of layers that are not stored yet (download.ts). */
  readonly downloads?: { keptRanges(layer: Descriptor): Promise<Ranges> };
  /** Objects that are known to be damaged, whatever their names say. */
  readonly damaged?: ReadonlySet<string>;
  readonly signal?: AbortSignal;
  /** Ask for better estimates too, which takes a request for each layer. */
  readonly isForDisplay?: boolean;
}

const PARALLEL_QUESTIONS = 4;
const NOTHING_STORED: StoredFiles = { find: async () => null };
/** A plan that saves less than a twentieth of the layer is not worth its many requests. */
const WORTHWHILE = 0.95;

/** Errors of the source as far as they concern the network; a table that is no good is done without. */
export async function planPull(
  repo: Repository,
  source: ImageSource,
  image: ResolvedImage,
  options: PlanOptions = {},
): Promise<PullPlan> {
  return await makePlan(repo, repo, source, image, options);
}

/** As `planPull`, before there is a repository. */
export async function planFirstPull(
  settings: StoreSettings,
  source: ImageSource,
  image: ResolvedImage,
  options: PlanOptions = {},
): Promise<PullPlan> {
  return await makePlan(null, settings, source, image, { ...options, isForDisplay: true });
}

async function makePlan(
  repo: Repository | null,
  settings: StoreSettings,
  source: ImageSource,
  image: ResolvedImage,
  options: PlanOptions,
): Promise<PullPlan> {
  const signal = options.signal ?? new AbortController().signal;
  const layers = listLayers(image);
  const missing = layers.filter(
    ({ diffId }) => repo === null || !hasLayer(repo, diffId, options.damaged),
  );
  const remote = await askSource(source, missing, options.isForDisplay === true, signal);
  const hasTables = repo !== null && [...remote.values()].some(({ table }) => table !== null);
  const stored = hasTables ? await readStoredFiles(repo, options.damaged) : NOTHING_STORED;
  const kernel = new KernelSearch();
  const counted = new Set<string>();
  const plans: LayerPlan[] = [];
  for (const layer of layers) {
    signal.throwIfAborted();
    if (!missing.includes(layer)) {
      plans.push(planCached(layer));
      kernel.addStored(layer.diffId);
      continue;
    }
    const { table = null, unpackedBytes = null } = remote.get(layer.diffId) ?? {};
    const estimate = estimateWritten(layer.descriptor, unpackedBytes, repo === null);
    if (source.openPieces !== undefined) {
      // Its files may be shared, which takes no room.
      const written = { ...estimate, leastBytes: 0 };
      plans.push({ ...planCached(layer), method: "pieces", written });
    } else if (table === null) {
      plans.push(await planWhole(layer, estimate, options));
    } else {
      const found = await findStored(stored, table);
      const written = measureWritten(settings, table, found, counted);
      const whole = await planWhole(layer, written, options);
      plans.push(await planChunked(whole, table, found, options));
      kernel.addTable(table.files, found);
    }
  }
  return sumPlan(plans, await kernel.finish(repo));
}

/** What the server tells about a layer before it is fetched. */
interface RemoteLayer {
  readonly table: ChunkedLayer | null;
  readonly unpackedBytes: number | null;
}

/** By diff_id; nothing of sources without ranges. */
async function askSource(
  source: ImageSource,
  layers: readonly Layer[],
  isForDisplay: boolean,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, RemoteLayer>> {
  const answers = new Map<string, RemoteLayer>();
  if (source.openRange === undefined || source.openPieces !== undefined) return answers;
  const failure = new AbortController();
  const stop = AbortSignal.any([signal, failure.signal]);
  await workThrough(layers, PARALLEL_QUESTIONS, failure, async ({ diffId, descriptor }) => {
    answers.set(diffId, await askLayer(source, descriptor, isForDisplay, stop));
  });
  stop.throwIfAborted();
  return answers;
}

async function askLayer(
  source: ImageSource,
  layer: Descriptor,
  isForDisplay: boolean,
  signal: AbortSignal,
): Promise<RemoteLayer> {
  const fetch = { source, layer, support: { isMissing: false }, patience: 1, signal };
  const open = (range: ByteRange) => fetchRange(fetch, range);
  try {
    const table = await fetchChunkedLayer(layer, open);
    const isEstimated = table === null && isForDisplay;
    return { table, unpackedBytes: isEstimated ? await fetchUnpackedSize(layer, open) : null };
  } catch (error) {
    if (isUnusable(error)) return { table: null, unpackedBytes: null };
    throw error;
  }
}

/** The layer's parts are not what they should be, or cannot be had: the whole layer may still be good. */
export function isUnusable(error: unknown): boolean {
  return (
    error instanceof FormatError ||
    error instanceof IntegrityError ||
    error instanceof UnsupportedError ||
    (error instanceof RegistryError && error.code === "protocol")
  );
}

async function findStored(
  stored: StoredFiles,
  { files }: ChunkedLayer,
): Promise<ReadonlyMap<string, StoredContent>> {
  const found = new Map<string, StoredContent>();
  for (const file of files) {
    if (found.has(file.digest)) continue;
    const content = await stored.find(file);
    if (content !== null) found.set(file.digest, content);
  }
  return found;
}

/** `whole`, unless fetching only what is missing saves enough. */
async function planChunked(
  whole: LayerPlan,
  table: ChunkedLayer,
  found: ReadonlyMap<string, StoredContent>,
  { downloads }: PlanOptions,
): Promise<LayerPlan> {
  const planningBytes = table.fetchedBytes;
  const ranges = joinRanges(table.files.filter(({ digest }) => !found.has(digest)));
  const fetchBytes = countMissing((await downloads?.keptRanges(whole.descriptor)) ?? [], ranges);
  if (fetchBytes > whole.fetchBytes * WORTHWHILE) return { ...whole, planningBytes };
  const reusedBytes = Math.max(0, whole.descriptor.size - fetchBytes - planningBytes);
  const partial = { layer: table, found, ranges };
  return { ...whole, method: "partial", fetchBytes, reusedBytes, planningBytes, partial };
}

async function planWhole(
  layer: Layer,
  written: DiskUse,
  { downloads }: PlanOptions,
): Promise<LayerPlan> {
  const { size } = layer.descriptor;
  const kept = (await downloads?.keptRanges(layer.descriptor)) ?? [];
  const fetchBytes = countMissing(kept, [{ startByte: 0, endByte: size }]);
  const sizes = { fetchBytes, reusedBytes: size - fetchBytes, planningBytes: 0, written };
  return { ...layer, method: "whole", ...sizes, partial: null };
}

function planCached(layer: Layer): LayerPlan {
  const reusedBytes = layer.descriptor.size;
  const nothing = { fetchBytes: 0, planningBytes: 0, written: NO_USE, partial: null };
  return { ...layer, method: "cached", reusedBytes, ...nothing };
}

function sumPlan(layers: readonly LayerPlan[], kernel: KernelFinding): PullPlan {
  const sum = (pick: (layer: LayerPlan) => number) =>
    layers.reduce((total, layer) => total + pick(layer), 0);
  return {
    layers,
    fetchBytes: sum(({ fetchBytes }) => fetchBytes),
    reusedBytes: sum(({ reusedBytes }) => reusedBytes),
    planningBytes: sum(({ planningBytes }) => planningBytes),
    written: layers.reduce((total, { written }) => addWritten(total, written), NO_USE),
    kernel,
  };
}
