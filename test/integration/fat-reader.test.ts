// The FAT reader that judges power cuts, against mkfs.vfat and mtools: what they wrote is read, and damage seen.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readFat } from "../sim/fat-reader.ts";
import { cacheDir } from "../support/cache.ts";
import { runTool } from "../vm/tools-root.ts";

test("long names, directories of several clusters, contents; free and shared clusters are faults", async () => {
  mkdirSync(join(cacheDir, "vm"), { recursive: true });
  const scratch = mkdtempSync(join(cacheDir, "vm/fat-"));
  try {
    const [image, tree] = [join(scratch, "fat.raw"), join(scratch, "tree")];
    const files = new Map([["loader/loader.conf", "timeout 3\n".repeat(200)]]);
    for (let n = 0; n < 40; n++) {
      files.set(`loader/entries/bootc_fedora-${n}-1+3-0.conf`, `title ${n}`);
    }
    mkdirSync(join(tree, "loader/entries"), { recursive: true });
    for (const [name, text] of files) writeFileSync(join(tree, name), text);
    writeFileSync(image, "");
    truncateSync(image, 40 << 20);
    await runTool(["mkfs.vfat", "-F", "32", "-s", "1", "-n", "ESP", image]);
    await runTool(["mcopy", "-s", "-i", image, join(tree, "loader"), "::/"]);
    const bytes = readFileSync(image);
    const read = readFat(bytes);
    expect(read.faults).toEqual([]);
    const found = [...read.files].filter(([name]) => !name.endsWith("/"));
    const text = found.map(([name, content]) => [name, Buffer.from(content).toString()] as const);
    expect(text.sort()).toEqual([...files].sort());

    // A cluster with another behind it, in the first FAT.
    const fat = bytes.readUInt16LE(14) * bytes.readUInt16LE(11);
    const isLinked = (n: number) =>
      [2, 1000].every((limit, i) => bytes.readUInt32LE(fat + n * 4) > limit === (i === 0));
    const linked = Array.from({ length: 100 }, (_, n) => n + 3).find(isLinked)!;
    const damaged = (value: number) => {
      const copy = Buffer.from(bytes);
      copy.writeUInt32LE(value, fat + linked * 4);
      return readFat(copy).faults.join("\n");
    };
    expect(damaged(0)).toContain("has a free cluster");
    expect(damaged(linked)).toContain(`shares cluster ${linked}`);
    expect(damaged(0x0ffffff)).toContain("runs into cluster");
    expect(readFat(Buffer.alloc(1 << 20)).faults).toEqual(["the boot sector is not one"]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
