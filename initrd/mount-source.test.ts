import { expect, test } from "vitest";
import { findMountSource } from "./mount-source.ts";

const MOUNTINFO = `\
1 1 0:2 / / rw - rootfs rootfs rw
30 1 0:26 /@root /sysroot rw,relatime - btrfs /dev/vda2 rw,subvol=/@root
31 30 0:26 /@home /sysroot/home rw,relatime shared:1 master:2 - btrfs /dev/vda3 rw
32 1 0:30 / /run rw - tmpfs tmpfs rw
33 1 0:31 / /mnt rw - nfs4 server:/export rw
`;

test.each([
  ["/sysroot", "/dev/vda2"],
  ["/sysroot/home", "/dev/vda3"],
  ["/run", null],
  ["/mnt", null],
  ["/nowhere", null],
])('findMountSource finds what is mounted on "%s"', (path, expected) => {
  expect(findMountSource(MOUNTINFO, path)).toBe(expected);
});

test("findMountSource takes the upper one of two mounts on one place", () => {
  const both = `${MOUNTINFO}40 30 0:99 / /sysroot rw - ext4 /dev/vdb1 rw\n`;
  expect(findMountSource(both, "/sysroot")).toBe("/dev/vdb1");
});
