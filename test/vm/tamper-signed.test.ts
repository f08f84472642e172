// Replays on a signed machine: an older deployment with its genuine statement is put back, as an old copy of
// the whole disk, and the version floor decides, in the TPM or on the ESP (docs/security.md). What else can be
// done to a signed machine's disk is in trust-mounts.test.ts.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ESP_FLOOR_FILE } from "../../shared/trust/esp-floor.ts";
import { listEsp, type RawDisk, readEsp, removeEsp, writeEsp } from "./disk-edit.ts";
import { type DiskEntry, putOnTrial, readMenu, rewriteEntry } from "./disk-menu.ts";
import { kernelVersion } from "./os-base.ts";
import { ensureProductImages } from "./product-image.ts";
import { ensureSignedLife, type SignedLife } from "./signed-life.ts";
import { type RowOptions, type Told, tryTampered } from "./tamper.ts";

const isLong = process.env["TEST_ALL"] === "1";
const floorFile = `/${ESP_FLOOR_FILE}`;

describe.runIf(isLong)("an old copy of a signed machine's disk", () => {
  let life: SignedLife;
  let newer: DiskEntry;
  let older: DiskEntry;

  beforeAll(async () => {
    life = await ensureSignedLife(console.log);
    [newer, older] = (await readMenu(life.earlier)) as [DiskEntry, DiskEntry];
  });

  /** Version 1 is made the first of the menu, with one try. */
  function row(
    name: string,
    change: (disk: RawDisk) => Promise<void>,
    options: Partial<RowOptions> = {},
  ): Promise<Told> {
    return tryTampered(
      life.earlier,
      async (disk) => {
        await writeEsp(disk, "/loader/loader.conf", "timeout 0\n");
        await rewriteEntry(disk, 1, (text) => text.replace(/^sort-key .*$/m, "sort-key aaa"));
        await putOnTrial(disk);
        await change(disk);
      },
      { name: `signed ${name}`, secureBoot: null, until: mounted, ...options },
    );
  }
  const mounted = /prepare-root: mounted [^\n]*\n/;
  const startedBy = (told: Told, { id }: DiskEntry) =>
    expect(told.mounted && id.startsWith(told.mounted)).toBe(true);
  const expectRefused = (told: Told) => {
    expect(told.lines.join("\n")).toMatch(
      /prepare-root: refused[^\n]* version 1, and this machine starts none below 2/,
    );
    startedBy(told, newer);
  };
  const laterFloor = () => readEsp(life.later, floorFile);

  it("does not start an older deployment: the TPM remembers, and the newer one starts", async () => {
    expectRefused(await row("replay", async () => {}, { tpm: { saved: life.tpm } }));
  });

  it("does not either when the floor file of the ESP is gone", async () => {
    const told = await row("replay without file", (disk) => removeEsp(disk, floorFile), {
      tpm: { saved: life.tpm },
    });
    expectRefused(told);
  });

  it("does not either with a cleared TPM, as long as the floor file is the newest", async () => {
    const told = await row(
      "replay with new tpm",
      async (disk) => writeEsp(disk, floorFile, await laterFloor()),
      { tpm: {} },
    );
    expectRefused(told);
  });

  it("does not either without a TPM, as long as the floor file is the newest", async () => {
    const told = await row("replay without tpm", async (disk) =>
      writeEsp(disk, floorFile, await laterFloor()),
    );
    expectRefused(told);
  });

  it("starts it without a TPM: an old floor file is as genuine as the newest", async () => {
    expect(await listEsp(life.earlier)).toContain(floorFile);
    startedBy(await row("replay of all", async () => {}), older);
  });

  it("is no help against another initramfs, which nothing protects there", async () => {
    const { v1 } = await ensureProductImages(console.log);
    const release = await kernelVersion(join(v1.layers[0]!.dir, "tree"));
    const path = join("tree/usr/lib/modules", release, "initramfs.img");
    const initramfs = await readFile(join(v1.layers[2]!.dir, path));
    const told = await row(
      "initramfs",
      async (disk) => {
        const entry = (await readMenu(disk))[0]!;
        await writeEsp(disk, /^initrd (.*)$/m.exec(entry.text)![1]!, initramfs);
      },
      { tpm: { saved: life.tpm } },
    );
    startedBy(told, older);
    expect(told.lines.join("\n")).not.toContain("trust=signed");
  });

  it("is no help against arguments in the entry, which nothing protects there", async () => {
    const told = await row(
      "init",
      (disk) =>
        rewriteEntry(disk, 0, (text) => text.replace(/^options /m, "options init=/bin/false ")),
      { until: /Attempted to kill init|Failed to (?:execute|switch root)[^\n]*\n/ },
    );
    expect(told.cmdlines[0]).toContain("init=/bin/false");
  });
});
