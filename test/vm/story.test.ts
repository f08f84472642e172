// The story as a test: two full cycles of update and rollback, and the tampering.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureInstalledDisk, ensureMedia } from "./installed-disk.ts";
import { keepEvidence } from "./keep-evidence.ts";
import { type Machine, startMachine } from "./machine.ts";
import { silentNarrator } from "./narrator.ts";
import { ensureProductImages } from "./product-image.ts";
import * as story from "./story.ts";

let machine: Machine;
let tale: story.Story;

beforeAll(async () => {
  const { v1, v2, v3 } = await ensureProductImages(console.log);
  const disk = await ensureInstalledDisk(v1, { ...silentNarrator, progress: console.log });
  machine = await startMachine({
    name: "story",
    boot: { kind: "uefi" },
    disks: [
      { id: "disk", path: disk, mode: "overlay" },
      { id: "stick2", path: await ensureMedia(v2), mode: "read" },
      { id: "stick3", path: await ensureMedia(v3), mode: "read" },
    ],
  });
  tale = { machine, narrator: silentNarrator };
  await machine.waitReady();
});

afterAll(async () => {
  await machine?.[Symbol.asyncDispose]();
});

const chapter = (work: () => Promise<void>) => keepEvidence(machine, work);

describe.sequential("a machine's life", () => {
  it("boots version 1 through prepare-root", () =>
    chapter(async () => {
      await story.checkFirstBoot(tale);
      await story.makeLocalChanges(tale);
    }));

  it("switches to version 2 and keeps what is local", () =>
    chapter(async () => {
      await story.switchFromStick(tale, "stick2");
      await story.reboot(tale);
      await story.checkVersion(tale, "2");
      await story.checkLocalChanges(tale, "2");
      await story.checkNothingNew(tale, "stick2");
    }));

  it("rolls back to version 1", () =>
    chapter(async () => {
      await story.rollBack(tale);
      await story.reboot(tale);
      await story.checkVersion(tale, "1");
      await story.checkLocalChanges(tale, "1");
    }));

  it("goes through a second cycle with another version", () =>
    chapter(async () => {
      await story.switchFromStick(tale, "stick3");
      await story.reboot(tale);
      await story.checkVersion(tale, "3");
      await story.checkLocalChanges(tale, "3");
      await story.rollBack(tale);
      await story.reboot(tale);
      await story.checkVersion(tale, "1");
      await story.checkLocalChanges(tale, "1");
    }));

  it("gives an I/O error for a changed object, goes on running, and repairs it", () =>
    chapter(async () => {
      const object = await story.tamperFile(tale, "/usr/bin/hello");
      expect(await machine.must("systemctl is-system-running")).toBe("running");
      await story.repairFromStick(tale, "stick3", object);
    }));

  it("refuses a changed image in one line and boots the other deployment", () =>
    chapter(async () => {
      await story.tamperImage(tale);
      await story.bootOtherEntry(tale);
      await story.checkVersion(tale, "3");
      expect(await machine.must("/usr/bin/hello")).toBe("Hello, world!");
    }));
});
