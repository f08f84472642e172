import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { System } from "../boot/system.ts";
import { detectEnvironment } from "./environment.ts";

const [a, b] = ["a".repeat(128), "b".repeat(128)];
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "environment-"));
  mkdirSync(join(root, "run"));
});
afterEach(() => rmSync(root, { recursive: true }));

function system(cmdline: string, source: string, superOptions = "ro"): System {
  const mount = {
    fileSystem: "overlay",
    devMajor: 0,
    devMinor: 1,
    readOnly: true,
    superReadOnly: true,
    superOptions,
  };
  return {
    root,
    physicalRoot: join(root, "sysroot"),
    runDirectory: join(root, "run"),
    sysfs: join(root, "sys"),
    devices: join(root, "dev"),
    cmdline,
    mounts: [{ path: "/", source, ...mount }],
    bootPath: null,
  };
}

test.each([
  [`composefs=${a}`, `composefs:${a}`, { id: a, verityOptional: false }],
  [`root=x composefs=?${a}`, `composefs:${a}`, { id: a, verityOptional: true }],
  [`composefs=${a}`, `transient:composefs=${a}`, { id: a, verityOptional: false }],
  // After a soft reboot: the mount decides, also about fs-verity.
  [`composefs=?${a}`, `composefs:${b}`, { id: b, verityOptional: true }],
  [`composefs=?${a}`, `composefs:${b}`, { id: b, verityOptional: false }, "ro,verity=require"],
  [`composefs=${a}`, `composefs:${b}`, { id: b, verityOptional: true }, "ro,metacopy=on"],
  [`composefs=${a}`, `composefs:${b}`, { id: b, verityOptional: false }, "ro,verity=require"],
  // A layer in memory hides how the image below was mounted.
  [`composefs=${a}`, `transient:composefs=${b}`, { id: b, verityOptional: false }],
  [`composefs=?${a}`, `transient:composefs=${b}`, { id: b, verityOptional: true }],
])("%s on %s", (cmdline, source, booted, superOptions?: string) => {
  const found = detectEnvironment(system(cmdline, source, superOptions), {});
  expect(found).toEqual({ kind: "composefs", booted });
});

test("an image on the command line, but another root", () => {
  expect(() => detectEnvironment(system(`composefs=${a}`, "/dev/vda2"), {})).toThrow(
    "not mounted using composefs (source: /dev/vda2)",
  );
});

test("containers of every make, ostree, anything else", () => {
  const plain = system("root=x", "/dev/vda2");
  expect(detectEnvironment(plain, {})).toEqual({ kind: "other" });
  writeFileSync(join(root, "run/ostree-booted"), "");
  expect(detectEnvironment(plain, {})).toEqual({ kind: "ostree" });
  expect(detectEnvironment(plain, { container: "podman" })).toEqual({ kind: "container" });
  writeFileSync(join(root, "run/.containerenv"), "");
  expect(detectEnvironment(plain, {})).toEqual({ kind: "container" });
});
