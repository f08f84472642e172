// Garbage collection (composefs-rs.md 1.7): what no root reaches is removed.
//
// Roots: every reference, and the names the caller gives. An image keeps itself and the objects its
// files name; a stream keeps itself, its objects, the objects of its named references, and recurses into
// those that are streams of this repository.
// Names and links that are not a repository's keep nothing alive and are left alone, unless a root is
// one of them.
// Order, so that an interruption never leaves a name for something half removed: read everything (a
// root that cannot be read stops it before anything is removed) -> dead links, synced -> dead objects.
// Under the exclusive lock nobody else writes, so temporary files found then are leftovers of a crash.

import { FormatError, IntegrityError, isErrno } from "../error.ts";
import { collectObjects } from "../format/erofs/reader.ts";
import { readSplitStreamRefs } from "../format/splitstream/reader.ts";
import { objectPath } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import { readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists } from "../sys/file.ts";
import { readlinkat, unlinkat } from "../sys/link.ts";
import { fstatat, fstatatIfExists } from "../sys/stat.ts";
import { SYMLINK_PREFIX } from "../txn/symlink.ts";
import { type Category, parseObjectLink, syncDirectory } from "./links.ts";
import { TEMPORARY_PREFIX } from "./object-file.ts";
import { readObject } from "./objects.ts";
import { isRefName, listRefs, removeRef } from "./refs.ts";
import { META_PREFIX, type Repository, withExclusiveLock } from "./repository.ts";

/** Bounds on what is read into memory; real ones are a hundred times smaller. */
const IMAGE_LIMIT_BYTES = 1 << 30;
const STREAM_LIMIT_BYTES = 1 << 30;

export interface GarbageReport {
  readonly objectsRemoved: number;
  readonly objectsBytes: number;
  readonly imagesPruned: number;
  readonly streamsPruned: number;
}

export interface GarbageOptions {
  readonly roots: readonly string[];
  readonly dryRun: boolean;
  /** References to streams, below refs/, that keep nothing alive because they go next. */
  readonly ignoredRefs?: readonly string[];
  /** For one who cannot wait: about so long it waits for others, and removes objects; the rest stays for next time. */
  readonly timeLimitMs?: number;
}

/**
 * Removes what neither a reference nor `roots` (names of images or streams, e.g. deployment ids)
 * reaches; with `dryRun` only counts. Waits for other users of the repository. Throws before removing
 * anything when a root is damaged.
 */
export function collectGarbage(
  repo: Repository,
  { roots, dryRun, timeLimitMs, ignoredRefs = [] }: GarbageOptions,
): GarbageReport {
  const endMs = performance.now() + (timeLimitMs ?? Number.POSITIVE_INFINITY);
  const run = () => collect(repo, { roots, dryRun, ignoredRefs }, endMs);
  return dryRun ? run() : withExclusiveLock(repo, run, timeLimitMs);
}

/** First-level names of a category and the objects they stand for; null for what is no such link. */
type Entries = ReadonlyMap<string, string | null>;

function collect(
  repo: Repository,
  { roots, dryRun, ignoredRefs }: Required<Omit<GarbageOptions, "timeLimitMs">>,
  endMs: number,
): GarbageReport {
  const images = listEntries(repo, "images");
  const streams = listEntries(repo, "streams");
  const live = new Set<string>();
  const imageRoots = rootObjects(repo, "images", roots, images);
  const naked = nakedImages(repo, roots, images, streams);
  for (const digest of new Set([...imageRoots, ...naked])) addImage(repo, digest, live);
  addStreams(repo, streams, rootObjects(repo, "streams", roots, streams, ignoredRefs), live);

  const imagesPruned = pruneEntries(repo, "images", images, live, dryRun);
  const streamsPruned = pruneEntries(repo, "streams", streams, live, dryRun);
  if (!dryRun) removeLeftovers(repo);
  return { ...removeObjects(repo, live, dryRun, endMs), imagesPruned, streamsPruned };
}

function listEntries(repo: Repository, category: Category): Entries {
  const entries = new Map<string, string | null>();
  using fd = openatIfExists(repo.dir, category, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd === null) return entries;
  for (const { name } of readDirectory(fd)) {
    const text = Buffer.from(name).toString("utf8");
    if (text !== "refs") entries.set(text, readEntry(repo, fd, name));
  }
  return entries;
}

function readEntry(repo: Repository, fd: Fd, name: Uint8Array): string | null {
  // A name that is not UTF-8 cannot be told from others in the text of links.
  if (Buffer.compare(Buffer.from(Buffer.from(name).toString("utf8")), name) !== 0) return null;
  try {
    return parseObjectLink(repo, readlinkat(fd, name));
  } catch (error) {
    if (error instanceof FormatError || isErrno(error, "EINVAL")) return null; // EINVAL: no link
    throw error;
  }
}

function rootObjects(
  repo: Repository,
  category: Category,
  roots: readonly string[],
  entries: Entries,
  ignoredRefs: readonly string[] = [],
): Set<string> {
  const refs = listRefs(repo, category).filter(({ name }) => !ignoredRefs.includes(name));
  const referred = refs.map(({ target }) => target);
  const names = new Set([...roots, ...referred].filter((name) => entries.has(name)));
  return new Set([...names].map((name) => entries.get(name) ?? unreadable(category, name)));
}

