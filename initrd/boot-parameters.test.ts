import { expect, test } from "vitest";
import { parseBootParameters } from "./boot-parameters.ts";

const ID = "ab".repeat(64);

test("parseBootParameters reads what it needs", () => {
  const line = `root=UUID=1 rootflags=noatime init=/sbin/init root=/dev/vda2 composefs=${ID} quiet`;
  expect(parseBootParameters(line)).toEqual({
    composefs: [{ key: "composefs", digest: ID, algorithm: "sha512", optional: false }],
    volatile: "no",
    init: "/sbin/init",
    shellWanted: false,
    root: "/dev/vda2",
    rootType: null,
    rootFlags: "noatime",
  });
});

test("parseBootParameters ignores a relative init", () => {
  expect(parseBootParameters("init=bin/sh quiet").init).toBeNull();
});

test.each([
  ["", "no"],
  ["systemd.volatile", "yes"],
  ["systemd.volatile=1", "yes"],
  ["systemd.volatile=off", "no"],
  ["systemd.volatile=state", "state"],
  ["systemd.volatile=state systemd.volatile=overlay", "overlay"],
])('"%s" is volatile mode %s', (line, expected) => {
  expect(parseBootParameters(line).volatile).toBe(expected);
});

test.each([
  ["", false],
  ["rd.shell", true],
  ["rd.shell=1", true],
  ["rd.shell=0", false],
  ["rd.shell rd.shell=0", false],
  ["rd.break", true],
  ["rd.break=pre-mount rd.shell=0", true],
])('"%s" wants a shell: %s', (line, expected) => {
  expect(parseBootParameters(line).shellWanted).toBe(expected);
});
