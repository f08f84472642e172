// A blob that is being downloaded, in a file of the repository that outlives the process.
//
// One process has it open at a time (flock). What a killed process or a power cut left is believed only
// as far as its records' hashes agree (download-record.ts). Reads and writes are done by other threads, and
// the descriptor is closed only when none is under way.

import { write } from "node:fs";
import { promisify } from "node:util";
import { isErrno } from "../../shared/error.ts";
import { splitDigest } from "../../shared/format/oci/digest.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { mkdiratIfMissing, rmdirat } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { flock, ftruncate, openat } from "../../shared/sys/file.ts";
import { unlinkatIfExists } from "../../shared/sys/link.ts";
import { fstat, fstatatIfExists } from "../../shared/sys/stat.ts";
import {
  addRange,
  DownloadRecord,
  decodePieces,
  encodePiece,
  hashPiece,
  type Ranges,
  reachFrom,
  recordsAt,
  recordsLimitBytes,
} from "./download-record.ts";
import { readAt } from "./read-at.ts";

/** Below the repository; composefs-rs and bootc 1.16 look at no other names than their own. */
export const DOWNLOADS_DIRECTORY = "bootc-downloads";
const PARTIAL_SUFFIX = ".part";
/** What is read, written and recorded at a time, at most. */
export const PIECE_BYTES = 1 << 20;
/** Pieces that were just written and are kept for the reader. */
const MAX_RECENT_PIECES = 4;

const writeTo = promisify(write);

