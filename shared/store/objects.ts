// Objects: files named by the fs-verity digest of their content, objects/ab/cdef….
//
// Order of a write: everything into a file without a name -> (secure: reopen read-only, enable verity,
// measure it) -> link. So a name never stands for half a file. Objects are not fsynced one by one:
// publishStream and publishImage syncfs before anything refers to them.
// An object that is already there counts only after its digest agrees; one that does not is replaced.
// Small files stay in memory until their digest is known, which spares writing those already stored.

import { IntegrityError, isErrno, UnsupportedError } from "../error.ts";
import { computeVerityDigest, objectPath, VerityHasher } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import { mkdiratIfMissing } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { copyFileRange, openatIfExists, pread, readAll, writeAll } from "../sys/file.ts";
import { fstat } from "../sys/stat.ts";
import { enableVerity, measureVerity } from "../sys/verity.ts";
import { explainNoSpace } from "../txn/no-space.ts";
import { TemporaryFile } from "../txn/temporary-file.ts";
import { checkDigest, type Repository, requireWritable } from "./repository.ts";

const BUFFER_BYTES = 256 * 1024;
const OBJECT_MODE = 0o644;
/** Rounds of copying to a fresh file when somebody holds the old one open for writing. */
const BUSY_COPIES = 8;
export const TEMPORARY_PREFIX = ".tmp-object-";

export interface StoredObject {
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Stores content that is in memory; returns its digest. */
export function storeObject(repo: Repository, bytes: Uint8Array): string {
  requireWritable(repo);
  const digest = computeVerityDigest(bytes, repo.algorithm);
  return explainFull(repo, () => {
    if (inspectObject(repo, digest) === "good") return digest;
    using file = createTemporary(repo);
    writeAll(file.fd, bytes);
    return publish(repo, file, digest);
  });
}

/** Runs a write; a full disk becomes a StateError that names the repository. */
function explainFull<T>(repo: Repository, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw explainNoSpace(error, `repository "${repo.path}"`);
  }
}

/** Begins a new object; see ObjectWriter. */
export function createObject(repo: Repository): ObjectWriter {
  requireWritable(repo);
  return new ObjectWriter(repo);
}

/** Takes content piece by piece. Without `finish` nothing is stored. */
class ObjectWriter implements Disposable {
  readonly #repo: Repository;
  #buffer: Uint8Array | null;
  #bufferedBytes = 0;
  #sizeBytes = 0;
  /** Once the content outgrew the buffer. */
  #file: TemporaryFile | null = null;
  #hasher: VerityHasher | null = null;

