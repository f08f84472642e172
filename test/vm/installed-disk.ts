// A disk with version 1 installed by `bootc install to-filesystem`, made in the workbench.
// Invariants: GPT with an ESP (vfat) and a root partition (ext4 with fs-verity and 4096-byte blocks);
// the disk is saved by what went into it and only ever used through overlays.

import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { createPartitionedDisk, ext4FromDir } from "./disks.ts";
import type { Machine } from "./machine.ts";
import type { Narrator } from "./narrator.ts";
import type { OsImage } from "./os-image.ts";
import { withWorkbench } from "./workbench.ts";

const diskMegabytes = 5120;
const target = "/run/work/target";
const device = "/dev/disk/by-id/virtio-target";

/** As bootc's `to-disk` would. */
const partitions =
  "label: gpt\nsize=512MiB, type=uefi, name=esp\ntype=linux-root-x86-64, name=root\n";
const fileSystemCommands = [
  `udevadm wait --timeout=60 ${device}-part1 ${device}-part2`,
  `mkfs.vfat -F 32 -n ESP ${device}-part1 >/dev/null`,
  `mkfs.ext4 -q -O verity -b 4096 -L root ${device}-part2`,
  `mkdir -p ${target} && mount ${device}-part2 ${target}`,
];

/** The disk as a qcow2 file; `narrator` sees the commands when it has to be made. */
export async function ensureInstalledDisk(image: OsImage, narrator: Narrator): Promise<string> {
  const key = cacheKey(
    "installed 3",
    diskMegabytes,
    partitions,
    fileSystemCommands,
    image.manifestDigest,
  );
  const dir = await cachedDir(join(cacheDir, "vm", `installed-${key}`), async (path) => {
    await installDisk(join(path, "disk.qcow2"), image, await ensureMedia(image), narrator);
  });
  return join(dir, "disk.qcow2");
}

/** Makes a disk and installs what is on `media` to it; `workbench` is the image that the installer runs. */
export async function installDisk(
  path: string,
  workbench: OsImage,
  media: string,
  narrator: Narrator,
): Promise<void> {
  const disk = await createPartitionedDisk(path, diskMegabytes, partitions);
  const disks = [
    { id: "target", path: disk, mode: "write" },
    { id: "media", path: media, mode: "read" },
  ] as const;
  const options = { image: workbench, disks, onLine: narrator.progress };
  await withWorkbench(options, async (machine) => {
    for (const command of fileSystemCommands) await narrate(machine, narrator, command);
    await machine.must(
      "mkdir -p /run/work/media && mount -o ro /dev/disk/by-id/virtio-media /run/work/media",
    );
    const install = `bootc install to-filesystem --source-imgref oci:/run/work/media/os.oci ${target}`;
    await narrate(machine, narrator, install, 600_000);
  });
}

/** A file system that holds an image's OCI layout as /os.oci: the "USB stick". */
export async function ensureMedia(
  image: Pick<OsImage, "manifestDigest" | "ociDir">,
): Promise<string> {
  const key = cacheKey("media 1", image.manifestDigest);
  const dir = await cachedDir(join(cacheDir, "vm", `media-${key}`), async (path) => {
    await ext4FromDir(join(path, "media.raw"), join(image.ociDir, ".."), 1024, "USB");
  });
  return join(dir, "media.raw");
}

/** Runs a command that must succeed and shows it with its answer. */
export async function narrate(
  machine: Machine,
  narrator: Narrator,
  command: string,
  timeoutMs = 120_000,
): Promise<string> {
  const started = performance.now();
  narrator.command(command);
  const output = await machine.must(command, { timeoutMs });
  narrator.answer(output, performance.now() - started);
  return output;
}
