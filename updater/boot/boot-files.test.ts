// Reading a boot partition: entries of every quality, and kernel directories.

import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { readEntryDirectory } from "./entry-directory.ts";
import { listKernelDirectories, readKernelDirectories } from "./kernel-directory.ts";

const id = "ab".repeat(64);
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "boot-"));
});
afterEach(() => rmSync(directory, { recursive: true }));
const put = (name: string, text: string) => writeFileSync(join(directory, name), text);

test("entries in menu order; foreign ones belong to nobody; broken ones are named and skipped", () => {
  put(
    "b.conf",
    `version 1\nlinux /EFI/Linux/bootc_composefs-xx/vmlinuz\noptions composefs=?${id}\nsort-key bootc-a-1\n`,
  );
  put("a.conf", `version 1\nefi /EFI/Linux/bootc/bootc_composefs-${id}.efi\nsort-key bootc-a-0\n`);
  put("debian.conf", "version 6\nlinux /vmlinuz\noptions root=x\n");
  put("broken.conf", "version 1\n");
  put("karg.conf", "version 1\nlinux /v\noptions composefs=short\n");
  put("huge.conf", "x".repeat(300_000));
  put("a.conf.partial-1", "version 1\nlinux /v\n");
  put("notes.txt", "");
  mkdirSync(join(directory, "dir.conf"));
  const { entries, problems } = readEntryDirectory(directory)!;
  expect(entries.map((e) => [e.fileName, e.deploymentId, e.artefact])).toEqual([
    ["a.conf", id, `bootc_composefs-${id}`],
    ["b.conf", id, "bootc_composefs-xx"],
    ["debian.conf", null, null],
  ]);
  expect(problems.map((problem) => /^Boot entry "(\w+)/.exec(problem)?.[1])).toEqual([
    "broken",
    "dir",
    "huge",
    "karg",
  ]);
});

const entry = (kernel: string) =>
  `version 1\nlinux /EFI/Linux/${kernel}/vmlinuz\noptions composefs=?${id}\n`;

test("an entry under two names: the one without counter counts, or with fewest tries; the other is left over", () => {
  put("x+2-1.conf", entry("a"));
  put("x.conf", entry("a"));
  put("y+3.conf", entry("b"));
  put("y+2-1.conf", entry("b"));
  put("z+1.conf", entry("c"));
  put("z.conf", entry("d"));
  const { entries, leftovers } = readEntryDirectory(directory)!;
  const names = ["x.conf", "y+2-1.conf", "z+1.conf", "z.conf"];
  expect(entries.map(({ fileName }) => fileName).sort()).toEqual(names);
  expect(leftovers).toEqual(["x+2-1.conf", "y+3.conf"]);
});

test("a temporary name goes, unless a rename on vfat was cut in the middle: then the content is the entry's, too", () => {
  put("x.conf", entry("a"));
  put(".x.conf.partial-0123456789ab", entry("a"));
  put(".x.conf.partial-ba9876543210", entry("b"));
  put(".y.conf.partial-0123456789ab", entry("a"));
  expect(readEntryDirectory(directory)!.leftovers).toEqual([
    ".x.conf.partial-ba9876543210",
    ".y.conf.partial-0123456789ab",
  ]);
});

test("what is no entry is kept as it is, and is no problem; what nobody can keep is not", () => {
  put("memtest.conf.off", `options composefs=${"a".repeat(128)}\n`);
  put("bootc-menu.cfg", "menuentry");
  put(".swp", "");
  mkdirSync(join(directory, "old"));
  const { broken, problems } = readEntryDirectory(directory)!;
  expect(broken).toMatchObject([{ fileName: "memtest.conf.off", isOurs: false, mentions: [] }]);
  expect(problems).toEqual([]);
});

test("no directory is not an empty one", () => {
  expect(readEntryDirectory(join(directory, "none"))).toBeNull();
  expect(readEntryDirectory(directory)).toEqual({
    entries: [],
    broken: [],
    leftovers: [],
    problems: [],
  });
});

test("kernel directories and their digests; an interrupted copy has none", () => {
  const boot = borrowBootDirectory(directory, makeEspLayout("systemd", directory));
  expect(listKernelDirectories(boot)).toEqual([]);
  const parent = join(directory, "EFI/Linux");
  for (const name of ["bootc_composefs-full", "bootc_composefs-half", "other"]) {
    mkdirSync(join(parent, name), { recursive: true });
  }
  writeFileSync(join(parent, "bootc_composefs-file"), "");
  writeFileSync(join(parent, "bootc_composefs-full/vmlinuz"), "kernel");
  writeFileSync(join(parent, "bootc_composefs-full/initrd"), "initramfs");
  writeFileSync(join(parent, "bootc_composefs-half/vmlinuz"), "kernel");
  expect(readKernelDirectories(boot)).toEqual([
    {
      name: "bootc_composefs-full",
      bootDigest: createHash("sha256").update("kernelinitramfs").digest("hex"),
    },
    { name: "bootc_composefs-half", bootDigest: null },
  ]);
});
