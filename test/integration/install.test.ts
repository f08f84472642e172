// Installing: what it refuses, what it leaves when it fails, and a real ext4.

import { mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { umount2 } from "../../shared/sys/mount.ts";
import { runProgram } from "../../updater/boot/program.ts";
import type { InstallRequest } from "../../updater/install/to-filesystem.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { ScratchMachine } from "../support/scratch-machine.ts";

let machine: ScratchMachine;
let imagePath: string;
beforeEach(() => {
  machine = new ScratchMachine();
  imagePath = join(machine.directory, "os.oci");
});
afterEach(() => machine[Symbol.dispose]());

function install(changes: Partial<InstallRequest> = {}) {
  return installScratch(machine, imagePath, changes);
}

test("a failed installation leaves the target as it was", async () => {
  writeScratchImage(imagePath, {
    version: "1",
    members: [{ name: "boot/loader/entries/x.conf", content: "x" }],
  });
  await expect(install()).rejects.toThrow();
  expect(readdirSync(machine.disk)).toEqual([]);
  expect(readdirSync(machine.esp)).toEqual([]);
});

test("an installation on ext4 finds its UUID and leaves the file system clean and read-only", async () => {
  writeScratchImage(imagePath, { version: "1" });
  const disk = join(machine.directory, "disk.ext4");
  const target = join(machine.directory, "target");
  writeFileSync(disk, "");
  truncateSync(disk, 64 << 20);
  mkdirSync(target);
  const uuid = "11111111-2222-3333-4444-555555555555";
  runProgram("mkfs.ext4", ["-q", "-U", uuid, "-b", "4096", disk], { package: "e2fsprogs" });
  runProgram("mount", ["-o", "loop", disk, target], { package: "mount" });
  try {
    const { cmdline } = await install({ target, rootMountSpec: null, skipFinalize: false });
    expect(cmdline).toMatch(new RegExp(`^root=UUID=${uuid} rw console=ttyS0 composefs=`));
    expect(() => writeFileSync(join(target, "x"), "")).toThrow("EROFS");
  } finally {
    umount2(target, 0);
  }
  runProgram("e2fsck", ["-fn", disk], { package: "e2fsprogs" });
});

describe("installation refuses", () => {
  test.each([
    [
      "a directory with files",
      "Non-empty root file system",
      () => writeFileSync(join(machine.disk, "x"), ""),
    ],
    ["a target that is no mount point", "is not a mount point", () => {}],
    ["a file system without fs-verity", "cannot protect files with fs-verity", () => {}],
    ["a kernel argument that is made here", "composefs=", () => {}],
    ["an image that is not there", "os.oci", () => rmSync(imagePath, { recursive: true })],
  ] as const)("%s", async (what, message, spoil) => {
    writeScratchImage(imagePath, { version: "1" });
    spoil();
    const before = readdirSync(machine.disk);
    const changes =
      what === "a target that is no mount point"
        ? { target: machine.esp }
        : what === "a file system without fs-verity"
          ? { allowMissingVerity: false }
          : what === "a kernel argument that is made here"
            ? { kargs: ["composefs=00"] }
            : {};
    await expect(install(changes)).rejects.toThrow(message);
    expect(readdirSync(machine.disk)).toEqual(before);
    expect(readdirSync(machine.esp)).toEqual([]);
  });
});
