// What is read from /sys and /dev, on a made-up machine: an NVMe-like disk with two partitions, LUKS on
// the second, and the root in there.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isReadOnlyDevice, listDiskPartitions } from "./block-device.ts";
import { detectBootloader, readLoaderPartition } from "./efi-variable.ts";
import type { MountPoint } from "./mount-table.ts";
import type { System } from "./system.ts";

const VENDOR = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
let directory: string;
let system: System;

function put(path: string, content: string | Buffer): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
}
function link(path: string, target: string): void {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  symlinkSync(join(directory, target), file);
}
function putVariable(name: string, text: string): void {
  const value = Buffer.concat([Buffer.from([6, 0, 0, 0]), Buffer.from(`${text}\0`, "utf16le")]);
  put(`sys/firmware/efi/efivars/${name}-${VENDOR}`, value);
}
const mount = (devMajor: number, devMinor: number, source = "/dev/x"): MountPoint => ({
  path: "/sysroot",
  fileSystem: "ext4",
  source,
  devMajor,
  devMinor,
  readOnly: false,
  superReadOnly: false,
  superOptions: "rw",
});

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "facts-"));
  const disk = "sys/devices/pci/block/nvme0n1";
  put(`${disk}/ro`, "0\n");
  put(`${disk}/nvme0n1p10/partition`, "10\n");
  put(`${disk}/nvme0n1p1/partition`, "1\n");
  put(`${disk}/nvme0n1p2/partition`, "2\n");
  put(`${disk}/nvme0n1p2/ro`, "0\n");
  put("sys/devices/virtual/block/dm-0/ro", "1\n");
  link("sys/devices/virtual/block/dm-0/slaves/nvme0n1p2", `${disk}/nvme0n1p2`);
  link("sys/dev/block/259:0", disk);
  link("sys/dev/block/259:2", `${disk}/nvme0n1p2`);
  link("sys/dev/block/253:0", "sys/devices/virtual/block/dm-0");
  system = {
    root: "/",
    physicalRoot: "/sysroot",
    runDirectory: join(directory, "run"),
    sysfs: join(directory, "sys"),
    devices: "/dev",
    cmdline: "",
    mounts: [],
    bootPath: null,
  };
});
afterAll(() => rmSync(directory, { recursive: true }));

describe("partitions of the root's disk", () => {
  const partitions = ["/dev/nvme0n1p1", "/dev/nvme0n1p2", "/dev/nvme0n1p10"];
  test.each([
    ["a partition", 259, 2],
    ["a whole disk", 259, 0],
    ["LUKS on a partition", 253, 0],
  ])("below %s, in partition order", (_, major, minor) => {
    expect(listDiskPartitions(system, mount(major, minor))).toEqual(partitions);
  });
  test("there are none below a tmpfs", () => {
    expect(() => listDiskPartitions(system, mount(0, 40, "tmpfs"))).toThrow("no block device");
  });
});

test("read-only devices", () => {
  expect(isReadOnlyDevice(system, mount(253, 0))).toBe(true);
  expect(isReadOnlyDevice(system, mount(259, 2))).toBe(false);
  expect(isReadOnlyDevice(system, mount(0, 40))).toBe(false);
});

test("boot loader variables: absent, GRUB, systemd-boot, both spellings of a UUID, rubbish", () => {
  expect(detectBootloader(system)).toBe("grub");
  expect(readLoaderPartition(system)).toBeNull();
  putVariable("LoaderInfo", "GRUB 2.12-9+deb13u2");
  expect(detectBootloader(system)).toBe("grub");
  putVariable("LoaderInfo", "grub CC 2.13");
  expect(detectBootloader(system)).toBe("grub-cc");
  putVariable("LoaderInfo", "systemd-boot 257.13-1~deb13u1");
  expect(detectBootloader(system)).toBe("systemd");
  putVariable("LoaderDevicePartUUID", "0FC63DAF-8483-4772-8E79-3D69D8477DE4");
  expect(readLoaderPartition(system)).toBe("0fc63daf-8483-4772-8e79-3d69d8477de4");
  putVariable("LoaderDevicePartUUID", "../../etc");
  expect(readLoaderPartition(system)).toBeNull();
});
