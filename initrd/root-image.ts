// May this deployment start? The only place that decides it (design.md section 3).
//
// - The digest on the kernel command line is the promise; the EROFS image must have exactly that
//   fs-verity digest. Nothing on the disk (meta.json, origin files) can weaken it.
// - "?" tolerates an image without fs-verity, never one with another digest: then the digest is
//   computed here, from the bytes.
// - Where the initramfs has keys, a statement signed by one of them is wanted as well (trust.ts); then "?"
//   tolerates nothing, unless the initramfs says so.
// - The image is read to its end, so that damage shows now, while the machine can still start
//   another deployment, and not as an I/O error later.

import { shortId } from "../shared/bytes/hex.ts";
import {
  describeError,
  IntegrityError,
  isErrno,
  StateError,
  UnsupportedError,
} from "../shared/error.ts";
import type { ComposefsKarg } from "../shared/format/kargs/composefs.ts";
import { VerityHasher } from "../shared/format/verity/digest.ts";
import { O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, openatIfExists, read } from "../shared/sys/file.ts";
import { measureVerity } from "../shared/sys/verity.ts";
import type { StartTrust } from "./trust.ts";

export interface RootImage extends Disposable {
  readonly fd: Fd;
  readonly karg: ComposefsKarg;
  /** Every file must match its digest, too: no "?" was given, or it did not count. */
  readonly enforced: boolean;
  readonly trust: StartTrust;
}

const CHUNK_BYTES = 1 << 20;

/**
 * The first of `kargs` that the repository has. `judge` throws when it is not trusted. IntegrityError when its
 * digest is another one or it is damaged, StateError when there is no repository or none of the images.
 */
export function openRootImage(
  sysroot: Fd,
  sysrootPath: string,
  kargs: readonly ComposefsKarg[],
  judge: (karg: ComposefsKarg) => StartTrust,
): RootImage {
  using images = openImages(sysroot, sysrootPath);
  for (const karg of kargs) {
    // NONBLOCK: a FIFO of that name must not stop the start for ever.
    const fd = openatIfExists(images, karg.digest, O.RDONLY | O.NONBLOCK);
    if (fd === null) continue;
    try {
      const trust = judge(karg);
      const enforced = !karg.optional || trust.verityRequired;
      verify(fd, { ...karg, optional: !enforced }, trust);
      return { fd, karg, enforced, trust, [Symbol.dispose]: () => fd.close() };
    } catch (error) {
      fd.close();
      throw error;
    }
  }
  const names = kargs.map(({ digest }) => shortId(digest)).join(", ");
  throw new StateError(
    "missing",
    `No deployment ${names} in "${sysrootPath}/composefs/images": it was removed or lies on another disk; choose another boot entry`,
  );
}

function openImages(sysroot: Fd, sysrootPath: string): Fd {
  try {
    return openat(sysroot, "composefs/images", O.PATH | O.DIRECTORY);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new StateError(
      "missing",
      `No composefs repository at "${sysrootPath}/composefs": check root= on the kernel command line`,
      {},
      { cause },
    );
  }
}

function verify(fd: Fd, karg: ComposefsKarg, trust: StartTrust): void {
  const measured = measure(fd, karg, trust);
  if (measured !== null && measured !== karg.digest) throw mismatch(karg, measured);
  const computed = readWhole(fd, karg, measured === null);
  if (computed !== null && computed !== karg.digest) throw mismatch(karg, computed);
}

/** The digest the kernel enforces; null when there is none and that is tolerated. */
function measure(fd: Fd, karg: ComposefsKarg, { verityRequired }: StartTrust): string | null {
  const allowance = verityRequired
    ? "allow-missing-verity=true in the initramfs' trust.conf"
    : `"${karg.key}=?..." on the kernel command line`;
  const remedy = `deploy it again with fs-verity, or allow it with ${allowance}`;
  try {
    const result = measureVerity(fd);
    if (result !== null || karg.optional) return result?.digest ?? null;
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    if (karg.optional) return null;
    // Its own advice is for whoever makes file systems; the kernel's reason stays.
    const { cause } = error;
    throw new IntegrityError(
      "verity-missing",
      `The disk of deployment ${shortId(karg.digest)} has no fs-verity: ${remedy}`,
      {},
      { cause },
    );
  }
  throw new IntegrityError(
    "verity-missing",
    `The image of deployment ${shortId(karg.digest)} is not protected by fs-verity: ${remedy}`,
  );
}

/** Reads to the end; returns the digest when asked to compute it. */
function readWhole(fd: Fd, karg: ComposefsKarg, compute: boolean): string | null {
  const hasher = compute ? new VerityHasher(karg.algorithm) : null;
  const buffer = new Uint8Array(CHUNK_BYTES);
  try {
    for (let length = read(fd, buffer); length > 0; length = read(fd, buffer)) {
      hasher?.update(buffer.subarray(0, length));
    }
  } catch (cause) {
    throw new IntegrityError(
      "digest-mismatch",
      `The image of deployment ${shortId(karg.digest)} is damaged (${describeError(cause)}): choose another boot entry`,
    );
  }
  return hasher?.digestHex() ?? null;
}

function mismatch(karg: ComposefsKarg, found: string): IntegrityError {
  return new IntegrityError(
    "digest-mismatch",
    `The image of deployment ${shortId(karg.digest)} was changed: its fs-verity digest is ${shortId(found)}; choose another boot entry`,
    { expected: karg.digest, found },
  );
}
