// Kernel arguments through real boots (TEST_ALL=1): appended by hand and set by a program, they are on the
// kernel's command line after a restart and after an upgrade; a rollback has its own.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureInstalledDisk, ensureMedia } from "./installed-disk.ts";
import { keepEvidence } from "./keep-evidence.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import { checkVersion, reboot, rollBack, type Story, switchFromStick } from "./story.ts";

describe.skipIf(process.env["TEST_ALL"] === undefined)("kernel arguments", () => {
  let machine: Machine;
  let tale: Story;

  beforeAll(async () => {
    const { v1, v2 } = await ensureProductImages(console.log);
    const disk = await ensureInstalledDisk(v1, { ...silentNarrator, progress: console.log });
    machine = await startMachine({
      name: "kargs",
      boot: { kind: "uefi" },
      disks: [
        { id: "disk", path: disk, mode: "overlay" },
        { id: "stick2", path: await ensureMedia(v2), mode: "read" },
      ],
    });
    tale = { machine, narrator: silentNarrator };
    await machine.waitReady();
    await checkVersion(tale, "1");
  });
  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  const chapter = (work: () => Promise<void>) => keepEvidence(machine, work);
  /** Those of this test on the running kernel's command line. */
  const ours = async () =>
    (await machine.must("cat /proc/cmdline")).match(
      /\b(?:hand|tuned|staged)\.\w+=(?:"[^"]*"|\S*)/g,
    );

  test("appended and set: there after a restart", () =>
    chapter(async () => {
      await machine.must(`bootc kargs --append 'hand.a="x y"' --append hand.b=1`);
      await machine.must(
        "bootc loader-entries set-options-for-source --source tuned --options 'tuned.a=1 tuned.b=2'",
      );
      expect(await ours()).toBeNull();
      await reboot(tale);
      expect(await ours()).toEqual(['hand.a="x y"', "hand.b=1", "tuned.a=1", "tuned.b=2"]);
    }));

  test("there after an upgrade, with what was changed since staging", () =>
    chapter(async () => {
      await switchFromStick(tale, "stick2");
      await machine.must("bootc kargs --append staged.a=1 --replace hand.b=2");
      await machine.must(
        "bootc loader-entries set-options-for-source --source tuned --options tuned.c=3",
      );
      await reboot(tale);
      await checkVersion(tale, "2");
      expect((await ours())?.sort()).toEqual([
        'hand.a="x y"',
        "hand.b=2",
        "staged.a=1",
        "tuned.c=3",
      ]);
      const { sources } = JSON.parse(await machine.must("bootc kargs --format json"));
      expect(sources).toMatchObject({ tuned: "tuned.c=3" });
    }));

  test("a rollback has its own", () =>
    chapter(async () => {
      await rollBack(tale);
      await reboot(tale);
      await checkVersion(tale, "1");
      expect(await ours()).toEqual(['hand.a="x y"', "hand.b=1", "tuned.a=1", "tuned.b=2"]);
    }));
});
