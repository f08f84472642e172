// What pulls that did not finish leave in the repository for the next attempt, and when it goes.
//
//   bootc-downloads/sha256-<hex of the blob>.part       a partial download (partial-file.ts)
//   bootc-downloads/sha256-<hex of the diff_id>.layer   empty: this layer's stream is to be kept, nothing
//                                                       refers to it yet
// Old and surplus ones go before a pull, all of them when an image was staged. Files that another process
// has open stay.

import {
  FormatError,
  IntegrityError,
  PolicyError,
  StateError,
  UnsupportedError,
} from "../../shared/error.ts";
import { splitDigest } from "../../shared/format/oci/digest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { mkdiratIfMissing, readDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { flock, openat, openatIfExists } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { layerStreamName, readStream } from "./image-streams.ts";
import { DOWNLOADS_DIRECTORY, removeEmptyDownloads } from "./partial-file.ts";

const LAYER_SUFFIX = ".layer";
const MAX_AGE_S = 14 * 24 * 3600;
/** Of layers and of downloads together; an image has at most a few hundred layers. */
const MAX_FILES = 512;

/** Notes that the published stream of a layer is to survive garbage collection. */
export function keepLayer(repo: Repository, diffId: string): void {
  mkdiratIfMissing(repo.dir, DOWNLOADS_DIRECTORY, 0o700);
  const path = `${DOWNLOADS_DIRECTORY}/${keptLayerName(diffId)}`;
  openat(repo.dir, path, O.WRONLY | O.CREAT | O.NOFOLLOW, 0o600).close();
}

/** Names of streams that garbage collection has to keep for a pull that may go on: less what is surplus. */
export function listKeptLayers(repo: Repository, nowSec: number = Date.now() / 1000): string[] {
  const files = listFiles(repo);
  const surplus = new Set(findSurplus(files, nowSec));
  const names = files.flatMap((file) => {
    const { name } = file;
    if (surplus.has(file)) return [];
    const match = /^([a-z0-9]+)-([0-9a-f]+)\.layer$/.exec(name);
    return match === null ? [] : [layerStreamName(`${match[1]}:${match[2]}`)];
  });
  // A damaged one must not stop the collection; it is fetched again.
  return names.filter((name) => isReadable(repo, name));
}

function isReadable(repo: Repository, streamName: string): boolean {
  try {
    return readStream(repo, streamName) !== null;
  } catch (error) {
    if (error instanceof IntegrityError || error instanceof FormatError) return false;
    throw error;
  }
}

/** Removes everything that is not in use, unless the pull that failed with `error` may go on from it. */
export function settleDownloads(repo: Repository, error: unknown): void {
  const isBad =
    error instanceof IntegrityError ||
    error instanceof FormatError ||
    error instanceof PolicyError ||
    error instanceof UnsupportedError ||
    (error instanceof StateError && error.code === "no-space");
  if (isBad) dropDownloads(repo);
}

/** Removes what is old or too much. */
export function pruneDownloads(repo: Repository, nowSec: number = Date.now() / 1000): void {
  for (const { name } of findSurplus(listFiles(repo), nowSec)) removeUnlessBusy(repo, name);
}

function findSurplus(files: readonly KeptFile[], nowSec: number): readonly KeptFile[] {
  const newest = files.toSorted((a, b) => b.mtimeSec - a.mtimeSec);
  return newest.filter((file, i) => i >= MAX_FILES || nowSec - file.mtimeSec > MAX_AGE_S);
}

/** Removes everything that is not in use. */
export function dropDownloads(repo: Repository): void {
  for (const { name } of listFiles(repo)) removeUnlessBusy(repo, name);
  removeEmptyDownloads(repo);
}

interface KeptFile {
  readonly name: string;
  readonly mtimeSec: number;
}

function listFiles(repo: Repository): KeptFile[] {
  const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
  using fd = openatIfExists(repo.dir, DOWNLOADS_DIRECTORY, flags);
  if (fd === null) return [];
  const names = readDirectory(fd).map(({ name }) => Buffer.from(name).toString("latin1"));
  return names
    .filter((name) => /\.(part|layer)$/.test(name))
    .map((name) => ({ name, mtimeSec: fstatatIfExists(fd, name)?.mtimeSec ?? 0 }));
}

function removeUnlessBusy(repo: Repository, name: string): void {
  const path = `${DOWNLOADS_DIRECTORY}/${name}`;
  using fd: Fd | null = openatIfExists(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd === null || !flock(fd, "exclusive", { wait: false })) return;
  unlinkatIfExists(repo.dir, path);
}

function keptLayerName(diffId: string): string {
  const { algorithm, hex } = splitDigest(diffId);
  return `${algorithm}-${hex}${LAYER_SUFFIX}`;
}
