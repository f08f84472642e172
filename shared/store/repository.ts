// The composefs repository (composefs-rs.md 1): opening, creating, locking.
//
//   meta.json   objects/ab/cdef…   images/<hex>, streams/<id> -> ../objects/ab/cdef…   {images,streams}/refs/…
//
// A repository is open under a shared flock on its directory; the collector takes it exclusively. This
// file and objects.ts, images.ts are what prepare-root uses: they reach neither splitstream nor zlib.

import { FormatError, isErrno, StateError, UnsupportedError } from "../error.ts";
import type { VerityAlgorithm } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import { mkdiratIfMissing, openDirectory, readDirectory, rmdirat } from "../sys/directory.ts";
import type { Dir, Fd } from "../sys/fd.ts";
import { flock, fsync, openatIfExists, readAll, writeAll } from "../sys/file.ts";
import { fstatatIfExists } from "../sys/stat.ts";
import { enableVerity, measureVerity } from "../sys/verity.ts";
import { TemporaryFile } from "../txn/temporary-file.ts";
import { type ErofsVersion, formatMetadata, type Metadata, parseMetadata } from "./metadata.ts";

export const META_FILE = "meta.json";
export const META_PREFIX = ".meta-";
const META_LIMIT_BYTES = 65_536;
const LOCK_TIMEOUT_MS = 60_000;
const LOCK_POLL_MS = 20;

/** An open repository. Mutable fields are what the object store remembers between calls. */
export class Repository implements Disposable {
  readonly dir: Fd;
  /** For messages. */
  readonly path: string;
  readonly algorithm: VerityAlgorithm;
  /** Every object must have fs-verity. */
  readonly secure: boolean;
  /** Format of new images. */
  readonly erofsVersion: ErofsVersion;
  /** Formats in which every image is made besides. */
  readonly extraErofsVersions: readonly ErofsVersion[];
  /** Why nothing may be written, or null. */
  readonly readOnlyReason: string | null;
  /** False once the file system said that it has no O_TMPFILE. */
  hasTmpfile = true;
  /** False once the file system said that it has no fs-verity. */
  hasVerity = true;
  /** First two digits of objects whose directory exists. */
  readonly objectDirectories = new Set<string>();
  /** Buffers of finished object writers. */
  readonly buffers: Uint8Array[] = [];

  constructor(dir: Fd, path: string, metadata: Metadata, secure: boolean) {
    this.dir = dir;
    this.path = path;
    this.algorithm = metadata.algorithm;
    this.secure = secure;
    this.erofsVersion = metadata.erofsVersion;
    this.extraErofsVersions = metadata.extraErofsVersions;
    const [feature] = metadata.readOnlyFeatures;
    this.readOnlyReason = feature === undefined ? null : `a newer program's feature "${feature}"`;
  }

  /** Also gives the lock back. */
  [Symbol.dispose](): void {
    this.dir.close();
  }
}

interface OpenOptions {
  /** Treats it as one whose objects need no fs-verity. */
  readonly insecure?: boolean;
  /** Writes meta.json where a repository from before meta.json lacks it. */
  readonly upgrade?: boolean;
  /** Format of images made through this opening; the default is what meta.json says. */
  readonly erofsVersion?: ErofsVersion;
}

/**
 * Opens the repository at `path`. StateError("missing") when there is none, StateError("newer-format")
 * when it cannot be understood.
 */
