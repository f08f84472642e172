// Full disks on real ext4 and vfat: room is counted as these file systems count it.

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { BUN } from "../../scripts/build.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import { FULL_DISK_RESULT } from "../support/full-disk-cases.ts";
import { run } from "../support/run.ts";
import { startCaseMachine } from "./case-machine.ts";
import { ensureDebianKernel } from "./debian-kernel.ts";
import { createSparse, mkfsExt4 } from "./disks.ts";
import { runTool } from "./tools-root.ts";

it.each(["plain", "sealed"])(
  "%s kernels: stages what fits to the cluster, and refuses what does not before writing anything",
  async (kind) => {
    mkdirSync(join(cacheDir, "vm"), { recursive: true });
    const scratch = mkdtempSync(join(cacheDir, "vm/full-disk-"));
    try {
      const [esp, root, empty, script] = ["esp.raw", "root.raw", "empty", "full-disk.js"].map(
        (name) => join(scratch, name),
      ) as [string, string, string, string];
      mkdirSync(empty);
      await createSparse(esp, 40);
      await createSparse(root, 96);
      // Clusters of 4 KiB, as mkfs.vfat chooses for an ESP of 512 MiB.
      await runTool(["mkfs.vfat", "-F", "16", "-s", "8", "-n", "ESP", esp]);
      await run(mkfsExt4(root, empty, "root"));
      const source = join(projectDir, "test/support/full-disk-cases.ts");
      await run([BUN, "build", "--target=bun", `--outfile=${script}`, source]);
      const programs = [
        { name: "bun", file: BUN },
        { name: "full-disk.js", file: script },
      ];
      const disks = [
        { id: "esp", path: esp, mode: "write" },
        { id: "root", path: root, mode: "write" },
      ] as const;
      const kernel = await ensureDebianKernel("trixie", console.log);
      await using machine = await startCaseMachine(kernel, programs, disks, console.log);
      await machine.must(`
      set -e
      modprobe vfat
      mkdir -p /run/esp /run/root
      mount -t vfat /run/disk/esp /run/esp; mount -t ext4 /run/disk/root /run/root; rmdir /run/root/lost+found`);
      const text = await machine.must(
        `/program/bun /program/full-disk.js /run/root /run/esp ${kind} 2>&1 | cat`,
        { timeoutMs: 300_000 },
      );
      expect(JSON.parse(text)).toEqual(FULL_DISK_RESULT);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  },
);
