// Full disks, on tmpfs and ext4; test/vm/full-disk.test.ts does the same with vfat.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MNT } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { FULL_DISK_RESULT, runFullDisk } from "../support/full-disk-cases.ts";

/** Mounts a new file system at `path`. */
const FILE_SYSTEMS = {
  tmpfs: (path: string) => mount("tmpfs", path, "tmpfs", 0, "size=32m"),
  "ext4 with blocks of 4 KiB": (path: string) => mountExt4(path, 4096),
  "ext4 with blocks of 1 KiB": (path: string) => mountExt4(path, 1024),
} as const;

function mountExt4(path: string, blockBytes: number): void {
  const image = `${path}.raw`;
  writeFileSync(image, "");
  truncateSync(image, 64 << 20);
  execFileSync("mkfs.ext4", ["-q", "-b", String(blockBytes), image]);
  execFileSync("mount", ["-o", "loop", image, path]);
  rmdirSync(join(path, "lost+found"));
}

const CASES = Object.entries(FILE_SYSTEMS).flatMap(([name, mountNew]) =>
  (["plain", "sealed"] as const).map((kind) => [name, kind, mountNew] as const),
);

test.each(CASES)(
  "refused before anything is written, by the right numbers: %s, %s kernels",
  async (_, kind, mountNew) => {
    const directory = mkdtempSync(join(tmpdir(), "full-"));
    const mounted: string[] = [];
    try {
      for (const path of [join(directory, "disk"), join(directory, "esp")]) {
        mkdirSync(path);
        mountNew(path);
        mounted.push(path);
      }
      expect(await runFullDisk(mounted[0]!, mounted[1]!, kind)).toEqual(FULL_DISK_RESULT);
    } finally {
      for (const path of mounted) umount2(path, MNT.DETACH);
      rmSync(directory, { recursive: true });
    }
  },
);
