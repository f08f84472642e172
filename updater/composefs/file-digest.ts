// The fs-verity digest of an open file: the kernel's where it has one, else computed by a pool of threads,
// a large file by all of them at once.

import { fromHex, toHex } from "../../shared/bytes/hex.ts";
import { UnsupportedError } from "../../shared/error.ts";
import { S_IFMT, S_IFREG } from "../../shared/format/tree/node.ts";
import { VerityHasher } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, read } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import { measureVerity } from "../../shared/sys/verity.ts";
import { storeFile } from "./digest-store.ts";
import {
  addTask,
  adoptFile,
  closeFile,
  createHashPool,
  defaultThreads,
  drainPool,
  type HashPool,
} from "./hash-pool.ts";
import type { HashTask } from "./hash-queue.ts";
import { checkUnchanged, type FileState, MAX_TASK_BYTES, runTask } from "./hash-task.ts";

const STREAM_BYTES = 256 << 10;
/**
 * Files up to this size are hashed where they are opened: handing them to somebody costs as much. Up to
 * the second while others have enough to do.
 */
const MAX_OWN_BYTES = 4096;
const MAX_BUSY_BYTES = 32 << 10;
const ENOUGH_PENDING_BYTES = 1 << 20;
/** Results are handed over after so many files at the latest. */
const DELIVERED_FILES = 64;

export interface FileMeter {
  readonly pool: HashPool;
  /** False once a file system had no fs-verity: the others, mostly the same, are not asked. */
  asksKernel: boolean;
}

export function createFileMeter(pool: HashPool): FileMeter {
  return { pool, asksKernel: true };
}

/**
 * Finds the digest of a regular file that is not empty and that the pool has adopted, and hands it to
 * `onDigest`, now or in a later call of the pool (see addTask of the pool), when the file is closed. The store,
 * if the pool has one, gets a copy. A file that changes meanwhile is StateError "conflict".
 */
export function measureFile(
  meter: FileMeter,
  file: Fd,
  stat: FileState,
  onDigest: (digest: Uint8Array) => void,
): void {
  const { pool } = meter;
  const known = askKernel(meter, file);
  if (known !== null) {
    finishFile(pool, file, known, stat);
    onDigest(fromHex(known));
  } else if (stat.sizeBytes > MAX_TASK_BYTES) {
    measureRanges(pool, file, stat, onDigest);
  } else if (isForUs(pool, stat.sizeBytes)) {
    measureHere(pool, file, stat, onDigest);
  } else {
    addTask(pool, makeTask("file", file, stat, 0, stat.sizeBytes), (digest) => {
      closeFile(pool, file);
      onDigest(digest);
    });
  }
}

/**
 * SHA-256 digests of the files at `paths`, in their order, some at a time. When one cannot be measured,
 * throws after `onDigests` has got all before it. Files of which nobody knows the size beforehand, like
 * those of /proc, are read to their end.
 */
export function measureFiles(
  paths: readonly string[],
  onDigests: (digests: readonly string[]) => void,
): void {
  using pool = createHashPool({ algorithm: "sha256", threads: defaultThreads(), store: null });
  const meter = createFileMeter(pool);
  const digests: string[] = [];
  let delivered = 0;
  const deliver = () => {
    let end = delivered;
    while (digests[end] !== undefined) end += 1;
    if (end > delivered) onDigests(digests.slice(delivered, end));
    delivered = end;
  };
  try {
    for (const [index, path] of paths.entries()) {
      measurePath(meter, path, (digest) => {
        digests[index] = toHex(digest);
      });
      if (index % DELIVERED_FILES === 0) deliver();
    }
    drainPool(pool);
  } catch (error) {
    drainPool(pool);
    throw error;
  } finally {
    deliver();
  }
}

function measurePath(meter: FileMeter, path: string, onDigest: (digest: Uint8Array) => void): void {
  const file = openat(null, path, O.RDONLY);
  adoptFile(meter.pool, file);
  const stat = fstat(file);
  const isRegular = (stat.mode & S_IFMT) === S_IFREG;
  if (isRegular && stat.sizeBytes > 0) {
    measureFile(meter, file, stat, onDigest);
    return;
  }
  const hasher = new VerityHasher(meter.pool.algorithm);
  const buffer = new Uint8Array(STREAM_BYTES);
  for (let count = read(file, buffer); count > 0; count = read(file, buffer)) {
    hasher.update(buffer.subarray(0, count));
  }
  closeFile(meter.pool, file);
  onDigest(fromHex(hasher.digestHex()));
}

function measureHere(
  pool: HashPool,
  file: Fd,
  stat: FileState,
  onDigest: (digest: Uint8Array) => void,
): void {
  let digest: Uint8Array;
  try {
    digest = runTask(pool.runner, makeTask("file", file, stat, 0, stat.sizeBytes));
  } catch (error) {
    drainPool(pool); // throws if something earlier went wrong: that is what the user is told
    throw error;
  }
  closeFile(pool, file);
  onDigest(digest);
}

function isForUs({ store, pendingBytes }: HashPool, sizeBytes: number): boolean {
  if (store !== null) return false;
  return sizeBytes <= (pendingBytes > ENOUGH_PENDING_BYTES ? MAX_BUSY_BYTES : MAX_OWN_BYTES);
}

/** A large file as many tasks. */
function measureRanges(
  pool: HashPool,
  file: Fd,
  stat: FileState,
  onDigest: (digest: Uint8Array) => void,
): void {
  const hasher = new VerityHasher(pool.algorithm);
  for (let offset = 0; offset < stat.sizeBytes; offset += MAX_TASK_BYTES) {
    const length = Math.min(MAX_TASK_BYTES, stat.sizeBytes - offset);
    addTask(pool, makeTask("range", file, stat, offset, length), (hashes) => {
      hasher.addRange(length, hashes);
      if (offset + length < stat.sizeBytes) return;
      const digest = hasher.digestHex();
      finishFile(pool, file, digest, stat);
      onDigest(fromHex(digest));
    });
  }
}

function makeTask(
  kind: HashTask["kind"],
  file: Fd,
  { mtimeSec, mtimeNsec }: FileState,
  offsetBytes: number,
  lengthBytes: number,
): HashTask {
  return { kind, fd: file.number, offsetBytes, lengthBytes, mtimeSec, mtimeNsec };
}

function finishFile(pool: HashPool, file: Fd, digest: string, stat: FileState): void {
  if (pool.store !== null) storeFile(pool.store, file, digest, stat.sizeBytes);
  checkUnchanged(file, stat);
  closeFile(pool, file);
}

function askKernel(meter: FileMeter, fd: Fd): string | null {
  if (!meter.asksKernel) return null;
  try {
    const measured = measureVerity(fd);
    return measured?.algorithm === meter.pool.algorithm ? measured.digest : null;
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    meter.asksKernel = false;
    return null;
  }
}
