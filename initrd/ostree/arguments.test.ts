import { expect, test } from "vitest";
import { parseOstreeArguments } from "./arguments.ts";

test("parseOstreeArguments reads SYSROOT and the command line", () => {
  expect(parseOstreeArguments(["/sysroot"])).toEqual({ sysroot: "/sysroot", cmdline: null });
  expect(parseOstreeArguments(["/x", ""])).toEqual({ sysroot: "/x", cmdline: "" });
  expect(parseOstreeArguments(["--help"])).toBeNull();
});

test.each([[[]], [[""]], [["/a", "b", "c"]]])("parseOstreeArguments refuses %j", (argv) => {
  expect(() => parseOstreeArguments(argv)).toThrow("Expected SYSROOT and maybe a kernel command");
});
