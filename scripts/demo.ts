// `npm run demo`: builds everything and shows a machine's life in a VM, with nothing faked.
// The same chapters run as a test (test/vm/story.test.ts); here they are told as they happen.

import { ensureInstalledDisk, ensureMedia } from "../test/vm/installed-disk.ts";
import { startMachine } from "../test/vm/machine.ts";
import { printingNarrator } from "../test/vm/narrator.ts";
import { ensureProductImages } from "../test/vm/product-image.ts";
import * as story from "../test/vm/story.ts";

async function tell(): Promise<void> {
  const narrator = printingNarrator((text) => process.stdout.write(text));
  narrator.chapter("Building the executable and two versions of a Debian image");
  const { v1, v2 } = await ensureProductImages(narrator.progress);
  narrator.say(`version 1: ${v1.manifestDigest}`);
  narrator.say(`version 2: ${v2.manifestDigest}`);

  narrator.chapter("Installing version 1 to an empty disk (in a workbench VM)");
  const disk = await ensureInstalledDisk(v1, narrator);

  narrator.chapter("The disk boots: firmware, systemd-boot, prepare-root, Debian");
  await using machine = await startMachine({
    name: "demo",
    boot: { kind: "uefi" },
    disks: [
      { id: "disk", path: disk, mode: "overlay" },
      { id: "stick", path: await ensureMedia(v2), mode: "read" },
    ],
  });
  const tale = { machine, narrator };
  try {
    await machine.waitReady();
    await story.checkFirstBoot(tale);
    narrator.chapter("Local changes: an edit and a link in /etc, a deletion, data in /var");
    await story.makeLocalChanges(tale);
    narrator.chapter("A USB stick brings version 2: bootc switch");
    await story.switchFromStick(tale, "stick");
    await story.reboot(tale);
    await story.checkVersion(tale, "2");
    await story.checkLocalChanges(tale, "2");
    narrator.chapter("Back to version 1: bootc rollback");
    await story.rollBack(tale);
    await story.reboot(tale);
    await story.checkVersion(tale, "1");
    await story.checkLocalChanges(tale, "1");
    narrator.chapter("One byte of a file's object is changed on the disk");
    await story.tamperFile(tale, "/usr/bin/hello");
    narrator.chapter("One byte of the image itself is changed: it must not boot");
    await story.tamperImage(tale);
    await story.bootOtherEntry(tale);
    await story.checkVersion(tale, "2");
    narrator.chapter("The end: every answer above was checked");
  } catch (error) {
    machine.keep();
    throw error;
  }
}

try {
  await tell();
} catch (error) {
  console.error(`error: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
  process.exit(1);
}
