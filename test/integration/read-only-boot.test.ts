// A boot partition that is mounted read-only where others look: written through a mount of our own, and
// read-only again afterwards.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MNT, MS } from "../../shared/sys/constants.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { openBootDirectory } from "../../updater/boot/boot-directory.ts";
import { parseMountTable } from "../../updater/boot/mount-table.ts";
import type { System } from "../../updater/boot/system.ts";

let scratch: string;
let mountPoint: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "read-only-"));
  mountPoint = join(scratch, "root/boot");
  mkdirSync(mountPoint, { recursive: true });
});
afterEach(() => {
  umount2(mountPoint, MNT.DETACH);
  rmSync(scratch, { recursive: true });
});

function system(): System {
  return {
    root: join(scratch, "root"),
    physicalRoot: join(scratch, "disk"),
    runDirectory: join(scratch, "run"),
    sysfs: join(scratch, "sys"),
    devices: join(scratch, "dev"),
    cmdline: "",
    mounts: parseMountTable(readFileSync("/proc/self/mountinfo", "utf8")),
    bootPath: null,
  };
}

const write = (path: string) => () => writeFileSync(join(path, "file"), "text");

test("GRUB's partition on /boot", () => {
  mount("tmpfs", mountPoint, "tmpfs", 0, null);
  mkdirSync(join(mountPoint, "grub"));
  writeFileSync(join(mountPoint, "grub/grub.cfg"), "");
  mount(null, mountPoint, null, MS.REMOUNT | MS.RDONLY, null);
  {
    using boot = openBootDirectory(system(), "write");
    expect(boot.layout.linuxPrefix).toBe("");
    write(boot.path)();
    expect(write(mountPoint)).toThrow("EROFS");
  }
  const found = system().mounts.find(({ path }) => path === mountPoint);
  expect(found).toMatchObject({ readOnly: true, superReadOnly: true });
  expect(readFileSync(join(mountPoint, "file"), "utf8")).toBe("text");
  using boot = openBootDirectory(system(), "read");
  expect(boot.path).toBe(mountPoint);
});
