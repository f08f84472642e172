// A unified kernel without a command line, proved by a statement, under enforcing Secure Boot: installed, started
// with the program of a shared addon, updated with the addons of image and machine, and refused without the shared
// one (docs/sealing.md, docs/boot-loaders.md).

import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cacheDir } from "../support/cache.ts";
import { copyDisk, listEsp, type RawDisk, readEsp, removeEsp, writeEsp } from "./disk-edit.ts";
import { readMenu } from "./disk-menu.ts";
import { makeAddon } from "./efi-programs.ts";
import { ensureMedia, installDisk } from "./installed-disk.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import { finishStart, switchFromStick } from "./sealed-pair.ts";
import { ensureSecureBootKeys } from "./secure-boot.ts";
import { addedArgument, ensureSignedKernelImage } from "./signed-kernel-image.ts";
import { tryTampered } from "./tamper.ts";

const isLong = process.env["TEST_ALL"] === "1";
const slowMs = 900_000;

describe.runIf(isLong)("a signed kernel without a command line", () => {
  let scratch: string;
  let disk: RawDisk;
  let machine: Machine;

  beforeAll(async () => {
    scratch = await mkdtemp(join(cacheDir, "vm/signed-kernel-"));
    const { v1, v2 } = await ensureProductImages(console.log);
    const one = await ensureSignedKernelImage(v1, null, console.log);
    const installed = join(scratch, "installed.qcow2");
    const narrator = { ...silentNarrator, progress: console.log };
    await installDisk(installed, v1, await ensureMedia(one), narrator);
    disk = await copyDisk(installed, join(scratch, "disk.raw"));
    const [name] = await sharedAddons();
    const sharedAddon = { name: name!.split("/").at(-1)!, bytes: await readEsp(disk, name!) };
    const two = await ensureSignedKernelImage(v2, sharedAddon, console.log);
    const { uki } = (await readMenu(disk))[0]!;
    const own = await makeAddon("own.addon=1", (await ensureSecureBootKeys()).db);
    await writeEsp(disk, `${uki}.extra.d/own.addon.efi`, own);
    machine = await startMachine({
      name: "signed-kernel",
      boot: { kind: "uefi", secureBoot: "enforcing" },
      disks: [
        { id: "disk", path: disk.path, mode: "overlay" },
        { id: "stick2", path: await ensureMedia(two), mode: "read" },
      ],
    });
    await machine.waitReady(slowMs);
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
    await rm(scratch, { recursive: true, force: true });
  });

  const sharedAddons = async () =>
    (await listEsp(disk)).filter((path) => /^\/loader\/addons\/bootc-.*\.addon\.efi$/.test(path));

  async function expectStarted(version: string): Promise<void> {
    await finishStart(machine);
    expect(await machine.must("cat /usr/lib/bootc-demo/version")).toBe(version);
    const { status } = JSON.parse(await machine.must("bootc status --format json"));
    expect(status.trust).toMatchObject({ secureBoot: "enabled" });
    expect(status.booted.trust).toMatchObject({ mode: "signed", version: Number(version) });
    expect(status.booted.composefs).toMatchObject({ bootType: "Uki" });
    expect(status.problems ?? []).toEqual([]);
    const words = (await machine.must("cat /proc/cmdline")).split(/\s+/);
    expect(words).toContain(`composefs=${status.booted.composefs.verity}`);
    expect(words.filter((word) => word.includes(".addon=")).toSorted()).toEqual([
      addedArgument(version),
      "own.addon=1",
    ]);
  }

  it("starts with the entry's arguments and the program of the shared addon", async () => {
    expect(await sharedAddons()).toHaveLength(1);
    await expectStarted("1");
  });

  it("takes other kernel arguments, which the entry may have", async () => {
    await machine.must("bootc kargs --append machine.word=1", { timeoutMs: slowMs });
    await machine.reboot(slowMs);
    await expectStarted("1");
    expect(await machine.must("cat /proc/cmdline")).toContain("machine.word=1");
  });

  it("keeps the machine's addon with an update, and has the shared one once", async () => {
    await switchFromStick(machine, "stick2");
    await machine.reboot(slowMs);
    await expectStarted("2");
    const esp =
      "mount /dev/disk/by-partlabel/esp /run/esp && ls /run/esp/loader/addons; umount /run/esp";
    expect((await machine.must(`mkdir -p /run/esp && ${esp}`)).split("\n")).toHaveLength(1);
  });

  it("says so in one line when the shared addon is gone", async () => {
    const told = await tryTampered(
      disk,
      async (copy) => {
        await writeEsp(copy, "/loader/loader.conf", "timeout 0\n");
        for (const path of await sharedAddons()) await removeEsp(copy, path);
      },
      {
        name: "signed without shared addon",
        secureBoot: "enforcing",
        until: /prepare-root: refused[^\n]*\n/,
      },
    );
    const refusals = told.lines.filter((line) => line.includes("prepare-root: "));
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toContain("the UKI addon that brings it is missing");
  });
});
