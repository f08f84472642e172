import { expect, test } from "vitest";
import { formatEntryName, makeEntryId, makeSortKey, parseEntryName } from "./entry-name.ts";

test.each([
  ["bootc_debian-13-1.conf", "bootc_debian-13-1", null],
  ["bootc_debian-13-1+3.conf", "bootc_debian-13-1", { left: 3, done: 0 }],
  ["bootc_debian-13-1+2-1.conf", "bootc_debian-13-1", { left: 2, done: 1 }],
  ["bootc_debian-13-1+0-3.conf", "bootc_debian-13-1", { left: 0, done: 3 }],
  ["bootc_debian-13+deb2-1+3.conf", "bootc_debian-13+deb2-1", { left: 3, done: 0 }],
] as const)("%s", (fileName, id, counter) => {
  expect(parseEntryName(fileName)).toEqual({ id, counter });
  expect(formatEntryName({ id, counter })).toBe(fileName);
});

test("what systemd-boot would take for a counter, this parser does too", () => {
  expect(parseEntryName("bootc_debian-13+2-1.conf")?.counter).toEqual({ left: 2, done: 1 });
});

test("other files are no entries", () => {
  expect(parseEntryName("x.conf.partial")).toBeNull();
});

test.each([
  ["fedora", "40", 1, "bootc_fedora-40-1"],
  ["opensuse-leap", "15.6", 0, "bootc_opensuse_leap-15.6-0"],
  ["debian", "13+2", 1, "bootc_debian-13_2-1"],
  ["../x", "a/b\\c", 1, "bootc_.._x-a_b_c-1"],
] as const)("id of %s %s", (osId, version, priority, id) => {
  expect(makeEntryId(osId, version, priority)).toBe(id);
  expect(parseEntryName(`${id}.conf`)).toEqual({ id, counter: null });
});

test("sort keys keep hyphens", () => {
  expect(makeSortKey("opensuse-leap", 0)).toBe("bootc-opensuse-leap-0");
});
