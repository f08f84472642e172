// Disks of sealed machines, saved: one as it was installed, and one after an update, with two deployments.
// Invariants: made by the product alone (`container seal`, `install to-filesystem`, `switch`), started under
// enforcing Secure Boot; raw, and never changed afterwards.

import assert from "node:assert/strict";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { copyDisk, openDisk, type RawDisk, readEsp, writeEsp } from "./disk-edit.ts";
import { readMenu } from "./disk-menu.ts";
import { ensureMedia, installDisk } from "./installed-disk.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import { ensureSealedImage, type SealedImage } from "./sealed-image.ts";
import { ensureSecureBootKeys } from "./secure-boot.ts";

const slowMs = 900_000;

/** The version, sealed, on a disk of its own; the file may be used through overlays and copies only. */
export async function ensureSealedDisk(onLine: (line: string) => void): Promise<RawDisk> {
  const { v1 } = await ensureProductImages(onLine);
  const image = await ensureSealedImage(v1, onLine);
  return ensureDisk("sealed-disk", [image], async (path) => {
    const installed = `${path}.qcow2`;
    const narrator = { ...silentNarrator, progress: onLine };
    await installDisk(installed, v1, await ensureMedia(image), narrator);
    await copyDisk(installed, path);
  });
}

/** The same with a second entry at the end of the menu, which starts a copy of the kernel. */
export async function ensureSpareDisk(onLine: (line: string) => void): Promise<RawDisk> {
  const { v1 } = await ensureProductImages(onLine);
  const installed = await ensureSealedDisk(onLine);
  return ensureDisk("sealed-spare", [await ensureSealedImage(v1, onLine)], async (path) => {
    const disk = await copyDisk(installed.path, path);
    const entry = (await readMenu(disk))[0]!;
    const spare = entry.uki!.replace(/\.efi$/, "-spare.efi");
    await writeEsp(disk, spare, await readEsp(disk, entry.uki!));
    const text = entry.text.replace(entry.uki!, spare).replace(/^sort-key .*$/m, "sort-key zzz");
    await writeEsp(disk, entry.path.replace(/[^/]*$/, "bootc_spare-1-0.conf"), text);
  });
}

/** After an update to version 2 that started well: that one is first in the menu, version 1 second. */
export async function ensureSealedPair(onLine: (line: string) => void): Promise<RawDisk> {
  const { v1, v2 } = await ensureProductImages(onLine);
  const [one, two] = [await ensureSealedImage(v1, onLine), await ensureSealedImage(v2, onLine)];
  const disk = await ensureSealedDisk(onLine);
  return ensureDisk("sealed-pair", [one, two], async (path) => {
    onLine("sealed machine: updating it to version 2");
    await copyDisk(disk.path, path);
    const stick = await ensureMedia(two);
    await using machine = await startMachine({
      name: "sealed-pair",
      boot: { kind: "uefi", secureBoot: "enforcing" },
      disks: [
        { id: "disk", path, mode: "write" },
        { id: "stick2", path: stick, mode: "read" },
      ],
    });
    try {
      await machine.waitReady(slowMs);
      await switchFromStick(machine, "stick2");
      await machine.reboot(slowMs);
      await finishStart(machine);
      assert.equal(await machine.must("cat /usr/lib/bootc-demo/version"), "2");
      await machine.powerOff();
    } catch (error) {
      machine.keep();
      throw error;
    }
  });
}

/** Waits until the start is complete and judged; nothing may have failed. */
export async function finishStart(machine: Machine): Promise<void> {
  const state = await machine.run("systemctl is-system-running --wait", { timeoutMs: slowMs });
  const failed = await machine.must("systemctl --failed --no-legend");
  assert.equal(`${state.output.trim()} ${failed}`.trim(), "running");
}

/** Stages what is on a stick. */
export async function switchFromStick(machine: Machine, stick: string): Promise<void> {
  const device = `/dev/disk/by-id/virtio-${stick}`;
  // A place of its own: `switch` to the reference that the machine follows already changes nothing.
  const place = `/var/mnt/${stick}`;
  await machine.must(`mkdir -p ${place} && mount -o ro ${device} ${place}`);
  await machine.must(`bootc switch --quiet --transport oci ${place}/os.oci`, { timeoutMs: slowMs });
  await machine.must(`umount ${place}`);
}

async function ensureDisk(
  name: string,
  images: readonly SealedImage[],
  make: (path: string) => Promise<void>,
): Promise<RawDisk> {
  const { identity } = await ensureSecureBootKeys();
  const key = cacheKey(`${name} 1`, identity, ...images.map((image) => image.manifestDigest));
  const dir = await cachedDir(join(cacheDir, "vm", `${name}-${key}`), async (path) => {
    await make(join(path, "disk.raw"));
  });
  return openDisk(join(dir, "disk.raw"));
}
