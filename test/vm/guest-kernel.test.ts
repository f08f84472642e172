// What the build machine's kernel cannot do, in the workbench: the secure store on ext4 with real
// fs-verity, and transactions on vfat, judged by fsck.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { BUN } from "../../scripts/build.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import { SECURE_PIECES_RESULT } from "../support/secure-pieces.ts";
import { SECURE_REPAIR_RESULT } from "../support/secure-repair.ts";
import { SECURE_STORE_RESULT } from "../support/secure-store.ts";
import { createPartitionedDisk, ext4FromDir } from "./disks.ts";
import { ensureProductImages } from "./product-image.ts";
import { withWorkbench } from "./workbench.ts";

const device = "/dev/disk/by-id/virtio-target";
const partitions = "label: gpt\nsize=256MiB\n;\n";

it("stores with fs-verity, and keeps vfat whole", async () => {
  const { v1: image } = await ensureProductImages(console.log);
  mkdirSync(join(cacheDir, "vm"), { recursive: true });
  const scratch = mkdtempSync(join(cacheDir, "vm/kernel-cases-"));
  try {
    const program = join(scratch, "tree/kernel-cases");
    const source = join(projectDir, "test/support/kernel-cases.ts");
    const built = spawnSync(BUN, ["build", "--compile", `--outfile=${program}`, source], {
      encoding: "utf8",
    });
    expect(built.status, built.stderr).toBe(0);
    const disks = [
      {
        id: "target",
        path: await createPartitionedDisk(join(scratch, "target.qcow2"), 1024, partitions),
        mode: "write",
      },
      {
        id: "program",
        path: await ext4FromDir(
          join(scratch, "program.raw"),
          join(scratch, "tree"),
          256,
          "program",
        ),
        mode: "read",
      },
    ] as const;
    await withWorkbench({ image, disks }, async (machine) => {
      await machine.must(`
        set -e
        udevadm wait --timeout=60 ${device}-part1 ${device}-part2
        mkfs.vfat -F 32 ${device}-part1 >/dev/null; mkfs.ext4 -q -O verity -b 4096 ${device}-part2
        cd /run/work; mkdir program fat ext4
        mount -o ro /dev/disk/by-id/virtio-program program
        mount ${device}-part1 fat; mount ${device}-part2 ext4`);
      const run = async (name: string, directory: string): Promise<unknown> =>
        JSON.parse(
          // Bun makes the outputs it is given non-blocking, for the rig's shell as well.
          await machine.must(
            `set -o pipefail; /run/work/program/kernel-cases ${name} /run/work/${directory} 2>&1 | cat`,
          ),
        );
      expect(await run("secureStore", "ext4")).toEqual(SECURE_STORE_RESULT);
      expect(await run("secureRepair", "ext4")).toEqual(SECURE_REPAIR_RESULT);
      expect(await run("securePieces", "ext4")).toEqual(SECURE_PIECES_RESULT);
      const { same, text, results } = (await run("transactions", "fat")) as {
        same: boolean;
        text: string;
        results: string[][];
      };
      expect({ same, text }).toEqual({ same: true, text: "default 3" });
      expect(results.at(-1)).toContain("loader/entries/a long name 3.conf");
      expect(results.at(-1)?.filter((path) => path.startsWith("loader/entries/"))).toHaveLength(1);
      await machine.must(`umount /run/work/fat; fsck.vfat -n ${device}-part1`);
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
