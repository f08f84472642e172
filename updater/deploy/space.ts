// Is there room for an update? Asked before anything is written, with the numbers of the pull's plan, and
// for the boot partition again when the kernel is known exactly.
//
// Only what is certainly needed is asked for: an estimate that is too large must not keep a machine from
// its updates. A disk that fills up in spite of this ends the pull, and what it wrote is removed.

import { basename, dirname, join } from "node:path";
import { StateError } from "../../shared/error.ts";
import type { DirectoryNode, TreeNode } from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat } from "../../shared/sys/file.ts";
import { fstatatIfExists, fstatfs } from "../../shared/sys/stat.ts";
import { type BootDirectory, kernelRoot } from "../boot/boot-layout.ts";
import type { PullPlan } from "../image/pull-plan.ts";
import { countBootBytes, judgeBootRoom, measureBootRoom } from "./boot-space.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { fileSizeBytes, type KernelWrites } from "./kernel-source.ts";
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
export function requireKernelSpace(boot: BootDirectory, plan: PullPlan, world: World | null): void {
  const { kernel } = plan;
  if (kernel.kind === "stored" || (kernel.kind === "known" && kernel.isStored)) return;
  const isKnown = kernel.kind === "known";
  const bytes = isKnown ? kernel.sizeBytes : bootedKernelBytes(boot, world);
  if (bytes === null) return;
  const note = isKnown ? "" : ", the size of those that are running";
  const room = measureBootRoom(boot, world);
  // The new menu will be about as large as the one there is.
  const files = { kernelBytes: [bytes], entries: world?.live ?? [] };
  judgeBootRoom(room, countBootBytes(files, room.clusterBytes), note);
}

/**
 * Room on the boot partition for these very files. Answers what has to go first, below the boot directory: the
 * kernels of the staged deployment, which is going to be replaced.
 */
export function requireExactBootSpace(
  boot: BootDirectory,
  world: World | null,
  { files }: KernelWrites,
  entries: readonly EntryFile[],
): readonly string[] {
  const kernelBytes = files.map(({ sizeBytes }) => sizeBytes);
  const directories = [...new Set(files.map(({ to }) => dirname(to)))];
  const kernelNames = directories.map((directory) =>
    files.filter(({ to }) => dirname(to) === directory).map(({ to }) => basename(to)),
  );
  const room = measureBootRoom(boot, world);
  const needed = countBootBytes({ kernelBytes, kernelNames, entries }, room.clusterBytes);
  const first = judgeBootRoom(room, needed);
  // GRUB's /boot may be any file system: each file, and the two directories.
  const inodes = kernelBytes.length + entries.length + 2;
  requireSpace({ path: boot.path, what: "kernels and boot entries", bytes: 0, inodes });
  return first;
}

/**
 * Room on the root disk for a deployment's own files: the image's /etc, and beside it, while shutdown merges, the
 * same once more with this machine's changes.
 */
export function requireStateSpace(
  physicalRoot: string,
  etc: DirectoryNode,
  localBytes: readonly number[],
): void {
  using fd = openat(null, physicalRoot, O.RDONLY | O.DIRECTORY);
  const { blockSizeBytes } = fstatfs(fd);
  const image = measureTree(etc, blockSizeBytes);
  const local = localBytes.reduce((sum, bytes) => sum + roundUp(bytes, blockSizeBytes), 0);
  requireSpace({
    path: physicalRoot,
    what: "the deployment's /etc",
    bytes: 2 * image.bytes + local,
    inodes: 2 * image.inodes + localBytes.length,
  });
}

/** As plain files: hard links once, symlinks in their inodes, a block for a directory. */
function measureTree(
  root: DirectoryNode,
  blockBytes: number,
): { readonly bytes: number; readonly inodes: number } {
  const seen = new Set<TreeNode>();
  const queue: TreeNode[] = [root];
  let bytes = 0;
  for (const node of queue) {
    if (seen.has(node)) continue;
    seen.add(node);
    if (node.kind === "directory") {
      bytes += blockBytes;
      for (const child of node.entries.values()) queue.push(child);
    } else if (node.kind === "file") bytes += roundUp(fileSizeBytes(node), blockBytes);
  }
  return { bytes, inodes: seen.size };
}

function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

function bootedKernelBytes(boot: BootDirectory, world: World | null): number | null {
  const entry = world?.live.find(({ deploymentId }) => deploymentId === world.booted?.id);
  if (entry === undefined || entry.artefact === null) return null;
  if (entry.entry.target.kind === "efi") {
    const path = join(boot.layout.ukiPath ?? boot.path, entry.entry.target.path);
    return fstatatIfExists(null, path)?.sizeBytes ?? null;
  }
  const directory = join(kernelRoot(boot), entry.artefact);
  let sizeBytes = 0;
  for (const name of KERNEL_FILES) {
    const stat = fstatatIfExists(null, join(directory, name));
    if (stat === null) return null;
    sizeBytes += stat.sizeBytes;
  }
  return sizeBytes;
}