export function openRepository(dir: Dir, path: string, options: OpenOptions = {}): Repository {
  const fd = openatIfExists(dir, path, O.RDONLY | O.DIRECTORY);
  if (fd === null) throw missing(path, "there is no such directory");
  try {
    lockRepository(fd, path, "shared");
    const found = readMetadata(fd, path) ?? upgradeOldLayout(fd, path, options.upgrade === true);
    const { erofsVersion } = options;
    const chosen = erofsVersion === undefined ? {} : { erofsVersion, extraErofsVersions: [] };
    const metadata = { ...found.metadata, ...chosen };
    return new Repository(fd, path, metadata, found.secure && options.insecure !== true);
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** What a new repository is to be. */
interface RepositoryConfig {
  readonly algorithm: VerityAlgorithm;
  readonly secure: boolean;
  /** 1 when left out. */
  readonly erofsVersion?: ErofsVersion;
  /** A directory with objects but without meta.json is new as well, instead of an old repository. */
  readonly takesObjects?: boolean;
}

/**
 * Opens the repository at `path` or creates it (its parent must exist). An existing one keeps its own
 * configuration; only another algorithm is refused (StateError "conflict"). When creating a secure
 * repository fails, e.g. for want of fs-verity, nothing is left behind.
 */
export function ensureRepository(dir: Dir, path: string, config: RepositoryConfig): Repository {
  const created = mkdiratIfMissing(dir, path, 0o700);
  try {
    initialize(dir, path, config);
  } catch (error) {
    if (created) removeEmpty(dir, path);
    throw error;
  }
  const repo = openRepository(dir, path, { upgrade: true });
  if (repo.algorithm === config.algorithm) return repo;
  repo[Symbol.dispose]();
  throw new StateError(
    "conflict",
    `The repository "${path}" uses ${repo.algorithm}, but ${config.algorithm} is wanted`,
  );
}

/** The first error is the one to report, so this has none. */
function removeEmpty(dir: Dir, path: string): void {
  try {
    rmdirat(dir, path);
  } catch {}
}

/** StateError when a newer program's repository may only be read. */
export function requireWritable(repo: Repository): void {
  if (repo.readOnlyReason === null) return;
  throw new StateError(
    "newer-format",
    `The repository "${repo.path}" cannot be changed: it has ${repo.readOnlyReason}; update bootc`,
  );
}

/**
 * Takes or converts the lock, waiting up to a minute for whoever holds it. Polling instead of blocking,
 * so that a deadlock (the same process having it open twice) becomes a message.
 */
function lockRepository(
  fd: Fd,
  path: string,
  mode: "shared" | "exclusive",
  waitMs: number = LOCK_TIMEOUT_MS,
): void {
  const deadline = performance.now() + waitMs;
  while (!flock(fd, mode, { wait: false })) {
    if (performance.now() > deadline) {
      throw new StateError("locked", `The repository "${path}" is in use by another process`);
    }
    Bun.sleepSync(LOCK_POLL_MS);
  }
}

/**
 * Runs `action` while nobody else has the repository open, then goes back to sharing it. Converting a
 * flock gives the old one up first, also when it fails, so what was read before must be read again.
 */
export function withExclusiveLock<T>(
  repo: Repository,
  action: () => T,
  waitMs: number = LOCK_TIMEOUT_MS,
): T {
  requireWritable(repo);
  try {
    lockRepository(repo.dir, repo.path, "exclusive", waitMs);
    return action();
  } finally {
    lockRepository(repo.dir, repo.path, "shared");
  }
}

interface FoundMetadata {
  readonly metadata: Metadata;
  readonly secure: boolean;
}

/** Null when there is no meta.json; FormatError and StateError as `openRepository`. */
export function readMetadata(fd: Fd, path: string): FoundMetadata | null {
  using file = openatIfExists(fd, META_FILE, O.RDONLY | O.NOFOLLOW);
  if (file === null) return null;
  const text = Buffer.from(readAll(file, META_LIMIT_BYTES)).toString("utf8");
  try {
    return { metadata: parseMetadata(text), secure: hasVerity(file) };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(
      error.code,
      `The repository "${path}" cannot be opened: ${error.message}`,
      error.context,
      { cause: error.cause },
    );
  }
}

function hasVerity(file: Fd): boolean {
  try {
    return measureVerity(file) !== null;
  } catch (error) {
    if (error instanceof UnsupportedError) return false;
    throw error;
  }
}

/** Writes meta.json unless something with objects in it is there already. */
function initialize(dir: Dir, path: string, config: RepositoryConfig): void {
  using fd = openDirectory(dir, path);
  const exists = (name: string) => fstatatIfExists(fd, name) !== null;
  if (exists(META_FILE) || (exists("objects") && config.takesObjects !== true)) return;
  writeMetadata(fd, config);
  using parent = openDirectory(fd, "..");
  fsync(parent);
}

/** Durable when it returns; a meta.json that is already there wins. */
function writeMetadata(fd: Fd, { algorithm, secure, erofsVersion }: RepositoryConfig): void {
  using file = new TemporaryFile(fd, { parent: ".", prefix: META_PREFIX, mode: 0o644 });
  writeAll(file.fd, Buffer.from(formatMetadata(algorithm, erofsVersion)));
  fsync(file.fd);
  if (secure) {
    file.makeReadOnly();
    enableVerity(file.fd, algorithm);
  }
  file.link(META_FILE);
  fsync(fd);
}

/** composefs-rs `infer_metadata`: the first object says algorithm and verity; the format is V1. */
function upgradeOldLayout(fd: Fd, path: string, write: boolean): FoundMetadata {
  const object = findAnyObject(fd);
  if (object === null) throw missing(path, `it has no ${META_FILE}`);
  if (!write) {
    throw missing(
      path,
      `it has no ${META_FILE}; "bootc upgrade" brings an old repository up to date`,
    );
  }
  const { algorithm, secure } = object;
  try {
    writeMetadata(fd, object);
  } catch (error) {
    if (!isErrno(error, "EROFS")) throw error; // read-only: good enough for reading
  }
  return { metadata: parseMetadata(formatMetadata(algorithm)), secure };
}

function findAnyObject(fd: Fd): { algorithm: VerityAlgorithm; secure: boolean } | null {
  using objects = openatIfExists(fd, "objects", O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (objects === null) return null;
  for (const entry of readDirectory(objects)) {
    const prefix = Buffer.from(entry.name).toString("latin1");
    if (!/^[0-9a-f]{2}$/.test(prefix)) continue;
    using directory = openDirectory(objects, prefix);
    for (const { name } of readDirectory(directory)) {
      const rest = Buffer.from(name).toString("latin1");
      if (!/^([0-9a-f]{62}|[0-9a-f]{126})$/.test(rest)) continue;
      using file = openatIfExists(directory, rest, O.RDONLY | O.NOFOLLOW);
      if (file === null) continue;
      return { algorithm: rest.length === 62 ? "sha256" : "sha512", secure: hasVerity(file) };
    }
  }
  return null;
}

function missing(path: string, reason: string): StateError {
  return new StateError("missing", `No composefs repository at "${path}": ${reason}`, { path });
}

/** Lower-case hex of the repository's digest length, else FormatError. */
export function checkDigest(repo: Repository, digest: string): string {
  const length = repo.algorithm === "sha256" ? 64 : 128;
  if (digest.length === length && /^[0-9a-f]+$/.test(digest)) return digest;
  throw new FormatError(
    "bad-value",
    `"${digest.slice(0, 140)}" is not a ${repo.algorithm} digest`,
    {
      format: "object digest",
    },
  );
}
