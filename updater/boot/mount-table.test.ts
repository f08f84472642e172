import { expect, test } from "vitest";
import { findMount, parseMountTable } from "./mount-table.ts";

const text = `22 1 0:20 / / ro,relatime shared:1 - overlay composefs:ab ro,lowerdir+=/x
23 22 254:2 / /sysroot ro,relatime shared:2 master:3 - ext4 /dev/vda2 rw
24 22 254:2 /state/os/default/var /var rw - ext4 /dev/vda2 rw
25 22 0:30 / /mnt/with\\040space\\134x rw - tmpfs tmpfs rw
26 25 254:1 / /mnt/with\\040space\\134x rw - vfat /dev/vda1 ro,fmask=0177
`;

test("fields, escapes, optional fields of any number", () => {
  const mounts = parseMountTable(text);
  expect(mounts).toHaveLength(5);
  expect(findMount(mounts, "/sysroot")).toEqual({
    path: "/sysroot",
    fileSystem: "ext4",
    source: "/dev/vda2",
    devMajor: 254,
    devMinor: 2,
    readOnly: true,
    superReadOnly: false,
    superOptions: "rw",
  });
  expect(findMount(mounts, "/")?.source).toBe("composefs:ab");
  expect(findMount(mounts, "/none")).toBeNull();
});

test("the last mount on a path is the one that is seen", () => {
  const found = findMount(parseMountTable(text), "/mnt/with space\\x");
  expect(found).toMatchObject({ fileSystem: "vfat", readOnly: false, superReadOnly: true });
});

test.each(["nonsense", "22 1 0:20 / / ro", "22 1 x:y / / ro - ext4 /dev/x rw"])(
  "refuses %j",
  (line) => expect(() => parseMountTable(line)).toThrow("is not a mountinfo line"),
);