/** Where the bytes of a download are collected. */
export interface BlobStore {
  readonly kept: Ranges;
  /** At most PIECE_BYTES, which the store keeps. SyscallError or a file error, e.g. ENOSPC. */
  write(startByte: number, bytes: Uint8Array): Promise<void>;
  /** Some bytes from `position` on, or null when the first of them is missing. */
  take(position: number): Promise<Uint8Array | null>;
  /** Forgets everything. */
  clear(): Promise<void>;
  /** Also removes what outlives the process. */
  remove(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** "sha256-<hex>.part" below the downloads directory. FormatError when it is no digest. */
export function partialFilePath(digest: string): string {
  const { algorithm, hex } = splitDigest(digest);
  return `${DOWNLOADS_DIRECTORY}/${algorithm}-${hex}${PARTIAL_SUFFIX}`;
}

/**
 * Opens the blob's file, and makes it when `create` is set. "missing" when there is none, "busy" when another
 * process has it.
 */
export async function openPartialFile(
  repo: Repository,
  layer: Descriptor,
  options: { readonly create: boolean; readonly signal?: AbortSignal | undefined },
): Promise<PartialFile | "missing" | "busy"> {
  const path = partialFilePath(layer.digest);
  if (options.create) mkdiratIfMissing(repo.dir, DOWNLOADS_DIRECTORY, 0o700);
  const fd = lockFile(repo, path, options.create);
  if (fd === "missing" || fd === "busy") return fd;
  const file = new PartialFile(repo, path, layer, fd);
  try {
    await file.load(options.signal);
    return file;
  } catch (error) {
    await file[Symbol.asyncDispose]();
    throw error;
  }
}

/** Removes the directory unless something is in it. */
export function removeEmptyDownloads(repo: Repository): void {
  try {
    rmdirat(repo.dir, DOWNLOADS_DIRECTORY);
  } catch (error) {
    if (!isErrno(error, "ENOENT", "ENOTEMPTY", "EEXIST", "ENOTDIR")) throw error;
  }
}

function lockFile(repo: Repository, path: string, create: boolean): Fd | "missing" | "busy" {
  for (;;) {
    const fd = openIfPossible(repo, path, create);
    if (fd === null) return "missing";
    let isOurs = false;
    try {
      if (!flock(fd, "exclusive", { wait: false })) return "busy";
      // Whoever had it before may have removed it.
      isOurs = fstatatIfExists(repo.dir, path)?.ino === fstat(fd).ino;
      if (isOurs) return fd;
    } finally {
      if (!isOurs) fd.close();
    }
  }
}

function openIfPossible(repo: Repository, path: string, create: boolean): Fd | null {
  const flags = O.RDWR | O.NOFOLLOW | O.NONBLOCK | (create ? O.CREAT : 0);
  try {
    return openat(repo.dir, path, flags, 0o600);
  } catch (error) {
    if (!create && isErrno(error, "ENOENT", "ENOTDIR")) return null;
    throw error;
  }
}

export class PartialFile implements BlobStore, AsyncDisposable {
  readonly #repo: Repository;
  readonly #path: string;
  readonly #layer: Descriptor;
  readonly #fd: Fd;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #recent = new Map<number, Uint8Array>();
  #kept: Ranges = [];
  #recordBytes = 0;

  constructor(repo: Repository, path: string, layer: Descriptor, fd: Fd) {
    this.#repo = repo;
    this.#path = path;
    this.#layer = layer;
    this.#fd = fd;
  }

  get kept(): Ranges {
    return this.#kept;
  }

  /** Finds out what is there, by reading all of it. */
  async load(signal: AbortSignal | undefined): Promise<void> {
    const start = recordsAt(this.#layer);
    const { sizeBytes } = fstat(this.#fd);
    const limit = Math.min(sizeBytes - start, recordsLimitBytes(this.#layer));
    if (limit <= 0) return;
    const records = await this.#read(start, limit);
    const step = DownloadRecord.sizeBytes;
    this.#recordBytes = Math.ceil(records.length / step) * step;
    for (const { startByte, endByte, contentHash } of decodePieces(this.#layer, records)) {
      signal?.throwIfAborted();
      if (endByte - startByte > PIECE_BYTES) continue;
      const bytes = await this.#read(startByte, endByte - startByte);
      if (bytes.length < endByte - startByte || hashPiece(bytes) !== contentHash) continue;
      this.#kept = addRange(this.#kept, { startByte, endByte });
    }
  }

  async write(startByte: number, bytes: Uint8Array): Promise<void> {
    const endByte = startByte + bytes.length;
    await this.#write(startByte, bytes);
    const piece = { startByte, endByte, contentHash: hashPiece(bytes) };
    const recordAt = recordsAt(this.#layer) + this.#recordBytes;
    this.#recordBytes += DownloadRecord.sizeBytes;
    await this.#write(recordAt, encodePiece(this.#layer, piece));
    this.#kept = addRange(this.#kept, piece);
    this.#recent.set(startByte, bytes);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > MAX_RECENT_PIECES) this.#recent.delete(oldest!);
  }

  async take(position: number): Promise<Uint8Array | null> {
    const recent = this.#recent.get(position);
    if (recent !== undefined) {
      this.#recent.delete(position);
      return recent;
    }
    const count = Math.min(reachFrom(this.#kept, position) - position, PIECE_BYTES);
    if (count === 0) return null;
    const bytes = await this.#read(position, count);
    // Somebody cut the file off; the blob's digest will not agree.
    return bytes.length === 0 ? new Uint8Array(count) : bytes;
  }

  async clear(): Promise<void> {
    await this.#settle();
    ftruncate(this.#fd, 0);
    this.#recordBytes = 0;
    this.#kept = [];
    this.#recent.clear();
  }

  async remove(): Promise<void> {
    unlinkatIfExists(this.#repo.dir, this.#path);
    await this[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#settle();
    this.#fd.close();
    this.#recent.clear();
  }

  /** What there is of `count` bytes. */
  async #read(position: number, count: number): Promise<Uint8Array> {
    const buffer = Buffer.allocUnsafe(count);
    const length = await this.#track(readAt(this.#fd, buffer, position));
    return buffer.subarray(0, length);
  }

  async #write(position: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.length - done;
      const writing = writeTo(this.#fd.number, bytes, done, rest, position + done);
      done += (await this.#track(writing)).bytesWritten;
    }
  }

  async #track<T>(operation: Promise<T>): Promise<T> {
    this.#pending.add(operation);
    try {
      return await operation;
    } finally {
      this.#pending.delete(operation);
    }
  }

  async #settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
  }
}

/** For blobs that are not worth a file. */
export class BlobMemory implements BlobStore {
  readonly #bytes: Uint8Array;
  #kept: Ranges = [];

  constructor(sizeBytes: number) {
    this.#bytes = new Uint8Array(sizeBytes);
  }

  get kept(): Ranges {
    return this.#kept;
  }

  async write(startByte: number, bytes: Uint8Array): Promise<void> {
    this.#bytes.set(bytes, startByte);
    this.#kept = addRange(this.#kept, { startByte, endByte: startByte + bytes.length });
  }

  async take(position: number): Promise<Uint8Array | null> {
    const end = reachFrom(this.#kept, position);
    return end === position ? null : this.#bytes.slice(position, end);
  }

  async clear(): Promise<void> {
    this.#kept = [];
  }

  async remove(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}
}
