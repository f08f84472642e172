// The fs-verity digest of a file on disk: the kernel's where it has one, else computed.

import { UnsupportedError } from "../../shared/error.ts";
import { type VerityAlgorithm, VerityHasher } from "../../shared/format/verity/digest.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { pread } from "../../shared/sys/file.ts";
import { measureVerity } from "../../shared/sys/verity.ts";

const BUFFER_BYTES = 1 << 20;

export interface FileMeter {
  readonly algorithm: VerityAlgorithm;
  readonly buffer: Uint8Array;
  /** False once a file system had no fs-verity: the others, mostly the same, are not asked. */
  asksKernel: boolean;
}

export function createFileMeter(algorithm: VerityAlgorithm): FileMeter {
  return { algorithm, buffer: new Uint8Array(BUFFER_BYTES), asksKernel: true };
}

/** `sizeBytes` is what was read; null when the kernel knew the digest. */
export function measureFile(
  meter: FileMeter,
  fd: Fd,
): { readonly digest: string; readonly sizeBytes: number | null } {
  const known = askKernel(meter, fd);
  if (known !== null) return { digest: known, sizeBytes: null };
  const hasher = new VerityHasher(meter.algorithm);
  let sizeBytes = 0;
  for (;;) {
    const count = pread(fd, meter.buffer, sizeBytes);
    if (count === 0) return { digest: hasher.digestHex(), sizeBytes };
    hasher.update(meter.buffer.subarray(0, count));
    sizeBytes += count;
  }
}

function askKernel(meter: FileMeter, fd: Fd): string | null {
  if (!meter.asksKernel) return null;
  try {
    const measured = measureVerity(fd);
    return measured?.algorithm === meter.algorithm ? measured.digest : null;
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    meter.asksKernel = false;
    return null;
  }
}
