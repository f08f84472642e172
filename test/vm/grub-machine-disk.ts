// An installed disk that GRUB starts instead of systemd-boot: kernels, entries and grubenv in /boot of the root disk,
// as bootc installs it for GRUB (docs/boot-loaders.md); the ESP has nothing but GRUB.

import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey, projectDir } from "../support/cache.ts";
import { EMPTY_ENVIRONMENT } from "../support/grub-machine.ts";
import { createOverlay, ext4FromDir } from "./disks.ts";
import { GRUB_CONFIG } from "./grub-disk.ts";
import { ensureGrubImage, type GrubRelease } from "./grub-image.ts";
import { ensureInstalledDisk } from "./installed-disk.ts";
import { silentNarrator } from "./narrator.ts";
import type { OsImage } from "./os-image.ts";
import { withWorkbench } from "./workbench.ts";

const device = "/dev/disk/by-id/virtio-target";

/** In the workbench: what was installed for systemd-boot becomes what GRUB wants. */
const COMMANDS = [
  `udevadm wait --timeout=60 ${device}-part1 ${device}-part2`,
  "mkdir -p /run/work/esp /run/work/root /run/work/grub",
  `mount ${device}-part1 /run/work/esp && mount ${device}-part2 /run/work/root`,
  "mount -o ro /dev/disk/by-id/virtio-grub /run/work/grub",
  "mkdir -p /run/work/root/boot/loader/entries /run/work/root/boot/grub",
  "cp -r /run/work/esp/EFI/Linux/bootc_composefs-* /run/work/root/boot/",
  `cd /run/work/esp/loader/entries && for entry in *.conf; do
    sed 's#/EFI/Linux/#/boot/#' $entry > /run/work/root/boot/loader/entries/$entry; done`,
  "rm -r /run/work/esp/EFI /run/work/esp/loader",
  "mkdir -p /run/work/esp/EFI/BOOT && cp /run/work/grub/BOOTX64.EFI /run/work/esp/EFI/BOOT/",
  "cp /run/work/grub/grub.cfg /run/work/grub/bootc.cfg /run/work/grub/grubenv /run/work/root/boot/grub/",
];

/** The disk as a qcow2 file, a difference to the installed one. */
export async function ensureGrubMachineDisk(image: OsImage, release: GrubRelease): Promise<string> {
  const installed = await ensureInstalledDisk(image, silentNarrator);
  const program = await ensureGrubImage(
    release,
    { label: "root", directory: "/boot/grub" },
    console.log,
  );
  const key = cacheKey("grub machine 1", installed, program, GRUB_CONFIG, COMMANDS);
  const dir = await cachedDir(join(cacheDir, "vm", `grub-machine-${key}`), async (path) => {
    const files = join(path, "files");
    mkdirSync(files);
    copyFileSync(program, join(files, "BOOTX64.EFI"));
    copyFileSync(join(projectDir, "grub/bootc.cfg"), join(files, "bootc.cfg"));
    writeFileSync(join(files, "grub.cfg"), GRUB_CONFIG);
    writeFileSync(join(files, "grubenv"), EMPTY_ENVIRONMENT);
    const grub = await ext4FromDir(join(path, "grub.raw"), files, 32, "grub");
    const disk = await createOverlay(join(path, "disk.qcow2"), installed);
    const disks = [
      { id: "target", path: disk, mode: "write" },
      { id: "grub", path: grub, mode: "read" },
    ] as const;
    await withWorkbench({ image, disks, onLine: console.log }, async (machine) => {
      for (const command of COMMANDS) await machine.must(command);
    });
  });
  return join(dir, "disk.qcow2");
}
