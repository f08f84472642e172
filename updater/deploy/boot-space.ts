// Room for kernels and entries on the boot partition, counted as its file system counts: whole clusters,
// directories included (vfat: 32 bytes for each 13 characters of a name). The arithmetic is pure.
//
// A staged deployment that is going to be replaced makes room; what one could fall back to never does by
// itself: the message says which command gives it up.

import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { S_IFDIR, S_IFMT } from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import { openat } from "../../shared/sys/file.ts";
import { fstatatIfExists, fstatfs } from "../../shared/sys/stat.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { UKI_PARENT } from "../boot/kernel-directory.ts";
import type { EntryFile } from "./entry-exchange.ts";
import type { World } from "./world.ts";

/** What is going to be written. */
export interface BootFiles {
  /** Sizes of the files of a new kernel; none when an equal kernel is there. */
  readonly kernelBytes: readonly number[];
  /** The names in each directory that they lie in; absent: those of one plain kernel. */
  readonly kernelNames?: readonly (readonly string[])[];
  /** All of the staged directory. */
  readonly entries: readonly EntryFile[];
}

/** What a kernel takes up, and whom it could be taken from. */
export interface KernelUse {
  /** Below the boot directory. */
  readonly name: string;
  readonly bytes: number;
}

export interface BootRoom {
  readonly path: string;
  readonly availableBytes: number;
  readonly clusterBytes: number;
  /** Kernels that only the staged deployment uses. */
  readonly staged: readonly KernelUse[];
  /** Deployments in the menu besides the running and pinned ones, last to boot first, with what only they use. */
  readonly givable: readonly { readonly id: string; readonly bytes: number }[];
}

const PLAIN_NAMES = ["vmlinuz", "initrd"];
const DIRENT_BYTES = 32;
const NAME_PART_LENGTH = 13;
/** "." and "..", and a temporary name of 90 characters while a file is written. */
const DIRECTORY_BYTES = DIRENT_BYTES * (2 + Math.ceil(90 / NAME_PART_LENGTH) + 1);

/** Exact on vfat; ext4 needs less for directories. */
export function countBootBytes(files: BootFiles, clusterBytes: number): number {
  const { kernelBytes, entries, kernelNames = [PLAIN_NAMES] } = files;
  const round = (bytes: number) => Math.ceil(bytes / clusterBytes) * clusterBytes;
  const directory = (names: readonly string[]) =>
    round(
      names.reduce(
        (sum, name) => sum + DIRENT_BYTES * (Math.ceil(name.length / NAME_PART_LENGTH) + 1),
        DIRECTORY_BYTES,
      ),
    );
  // Their parent grows by one cluster at most.
  const kernel =
    kernelBytes.length === 0
      ? 0
      : kernelNames.reduce((sum, names) => sum + directory(names) + round(1), 0);
  const menu = entries.length === 0 ? 0 : directory(entries.map((e) => e.fileName)) + round(1);
  const texts = entries.map(({ text, bytes }) => bytes?.length ?? Buffer.byteLength(text));
  return [...kernelBytes, ...texts].reduce((sum, bytes) => sum + round(bytes), kernel + menu);
}

/**
 * Names of the kernels to give up first, those of the deployment that is staged now; none when it fits as it
 * is. StateError("no-space"). Pure.
 */
export function judgeBootRoom(room: BootRoom, neededBytes: number, note = ""): readonly string[] {
  const { path, availableBytes, staged, givable } = room;
  if (availableBytes >= neededBytes) return [];
  const afterStaged = availableBytes + staged.reduce((sum, { bytes }) => sum + bytes, 0);
  if (afterStaged >= neededBytes) return staged.map(({ name }) => name);
  const missing = neededBytes - afterStaged;
  const way = givable.find(({ bytes }) => bytes >= missing);
  const advice =
    way === undefined
      ? `free at least ${missing} bytes there, or make the partition larger`
      : `"bootc delete-deployment ${way.id}" frees ${way.bytes} bytes${
          givable.length === 1
            ? ", but leaves nothing to fall back to until the update has started"
            : ""
        }`;
  throw new StateError(
    "no-space",
    `Insufficient free space for the kernel and initramfs in "${path}" (available: ${afterStaged} bytes, required: ${neededBytes} bytes${note}); ${advice}`,
    { path, availableBytes: afterStaged, neededBytes },
  );
}

export function measureBootRoom(boot: BootDirectory, world: World | null): BootRoom {
  using fd = openat(null, boot.path, O.RDONLY | O.DIRECTORY);
  const { blocksAvailable, blockSizeBytes } = fstatfs(fd);
  const room = {
    path: boot.path,
    availableBytes: blocksAvailable * blockSizeBytes,
    clusterBytes: blockSizeBytes,
  };
  if (world === null) return { ...room, staged: [], givable: [] };
  const measure = (name: string): KernelUse => ({
    name,
    bytes: measureFiles(join(boot.path, name), blockSizeBytes),
  });
  const staged = onlyUsedBy(boot, world, world.staged ?? [], world.live).map(measure);
  return { ...room, staged, givable: listGivable(boot, world, measure) };
}

/** Nobody needs to give up what is running, pinned, or on its way. */
function listGivable(
  boot: BootDirectory,
  world: World,
  measure: (name: string) => KernelUse,
): readonly { readonly id: string; readonly bytes: number }[] {
  const isFree = ({ deploymentId: id }: BootEntry) =>
    id !== null && id !== world.booted?.id && !world.pins.has(id);
  return world.live
    .filter(isFree)
    .toReversed()
    .map((entry) => {
      const others = world.live.filter((other) => other.deploymentId !== entry.deploymentId);
      const kernels = onlyUsedBy(boot, world, [entry], others).map(measure);
      return { id: entry.deploymentId!, bytes: kernels.reduce((sum, k) => sum + k.bytes, 0) };
    });
}

/** Below the boot directory; unified kernels of GRUB are on another partition, and make no room on this one. */
function onlyUsedBy(
  { path, layout }: BootDirectory,
  world: World,
  entries: readonly BootEntry[],
  others: readonly BootEntry[],
): readonly string[] {
  const used = new Set(others.map((entry) => entry.artefact));
  const names = new Set(entries.map((entry) => entry.artefact));
  const isMeant = (name: string) => names.has(name) && !used.has(name);
  const ukis = layout.ukiPath === path ? world.ukis : [];
  return [
    ...world.kernels.filter(isMeant).map((name) => join(layout.kernelParent, name)),
    ...ukis
      .filter((name) => isMeant(name.replace(/\.efi(\.extra\.d)?$/, "")))
      .map((name) => join(UKI_PARENT, name)),
  ];
}

/** Of a file, or of all files in a directory. */
function measureFiles(path: string, clusterBytes: number): number {
  const round = (bytes: number) => Math.ceil(bytes / clusterBytes) * clusterBytes;
  const stat = fstatatIfExists(null, path);
  if (stat === null) return 0;
  if ((stat.mode & S_IFMT) !== S_IFDIR) return round(stat.sizeBytes);
  using fd = openDirectory(null, path);
  return readDirectory(fd).reduce(
    (sum, { name }) => sum + round(fstatatIfExists(fd, name)?.sizeBytes ?? 0),
    clusterBytes,
  );
}
