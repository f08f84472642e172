// Is there room for an update? Asked before anything is written, with the numbers of the pull's plan, and
// for the boot partition again when the kernel is known exactly.
//
// Only what is certainly needed is asked for: an estimate that is too large must not keep a machine from
// its updates. A disk that fills up in spite of this ends the pull, and what it wrote is removed.

import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat } from "../../shared/sys/file.ts";
import { fstatatIfExists, fstatfs } from "../../shared/sys/stat.ts";
import { KERNEL_PARENT } from "../boot/kernel-directory.ts";
import type { PullPlan } from "../image/pull-plan.ts";
import { type KernelFiles, kernelSizeBytes } from "./kernel-source.ts";
import type { World } from "./world.ts";

const KERNEL_FILES = ["vmlinuz", "initrd"];

/** `what` is what it is for: `"oci:/path"`, "the kernel and initramfs". */
interface SpaceNeed {
  readonly path: string;
  readonly what: string;
  readonly bytes: number;
  readonly inodes?: number;
  /** Appended to the message: where the numbers are from. */
  readonly note?: string;
}

/** StateError("no-space") when the file system of `path` has less free than is needed. */
function requireSpace({ path, what, bytes, inodes = 0, note = "" }: SpaceNeed): void {
  using fd = openat(null, path, O.RDONLY | O.DIRECTORY);
  const { blocksAvailable, blockSizeBytes, files, filesFree } = fstatfs(fd);
  const availableBytes = blocksAvailable * blockSizeBytes;
  if (availableBytes < bytes) {
    throw new StateError(
      "no-space",
      `Insufficient free space for ${what} in "${path}" (available: ${availableBytes} bytes, required: ${bytes} bytes${note}); free at least ${bytes - availableBytes} bytes and try again`,
      { path, availableBytes, neededBytes: bytes },
    );
  }
  // Zero files: the file system makes inodes as it needs them.
  if (files === 0 || filesFree >= inodes) return;
  throw new StateError(
    "no-space",
    `Insufficient free inodes for ${what} in "${path}" (available: ${filesFree}, required: ${inodes}${note}); remove at least ${inodes - filesFree} files and try again`,
    { path, availableInodes: filesFree, neededInodes: inodes },
  );
}

/** Room on the root disk for what `plan` writes; `name` is the image's. */
export function requirePullSpace(path: string, plan: PullPlan, name: string): void {
  const { leastBytes, leastInodes, isExact } = plan.written;
  requireSpace({
    path,
    what: `"${name}"`,
    bytes: leastBytes,
    inodes: leastInodes,
    note: isExact ? "" : " or more",
  });
}

/**
 * Room on the boot partition for the kernel that `plan` brings; when it does not tell, one as large as the
 * booted one is expected. A kernel that an image here has already is probably there.
 */
export function requireKernelSpace(bootPath: string, plan: PullPlan, world: World | null): void {
  const { kernel } = plan;
  if (kernel.kind === "stored" || (kernel.kind === "known" && kernel.isStored)) return;
  const isKnown = kernel.kind === "known";
  const bytes = isKnown ? kernel.sizeBytes : bootedKernelBytes(bootPath, world);
  if (bytes === null) return;
  requireSpace({
    path: bootPath,
    what: "the kernel and initramfs",
    bytes,
    note: isKnown ? "" : ", the size of those that are running",
  });
}

/** Room on the boot partition for these very files. */
export function requireExactKernelSpace(path: string, files: KernelFiles): void {
  requireSpace({ path, what: "the kernel and initramfs", bytes: kernelSizeBytes(files) });
}

function bootedKernelBytes(bootPath: string, world: World | null): number | null {
  const entry = world?.live.find(({ deploymentId }) => deploymentId === world.booted?.id);
  if (entry === undefined || entry.artefact === null) return null;
  const directory = join(bootPath, KERNEL_PARENT, entry.artefact);
  let sizeBytes = 0;
  for (const name of KERNEL_FILES) {
    const stat = fstatatIfExists(null, join(directory, name));
    if (stat === null) return null;
    sizeBytes += stat.sizeBytes;
  }
  return sizeBytes;
}
