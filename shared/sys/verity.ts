// fs-verity: making a file immutable and asking for its digest (kernel docs: fsverity.rst).
//
// Always 4096-byte blocks, no salt, no signature: what composefs names objects by.

import { toHex } from "../bytes/hex.ts";
import { bytes, struct, u16, u32, u64, zeros } from "../bytes/layout.ts";
import { FormatError, UnsupportedError } from "../error.ts";
import type { VerityAlgorithm } from "../format/verity/digest.ts";
import { IOCTL } from "./constants.ts";
import { ERRNO, syscallError } from "./errno.ts";
import type { Fd } from "./fd.ts";
import { attempt } from "./libc.ts";
import { describeFd } from "./path.ts";

const ALGORITHM_NUMBER = { sha256: 1, sha512: 2 } as const satisfies Record<
  VerityAlgorithm,
  number
>;
const BLOCK_SIZE_BYTES = 4096;
/** Somebody (a child forked meanwhile) may hold the file open for writing for a moment. */
const BUSY_RETRIES = 3;
const BUSY_WAIT_MS = 1;

export const FsverityEnableArg = struct("fsverity_enable_arg", 128, {
  version: u32,
  hashAlgorithm: u32,
  blockSize: u32,
  saltSize: u32,

  saltPtr: u64,
  sigSize: u32,
  reserved1: zeros(4),

  sigPtr: u64,
  reserved2: zeros(88),
});

export const FsverityDigest = struct("fsverity_digest", 68, {
  algorithm: u16,
  sizeBytes: u16,
  digest: bytes(64),
});

/**
 * FS_IOC_ENABLE_VERITY. `fd` must be read-only and nobody may have the file open for writing: ETXTBSY
 * is retried for a few milliseconds. UnsupportedError("no-fsverity") when the file system cannot;
 * SyscallError EEXIST when the file has verity already.
 */
export function enableVerity(fd: Fd, algorithm: VerityAlgorithm): void {
  const argument = FsverityEnableArg.encode({
    version: 1,
    hashAlgorithm: ALGORITHM_NUMBER[algorithm],
    blockSize: BLOCK_SIZE_BYTES,
  });
  for (let retry = 0; ; retry++) {
    const result = attempt("ioctl", fd.number, IOCTL.FS_IOC_ENABLE_VERITY, argument);
    if (result >= 0) return;
    if (result !== -ERRNO.get("ETXTBSY")! || retry === BUSY_RETRIES) throw enableError(fd, -result);
    Bun.sleepSync(BUSY_WAIT_MS);
  }
}

function enableError(fd: Fd, errno: number): Error {
  if (isUnsupported(errno)) return unsupported(fd, errno);
  const hint =
    errno === ERRNO.get("EINVAL")
      ? "the file system's blocks must be 4096 bytes for fs-verity"
      : "";
  return syscallError("FS_IOC_ENABLE_VERITY", errno, { path: describeFd(fd) }, hint);
}

function isUnsupported(errno: number): boolean {
  return errno === ERRNO.get("ENOTTY") || errno === ERRNO.get("EOPNOTSUPP");
}

function unsupported(fd: Fd, errno: number): UnsupportedError {
  const path = describeFd(fd);
  return new UnsupportedError(
    "no-fsverity",
    `The file system of "${path}" has no fs-verity (ext4 needs "tune2fs -O verity", and the kernel must support it)`,
    { path },
    { cause: syscallError("fs-verity ioctl", errno, { path }) },
  );
}

/**
 * FS_IOC_MEASURE_VERITY: the digest the kernel enforces for every read of this file, or null when the
 * file has no verity. UnsupportedError("no-fsverity") when the file system has none at all.
 */
export function measureVerity(fd: Fd): { algorithm: VerityAlgorithm; digest: string } | null {
  const argument = FsverityDigest.encode({ sizeBytes: 64 });
  const result = attempt("ioctl", fd.number, IOCTL.FS_IOC_MEASURE_VERITY, argument);
  if (result === -ERRNO.get("ENODATA")!) return null;
  if (isUnsupported(-result)) throw unsupported(fd, -result);
  if (result < 0) throw syscallError("FS_IOC_MEASURE_VERITY", -result, { path: describeFd(fd) });
  const { algorithm, digest, sizeBytes } = FsverityDigest.decode(argument);
  const name = algorithm === 1 ? "sha256" : algorithm === 2 ? "sha512" : null;
  if (name === null || sizeBytes > digest.length) {
    throw new FormatError(
      "unsupported",
      `"${describeFd(fd)}" has fs-verity algorithm ${algorithm}`,
    );
  }
  return { algorithm: name, digest: toHex(digest.subarray(0, sizeBytes)) };
}
