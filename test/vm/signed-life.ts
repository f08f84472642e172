// A signed machine with a TPM, through two updates; what is left of it for the tests of replays.
// Invariants: made by the product alone; the disks are raw and never changed afterwards.

import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import { copyDisk, copyStoppedDisk, openDisk, type RawDisk } from "./disk-edit.ts";
import { ensureMedia, installDisk } from "./installed-disk.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import { switchFromStick } from "./sealed-pair.ts";
import { ensureSignedImage } from "./signed-image.ts";

const slowMs = 900_000;

export type SignedLife = {
  /** After the first update: version 2 first in the menu, version 1 second. */
  readonly earlier: RawDisk;
  /** After the second: version 3 first, version 2 second, and nothing below 2 may start. */
  readonly later: RawDisk;
  /** The TPM at the end. */
  readonly tpm: string;
};

export async function ensureSignedLife(onLine: (line: string) => void): Promise<SignedLife> {
  const { v1, v2, v3 } = await ensureProductImages(onLine);
  const one = await ensureSignedImage(v1, onLine);
  const two = await ensureSignedImage(v2, onLine);
  const three = await ensureSignedImage(v3, onLine);
  const digests = [one, two, three].map((image) => image.manifestDigest);
  const key = cacheKey("signed life 1", digests);
  const dir = await cachedDir(join(cacheDir, "vm", `signed-life-${key}`), async (path) => {
    const file = (name: string) => join(path, name);
    const narrator = { ...silentNarrator, progress: onLine };
    await installDisk(file("disk.qcow2"), v1, await ensureMedia(one), narrator);
    await copyDisk(file("disk.qcow2"), file("later.raw"));
    onLine("signed machine: two updates");
    await using machine = await startMachine({
      name: "signed-life",
      boot: { kind: "uefi" },
      tpm: {},
      disks: [
        { id: "disk", path: file("later.raw"), mode: "write" },
        { id: "stick2", path: await ensureMedia(two), mode: "read" },
        { id: "stick3", path: await ensureMedia(three), mode: "read" },
      ],
    });
    try {
      await machine.waitReady(slowMs);
      await checkStart(machine, "1");
      await updateTo(machine, "stick2", "2");
      await machine.must("sync");
      await machine.qmp.execute("stop");
      await copyStoppedDisk(file("later.raw"), file("earlier.raw"));
      await machine.qmp.execute("cont");
      await updateTo(machine, "stick3", "3");
      await machine.powerOff();
      await cp(machine.tpmState!, file("tpm"), { recursive: true });
    } catch (error) {
      machine.keep();
      throw error;
    }
  });
  const file = (name: string) => join(dir, name);
  const [earlier, later] = [file("earlier.raw"), file("later.raw")];
  return { earlier: await openDisk(earlier), later: await openDisk(later), tpm: file("tpm") };
}

async function updateTo(machine: Machine, stick: string, version: string): Promise<void> {
  await switchFromStick(machine, stick);
  await machine.reboot(slowMs);
  await checkStart(machine, version);
}

/** It runs this version, signed, and the start was a good one. */
async function checkStart(machine: Machine, version: string): Promise<void> {
  assert.equal(await machine.must("cat /usr/lib/bootc-demo/version"), version);
  // Blessing also raises the floor, which the disk is copied for.
  await machine.must("systemctl start bootc-boot-bless.service", { timeoutMs: slowMs });
  await machine.must("test ! -e /sysroot/state/bootc/trust-unsettled");
  const trust = JSON.parse(await machine.must("cat /run/composefs/trust.json"));
  assert.equal(trust.mode, "signed");
  assert.equal(trust.version, Number(version));
}