function unreadable(category: Category, name: string): never {
  throw new IntegrityError(
    "missing-object",
    `Cannot collect garbage: "${category}/${name}", which is in use, is not a link to an object; repair it ("fsck --repair") first`,
    { name },
  );
}

/** Deployments whose images/ link got lost: still a reason to keep everything they need. */
function nakedImages(
  repo: Repository,
  roots: readonly string[],
  images: Entries,
  streams: Entries,
): string[] {
  const length = repo.algorithm === "sha256" ? 64 : 128;
  return roots.filter(
    (name) =>
      !images.has(name) &&
      !streams.has(name) &&
      name.length === length &&
      /^[0-9a-f]+$/.test(name) &&
      !isGone(repo, name),
  );
}

function addImage(repo: Repository, digest: string, live: Set<string>): void {
  const bytes = readRoot("image", digest, () => readObject(repo, digest, IMAGE_LIMIT_BYTES));
  for (const object of readRoot("image", digest, () => collectObjects(bytes))) live.add(object);
  live.add(digest);
}

function addStreams(
  repo: Repository,
  streams: Entries,
  roots: ReadonlySet<string>,
  live: Set<string>,
): void {
  const isStream = new Set(streams.values());
  const queue = [...roots];
  const seen = new Set(queue);
  for (const digest of queue) {
    live.add(digest);
    const refs = readRoot("stream", digest, () =>
      readSplitStreamRefs(readObject(repo, digest, STREAM_LIMIT_BYTES)),
    );
    for (const object of refs.objectRefs) live.add(object);
    for (const named of refs.namedRefs.values()) {
      live.add(named);
      if (!isStream.has(named) || seen.has(named)) continue;
      seen.add(named);
      queue.push(named);
    }
  }
}

/** A root that cannot be read stops the collection: nobody knows what it keeps alive. */
function readRoot<T>(what: string, digest: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new IntegrityError(
      "digest-mismatch",
      `Cannot collect garbage: ${what} "${digest}", which is in use, cannot be read; repair it ("fsck --repair") first`,
      { digest },
      { cause },
    );
  }
}

/** An object that cannot be read now is not gone: whatever leads to it stays. */
function isGone(repo: Repository, digest: string): boolean {
  return fstatatIfExists(repo.dir, `objects/${objectPath(digest)}`) === null;
}

/** Removes links whose object goes or is gone, then references to such links. Synced. */
function pruneEntries(
  repo: Repository,
  category: Category,
  entries: Entries,
  live: ReadonlySet<string>,
  dryRun: boolean,
): number {
  const isDead = (digest: string) => !live.has(digest) || isGone(repo, digest);
  const dead = [...entries].filter(([, digest]) => digest !== null && isDead(digest));
  const names = new Set(dead.map(([name]) => name));
  if (dryRun) return names.size;
  for (const { name, target } of listRefs(repo, category)) {
    const isDangling = !entries.has(target) || names.has(target);
    if (isDangling && isRefName(name)) removeRef(repo, category, name);
  }
  for (const name of names) unlinkat(repo.dir, `${category}/${name}`);
  if (names.size > 0) syncDirectory(repo, category);
  return names.size;
}

function removeObjects(
  repo: Repository,
  live: ReadonlySet<string>,
  dryRun: boolean,
  endMs: number,
): { objectsRemoved: number; objectsBytes: number } {
  let objectsRemoved = 0;
  let objectsBytes = 0;
  const length = repo.algorithm === "sha256" ? 62 : 126;
  for (const [directory, prefix] of objectDirectories(repo)) {
    using fd = directory;
    if (performance.now() > endMs) break;
    for (const { name } of readDirectory(fd)) {
      const rest = Buffer.from(name).toString("latin1");
      // What is not named as an object is not ours to remove.
      if (rest.length !== length || !/^[0-9a-f]+$/.test(rest) || live.has(prefix + rest)) continue;
      objectsRemoved += 1;
      objectsBytes += fstatat(fd, name).sizeBytes;
      if (!dryRun) unlinkat(fd, name);
    }
  }
  return { objectsRemoved, objectsBytes };
}

function* objectDirectories(repo: Repository): Generator<[Fd, string]> {
  for (let index = 0; index < 256; index++) {
    const prefix = index.toString(16).padStart(2, "0");
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    const fd = openatIfExists(repo.dir, `objects/${prefix}`, flags);
    if (fd !== null) yield [fd, prefix];
  }
}

/** Temporary files of writers that died (also of composefs-rs: the names are the same). */
function removeLeftovers(repo: Repository): void {
  for (const [path, prefix] of [
    ["objects", TEMPORARY_PREFIX],
    [".", SYMLINK_PREFIX],
    [".", META_PREFIX],
  ] as const) {
    using fd = openatIfExists(repo.dir, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    if (fd === null) continue;
    for (const { name } of readDirectory(fd)) {
      if (Buffer.from(name).toString("latin1").startsWith(prefix)) unlinkat(fd, name);
    }
  }
}
