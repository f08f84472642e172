// A machine's life on a disk whose every write is logged (QEMU's blklogwrites): the power may go after any of
// them. The boot loader then finds the old menu or the new one, with whole kernels; after each verb the new one
// is safe; and from random moments on the machine boots and the next update finishes.

import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { BUN } from "../../scripts/build.ts";
import {
  DISK_MEGABYTES,
  isWithin,
  makePartitionTable,
  PARTITIONS,
  type Partition,
} from "../sim/cut-disk.ts";
import { judgeExt4, judgeMoments, judgePrefixes } from "../sim/cut-judgement.ts";
import { readWriteLog } from "../sim/write-log.ts";
import { cacheDir, projectDir } from "../support/cache.ts";
import type { CutStep } from "../support/power-cut-program.ts";
import { run } from "../support/run.ts";
import { startCaseMachine } from "./case-machine.ts";
import { ensureDebianKernel } from "./debian-kernel.ts";
import { createSparse, mkfsExt4 } from "./disks.ts";
import { runTool } from "./tools-root.ts";

const ALL = process.env["TEST_ALL"] !== undefined;
const GENERATIONS = ALL ? 24 : 4;
/** Moments from which the machine is started and updated. */
const MOMENTS = ALL ? 120 : 12;
const FSCK_MOMENTS = ALL ? 8 : 2;
const LOG_MEGABYTES = ALL ? 512 : 192;
const SEED = Number(process.env["CRASH_SEED"] ?? 1);

async function makeDisk(scratch: string): Promise<string> {
  const path = join(scratch, "disk.raw");
  await createSparse(path, DISK_MEGABYTES);
  const [esp, root, empty] = ["esp.raw", "root.raw", "empty"].map((name) =>
    join(scratch, name),
  ) as [string, string, string];
  mkdirSync(empty);
  await createSparse(esp, PARTITIONS.esp.sizeBytes >> 20);
  await createSparse(root, PARTITIONS.root.sizeBytes >> 20);
  await runTool(["mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", esp]);
  await run(mkfsExt4(root, empty, "root"));
  await using file = await open(path, "r+");
  await file.write(makePartitionTable(), 0, undefined, 0);
  const put = (from: string, { offset }: Partition) =>
    file.write(readFileSync(from), 0, undefined, offset);
  await put(esp, PARTITIONS.esp);
  await put(root, PARTITIONS.root);
  return path;
}

/** Runs the program in a guest and cuts the power at its end. */
async function runGuest(scratch: string, disk: string, log: string): Promise<CutStep[]> {
  const script = join(scratch, "power-cut-program.js");
  const source = join(projectDir, "test/support/power-cut-program.ts");
  await run([BUN, "build", "--target=bun", `--outfile=${script}`, source]);
  const programs = [
    { name: "bun", file: BUN },
    { name: "power-cut-program.js", file: script },
  ];
  const kernel = await ensureDebianKernel("trixie", console.log);
  const disks = [{ id: "cut", path: disk, mode: "write", log }] as const;
  await using machine = await startCaseMachine(kernel, programs, disks, console.log);
  await machine.must(`
    set -e
    modprobe vfat
    disk=$(readlink /run/disk/cut)
    mkdir -p /run/esp /run/root
    mount -t vfat \${disk}1 /run/esp; mount -t ext4 \${disk}2 /run/root; rmdir /run/root/lost+found`);
  const text = await machine.must(
    `/program/bun /program/power-cut-program.js /run/root /run/esp $(readlink /run/disk/cut)3 ${GENERATIONS} 2>&1 | cat`,
    { timeoutMs: 800_000 },
  );
  const [steps = ""] = /^\[\{.*\}\]$/m.exec(text) ?? [];
  if (steps === "") throw new Error(`The program in the guest failed:\n${text}`);
  await machine.kill();
  return JSON.parse(steps);
}

test("the power may go after any write", async () => {
  mkdirSync(join(cacheDir, "vm"), { recursive: true });
  const scratch = mkdtempSync(join(cacheDir, "vm/power-cut-"));
  try {
    const started = performance.now();
    const disk = await makeDisk(scratch);
    const [base, log] = [join(scratch, "base.raw"), join(scratch, "writes.log")];
    copyFileSync(disk, base);
    await createSparse(log, LOG_MEGABYTES);
    const steps = await runGuest(scratch, disk, log);
    const guestMs = performance.now() - started;
    const requests = readWriteLog(readFileSync(log));
    const before = readFileSync(base);
    const prefixes = judgePrefixes(Buffer.from(before), requests, steps, SEED);
    const moments = { count: MOMENTS, fsckCount: FSCK_MOMENTS, seed: SEED };
    const judged = await judgeMoments(Buffer.from(before), requests, steps, moments, scratch);
    const ext4 = judgeExt4(Buffer.from(before), requests, steps, scratch, ALL ? 1 : 4);
    const flushes = requests.filter(({ isFlush }) => isFlush).length;
    const toEsp = requests.filter((r) => r.data.length > 0 && isWithin(PARTITIONS.esp, r)).length;
    const report = {
      steps: steps.length,
      requests: requests.length,
      flushes,
      toEsp,
      ...prefixes.counts,
      moments: judged.count,
      ext4States: ext4.count,
      guestSeconds: Math.round(guestMs / 1000),
      seconds: Math.round((performance.now() - started) / 1000),
    };
    console.log(JSON.stringify(report));
    const faults = [...prefixes.faults, ...judged.faults, ...ext4.faults];
    if (process.env["CRASH_REPORT"] !== undefined) {
      const lines = [JSON.stringify(report), ...faults];
      appendFileSync(process.env["CRASH_REPORT"], `${lines.join("\n")}\n`);
    }
    if (process.env["CRASH_KEEP"] !== undefined) {
      copyFileSync(log, join(process.env["CRASH_KEEP"], "writes.log"));
      copyFileSync(base, join(process.env["CRASH_KEEP"], "base.raw"));
      appendFileSync(join(process.env["CRASH_KEEP"], "steps.json"), JSON.stringify(steps));
    }
    expect(faults).toEqual([]);
    expect(judged.count).toBe(MOMENTS);
    expect(toEsp).toBeGreaterThan(100);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
