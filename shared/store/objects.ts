// Objects: files named by the fs-verity digest of their content, objects/ab/cdef….
//
// Order of a write: everything into a file without a name -> (secure: reopen read-only, enable verity,
// measure it) -> link. So a name never stands for half a file. Objects are not fsynced one by one:
// publishStream and publishImage syncfs before anything refers to them.
// An object that is already there counts only after its digest agrees; one that does not is replaced.
// Small files stay in memory until their digest is known, which spares writing those already stored.

import { IntegrityError } from "../error.ts";
import { computeVerityDigest, VerityHasher } from "../format/verity/digest.ts";
import { copyFileContents } from "../sys/copy.ts";
import type { Fd } from "../sys/fd.ts";
import { readAll, writeAll } from "../sys/file.ts";
import type { TemporaryFile } from "../txn/temporary-file.ts";
import { createTemporary, explainFull, publishFile, type StoreOptions } from "./object-file.ts";
import {
  BUFFER_BYTES,
  checkMeasured,
  explainDamage,
  hashFile,
  isGoodObject,
  measure,
  mismatch,
  openStored,
} from "./object-inspection.ts";
import { type Repository, requireWritable } from "./repository.ts";

export interface StoredObject {
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Stores content that is in memory; returns its digest. */
export function storeObject(
  repo: Repository,
  bytes: Uint8Array,
  options: StoreOptions = {},
): string {
  const digest = computeVerityDigest(bytes, repo.algorithm);
  storeKnownObject(repo, bytes, digest, options);
  return digest;
}

/** As `storeObject`, for a caller who has computed the digest. */
export function storeKnownObject(
  repo: Repository,
  bytes: Uint8Array,
  digest: string,
  options: StoreOptions = {},
): void {
  requireWritable(repo);
  explainFull(repo, () => {
    if (options.replaces !== true && isGoodObject(repo, digest)) return;
    using file = createTemporary(repo);
    writeAll(file.fd, bytes);
    publishFile(repo, file, digest, options);
  });
}

/**
 * Stores the whole content of a file on this machine, sharing its blocks where the file systems can.
 * The digest is that of the copy, so the file may change meanwhile; `options.onBytes` sees the copy too.
 */
export function ensureObjectFromFile(
  repo: Repository,
  input: Fd,
  options: StoreOptions & { readonly onBytes?: (bytes: Uint8Array) => void } = {},
): StoredObject {
  requireWritable(repo);
  return explainFull(repo, () => {
    using file = createTemporary(repo);
    const { sizeBytes } = copyFileContents(input, file.fd);
    // In a secure repository the kernel makes the digest.
    const isRead = !repo.secure || options.onBytes !== undefined;
    const digest = isRead ? hashFile(repo, file.fd, options.onBytes) : null;
    return { digest: publishFile(repo, file, digest, options), sizeBytes };
  });
}

/** Begins a new object; see ObjectWriter. */
export function createObject(repo: Repository, options: StoreOptions = {}): ObjectWriter {
  requireWritable(repo);
  return new ObjectWriter(repo, options);
}

/** Takes content piece by piece. Without `finish` nothing is stored. */
class ObjectWriter implements Disposable {
  readonly #repo: Repository;
  readonly #options: StoreOptions;
  #buffer: Uint8Array | null;
  #bufferedBytes = 0;
  #sizeBytes = 0;
  /** Once the content outgrew the buffer. */
  #file: TemporaryFile | null = null;
  #hasher: VerityHasher | null = null;

  constructor(repo: Repository, options: StoreOptions) {
    this.#repo = repo;
    this.#options = options;
    this.#buffer = repo.buffers.pop() ?? new Uint8Array(BUFFER_BYTES);
  }

  /** `bytes` may be reused afterwards. StateError("no-space") when the disk is full. */
  write(bytes: Uint8Array): void {
    explainFull(this.#repo, () => this.#write(bytes));
  }

  #write(bytes: Uint8Array): void {
    this.#sizeBytes += bytes.length;
    if (this.#file !== null) {
      this.#append(this.#file, bytes);
      return;
    }
    const buffer = this.#requireBuffer();
    if (this.#sizeBytes <= buffer.length) {
      buffer.set(bytes, this.#bufferedBytes);
      this.#bufferedBytes = this.#sizeBytes;
      return;
    }
    this.#file = createTemporary(this.#repo);
    if (!this.#repo.secure) this.#hasher = new VerityHasher(this.#repo.algorithm);
    this.#append(this.#file, buffer.subarray(0, this.#bufferedBytes));
    this.#append(this.#file, bytes);
  }

  /** The object is in the store (though not yet synced); the writer is used up. */
  finish(): StoredObject {
    const sizeBytes = this.#sizeBytes;
    const file = this.#file;
    const buffer = this.#requireBuffer();
    const digest =
      file === null
        ? storeObject(this.#repo, buffer.subarray(0, this.#bufferedBytes), this.#options)
        : explainFull(this.#repo, () =>
            publishFile(this.#repo, file, this.#hasher?.digestHex() ?? null, this.#options),
          );
    this[Symbol.dispose]();
    return { digest, sizeBytes };
  }

  #append(file: TemporaryFile, bytes: Uint8Array): void {
    writeAll(file.fd, bytes);
    this.#hasher?.update(bytes);
  }

  #requireBuffer(): Uint8Array {
    if (this.#buffer === null) throw new Error("An object writer was used after its end");
    return this.#buffer;
  }

  [Symbol.dispose](): void {
    this.#file?.[Symbol.dispose]();
    this.#file = null;
    if (this.#buffer !== null) this.#repo.buffers.push(this.#buffer);
    this.#buffer = null;
  }
}

export type { ObjectWriter };

/**
 * Opens an object for reading. With verity the kernel's measurement must agree, in a secure repository
 * it must have verity; without, the content is not checked here (see readObject).
 * IntegrityError("missing-object" | "verity-missing" | "digest-mismatch").
 */
export function openObject(repo: Repository, digest: string): Fd {
  return explainDamage(repo, digest, () => openChecked(repo, digest).fd);
}

function openChecked(repo: Repository, digest: string): { fd: Fd; hasVerity: boolean } {
  const fd = openStored(repo, digest);
  if (fd === null) {
    throw new IntegrityError(
      "missing-object",
      `Object "${digest}" is missing from the repository "${repo.path}"; pull the image again`,
      { digest },
    );
  }
  try {
    return { fd, hasVerity: checkMeasured(repo, digest, measure(repo, fd)) };
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** The whole content, always checked against the digest; FormatError("limit") beyond `limitBytes`. */
export function readObject(repo: Repository, digest: string, limitBytes: number): Uint8Array {
  return explainDamage(repo, digest, () => readChecked(repo, digest, limitBytes));
}

function readChecked(repo: Repository, digest: string, limitBytes: number): Uint8Array {
  const { fd, hasVerity } = openChecked(repo, digest);
  using _ = fd;
  const bytes = readAll(fd, limitBytes);
  if (!hasVerity) {
    const found = computeVerityDigest(bytes, repo.algorithm);
    if (found !== digest) throw mismatch(repo, digest, found);
  }
  return bytes;
}