  constructor(repo: Repository) {
    this.#repo = repo;
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
        ? storeObject(this.#repo, buffer.subarray(0, this.#bufferedBytes))
        : explainFull(this.#repo, () =>
            publish(this.#repo, file, this.#hasher?.digestHex() ?? null),
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

function createTemporary(repo: Repository): TemporaryFile {
  const options = { parent: "objects", prefix: TEMPORARY_PREFIX, mode: OBJECT_MODE };
  const open = () => new TemporaryFile(repo.dir, { ...options, named: !repo.hasTmpfile });
  let file: TemporaryFile;
  try {
    file = open();
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    mkdiratIfMissing(repo.dir, "objects", 0o755);
    file = open();
  }
  if (file.isNamed) repo.hasTmpfile = false;
  return file;
}

/** Seals a complete file and gives it its name. `digest` is null when only the kernel can know it. */
function publish(repo: Repository, file: TemporaryFile, digest: string | null): string {
  if (!repo.secure) {
    linkObject(repo, file, digest!);
    return digest!;
  }
  using sealed = sealFile(repo, file);
  const measured = measureVerity((sealed ?? file).fd);
  if (measured === null) throw verityMissing(repo, digest ?? "(new object)");
  if (digest !== null && measured.digest !== digest) throw mismatch(repo, digest, measured.digest);
  linkObject(repo, sealed ?? file, measured.digest);
  return measured.digest;
}

/**
 * Enables fs-verity. Usually returns null; when some process (a child forked meanwhile) keeps `file` open
 * for writing, returns a sealed copy instead.
 */
function sealFile(repo: Repository, file: TemporaryFile): TemporaryFile | null {
  let current: TemporaryFile | null = null;
  for (let copies = 0; ; copies++) {
    const target = current ?? file;
    target.makeReadOnly();
    try {
      enableVerity(target.fd, repo.algorithm);
      return current;
    } catch (error) {
      if (!isErrno(error, "ETXTBSY") || copies === BUSY_COPIES) {
        current?.[Symbol.dispose]();
        throw error;
      }
    }
    const copy = createTemporary(repo);
    copyFileRange(target.fd, copy.fd, fstat(target.fd).sizeBytes);
    current?.[Symbol.dispose]();
    current = copy;
  }
}

function linkObject(repo: Repository, file: TemporaryFile, digest: string): void {
  const prefix = digest.slice(0, 2);
  if (!repo.objectDirectories.has(prefix)) {
    mkdiratIfMissing(repo.dir, `objects/${prefix}`, 0o755);
    repo.objectDirectories.add(prefix);
  }
  const path = `objects/${objectPath(digest)}`;
  if (file.link(path)) return;
  if (inspectObject(repo, digest) !== "good") file.replace(path);
}

/**
 * Whether an object of this name is there and has the content it should have: what the kernel measures,
 * and without fs-verity, which only an insecure repository may lack, what its bytes hash to.
 */
export function inspectObject(
  repo: Repository,
  digest: string,
): "missing" | "good" | "digest-mismatch" | "verity-missing" {
  using fd = openStored(repo, digest);
  if (fd === null) return "missing";
  const measured = measure(repo, fd);
  if (measured === null && repo.secure) return "verity-missing";
  return (measured ?? hashFile(repo, fd)) === digest ? "good" : "digest-mismatch";
}

/** O_NONBLOCK: a FIFO in the object's place must not hang the boot. */
function openStored(repo: Repository, digest: string): Fd | null {
  const path = `objects/${objectPath(checkDigest(repo, digest))}`;
  return openatIfExists(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
}

/** The digest the kernel enforces, or null without verity; a secure repository insists on support. */
export function measure(repo: Repository, fd: Fd): string | null {
  if (!repo.hasVerity && !repo.secure) return null;
  try {
    return measureVerity(fd)?.digest ?? null;
  } catch (error) {
    if (repo.secure || !(error instanceof UnsupportedError)) throw error;
    repo.hasVerity = false;
    return null;
  }
}

function hashFile(repo: Repository, fd: Fd): string {
  const hasher = new VerityHasher(repo.algorithm);
  const buffer = repo.buffers.pop() ?? new Uint8Array(BUFFER_BYTES);
  for (let offset = 0; ; ) {
    const count = pread(fd, buffer, offset);
    if (count === 0) break;
    hasher.update(buffer.subarray(0, count));
    offset += count;
  }
  repo.buffers.push(buffer);
  return hasher.digestHex();
}

/**
 * Opens an object for reading. With verity the kernel's measurement must agree, in a secure repository
 * it must have verity; without, the content is not checked here (see readObject).
 * IntegrityError("missing-object" | "verity-missing" | "digest-mismatch").
 */
export function openObject(repo: Repository, digest: string): Fd {
  return openChecked(repo, digest).fd;
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

/** True when `measured` proves the digest, false when an insecure repository does without. */
export function checkMeasured(repo: Repository, digest: string, measured: string | null): boolean {
  if (measured === null && repo.secure) throw verityMissing(repo, digest);
  if (measured !== null && measured !== digest) throw mismatch(repo, digest, measured);
  return measured !== null;
}

/** The whole content, always checked against the digest; FormatError("limit") beyond `limitBytes`. */
export function readObject(repo: Repository, digest: string, limitBytes: number): Uint8Array {
  const { fd, hasVerity } = openChecked(repo, digest);
  using _ = fd;
  const bytes = readAll(fd, limitBytes);
  if (!hasVerity) {
    const found = computeVerityDigest(bytes, repo.algorithm);
    if (found !== digest) throw mismatch(repo, digest, found);
  }
  return bytes;
}

/**
 * Whether the object is there: measured in a secure repository; elsewhere by name only, its content is
 * checked when it is read.
 */
export function hasObject(repo: Repository, digest: string): boolean {
  using fd = openStored(repo, digest);
  if (fd === null) return false;
  const measured = measure(repo, fd);
  return measured === digest || (measured === null && !repo.secure);
}

function mismatch(repo: Repository, digest: string, found: string): IntegrityError {
  return new IntegrityError(
    "digest-mismatch",
    `Object "${digest}" in "${repo.path}" is damaged: its digest is "${found}"`,
    { digest, found },
  );
}

function verityMissing(repo: Repository, digest: string): IntegrityError {
  return new IntegrityError(
    "verity-missing",
    `Object "${digest}" in "${repo.path}" has no fs-verity, which this repository requires`,
    { digest },
  );
}
