// Full disks, on tmpfs; test/vm/full-disk.test.ts does the same on ext4 and vfat.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { FULL_DISK_RESULT, runFullDisk } from "../support/full-disk-cases.ts";

test("refused before anything is written, by the right numbers", async () => {
  const directory = mkdtempSync(join(tmpdir(), "full-"));
  const [disk, esp] = [join(directory, "disk"), join(directory, "esp")];
  for (const path of [disk, esp]) {
    mkdirSync(path);
    mount("tmpfs", path, "tmpfs", 0, "size=32m");
  }
  try {
    expect(await runFullDisk(disk, esp)).toEqual(FULL_DISK_RESULT);
  } finally {
    for (const path of [disk, esp]) umount2(path, MNT.DETACH);
    rmSync(directory, { recursive: true });
  }
});
