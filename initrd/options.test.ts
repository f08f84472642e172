import { expect, test } from "vitest";
import { DEFAULT_OPTIONS, parseOptions } from "./options.ts";

test.each([
  [[], DEFAULT_OPTIONS],
  [["setup-root"], DEFAULT_OPTIONS],
  [
    ["setup-root", "--sysroot", "/a", "--cmdline=composefs=1 rw", "ignored", "--target", "/t"],
    { ...DEFAULT_OPTIONS, sysroot: "/a", cmdline: "composefs=1 rw", target: "/t" },
  ],
  [
    ["--root-fs=/r", "--config=", "--run", "/x"],
    { ...DEFAULT_OPTIONS, rootFs: "/r", config: "", run: "/x" },
  ],
  [["--sysroot", "/a", "--help"], null],
])("parseOptions reads %j", (argv, expected) => {
  expect(parseOptions(argv)).toEqual(expected);
});

test.each([
  [["--sysrot", "/a"], 'Unknown option "--sysrot"'],
  [["--target"], 'Option "--target" needs a value'],
])("parseOptions refuses %j", (argv, message) => {
  expect(() => parseOptions(argv)).toThrow(message);
});
