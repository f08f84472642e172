// Shared blocks for real: on btrfs, from an image made once, because build machines lack its mkfs.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const PROGRAM = join(import.meta.dirname, "../support/reflink-case.ts");
const IMAGE = join(import.meta.dirname, "../vectors/file-systems/btrfs-16m.img.zst");
const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: mounting takes root)";
const noBtrfs = readFileSync("/proc/filesystems", "utf8").includes("btrfs")
  ? ""
  : " (SKIPPED: this kernel has no btrfs)";
let directory = "";

describe.skipIf(notRoot !== "" || noBtrfs !== "")(`reflinks${notRoot}${noBtrfs}`, () => {
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "reflink-"));
  });
  afterEach(() => {
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(directory);
    rmSync(directory, { recursive: true });
  });

  test("copies, and layers of containers-storage, share blocks; between two file systems they are copied", () => {
    writeFileSync(join(directory, "btrfs.img"), zstdDecompressSync(readFileSync(IMAGE)));
    const child = spawnSync(process.execPath, [PROGRAM, directory], { encoding: "utf8" });
    expect(child.status, child.stderr).toBe(0);
    expect(JSON.parse(child.stdout)).toEqual({
      first: { sizeBytes: 3_000_001, isReflink: true },
      same: true,
      usedForCopies: 0,
      ways: ["shared", "shared"],
      between: [
        { sizeBytes: 3_000_001, isReflink: false },
        { sizeBytes: 3_000_001, isReflink: false },
      ],
      object: { isNamedRight: true, usedBytes: 0, again: true },
      pull: { usedBytes: 0, isWhole: true },
    });
  });
});
