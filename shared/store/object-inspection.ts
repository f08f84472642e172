// Is an object what its name says? Opening and judging what lies below objects/, without writing.
//
// fs-verity decides where an object has it: the kernel measures, and refuses to read what does not agree.
// Without it, which only an insecure repository may lack, the bytes are hashed. Used by prepare-root: keep
// its imports small.

import { IntegrityError, isErrno, LOST_BLOCK, UnsupportedError } from "../error.ts";
import { objectPath, VerityHasher } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists, pread } from "../sys/file.ts";
import { measureVerity } from "../sys/verity.ts";
import { checkDigest, type Repository } from "./repository.ts";

export const BUFFER_BYTES = 256 * 1024;
/** What a disk or a stranger did to a file, as opposed to what this process or machine lacks. */
const DAMAGE = [...LOST_BLOCK, "ELOOP", "ENXIO", "ENOTDIR"];

export type ObjectState = "missing" | "good" | "digest-mismatch" | "verity-missing";

/**
 * Whether an object of this name is there and has the content it should have. `deep` also reads what
 * fs-verity vouches for: a block the disk lost is SyscallError EIO, which the measurement alone hides.
 */
export function inspectObject(
  repo: Repository,
  digest: string,
  options: { readonly deep?: boolean } = {},
): ObjectState {
  using fd = openStored(repo, digest);
  if (fd === null) return "missing";
  const measured = measure(repo, fd);
  if (measured === null && repo.secure) return "verity-missing";
  const found = measured !== null && options.deep !== true ? measured : hashFile(repo, fd);
  return found === digest && (measured ?? digest) === digest ? "good" : "digest-mismatch";
}

/** As `inspectObject` says "good", and false for what cannot be opened or read. */
export function isGoodObject(repo: Repository, digest: string): boolean {
  try {
    return inspectObject(repo, digest) === "good";
  } catch (error) {
    if (isErrno(error, ...DAMAGE)) return false;
    throw error;
  }
}

/** O_NONBLOCK: a FIFO in the object's place must not hang the boot. */
export function openStored(repo: Repository, digest: string): Fd | null {
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

/** Digest of the whole content, read here whatever the kernel says; `onBytes` sees every byte. */
export function hashFile(repo: Repository, fd: Fd, onBytes?: (bytes: Uint8Array) => void): string {
  const hasher = new VerityHasher(repo.algorithm);
  const buffer = repo.buffers.pop() ?? new Uint8Array(BUFFER_BYTES);
  for (let offset = 0; ; ) {
    const count = pread(fd, buffer, offset);
    if (count === 0) break;
    const bytes = buffer.subarray(0, count);
    hasher.update(bytes);
    onBytes?.(bytes);
    offset += count;
  }
  repo.buffers.push(buffer);
  return hasher.digestHex();
}

/** True when `measured` proves the digest, false when an insecure repository does without. */
export function checkMeasured(repo: Repository, digest: string, measured: string | null): boolean {
  if (measured === null && repo.secure) throw verityMissing(repo, digest);
  if (measured !== null && measured !== digest) throw mismatch(repo, digest, measured);
  return measured !== null;
}

/**
 * Whether the object is there: measured in a secure repository; elsewhere by name only, its content is
 * checked when it is read.
 */
export function hasObject(repo: Repository, digest: string): boolean {
  try {
    using fd = openStored(repo, digest);
    if (fd === null) return false;
    const measured = measure(repo, fd);
    return measured === digest || (measured === null && !repo.secure);
  } catch (error) {
    if (isErrno(error, ...DAMAGE)) return false;
    throw error;
  }
}

/** Runs a read; what a disk or a stranger did to the file becomes an IntegrityError that names it. */
export function explainDamage<T>(repo: Repository, digest: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!isErrno(cause, ...DAMAGE)) throw cause;
    throw new IntegrityError(
      "digest-mismatch",
      `Object "${digest}" in "${repo.path}" is damaged`,
      { digest },
      { cause },
    );
  }
}

export function mismatch(repo: Repository, digest: string, found: string): IntegrityError {
  return new IntegrityError(
    "digest-mismatch",
    `Object "${digest}" in "${repo.path}" is damaged: its digest is "${found}"`,
    { digest, found },
  );
}

export function verityMissing(repo: Repository, digest: string): IntegrityError {
  return new IntegrityError(
    "verity-missing",
    `Object "${digest}" in "${repo.path}" has no fs-verity, which this repository requires`,
    { digest },
  );
}
