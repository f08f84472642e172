import { expect, test } from "vitest";
import { findArgument, findOstreeTarget, isAndroidBoot } from "./kernel-arguments.ts";

test.each([
  ["quiet ostree=/ostree/boot.1/os/ab/0 rw", "/ostree/boot.1/os/ab/0"],
  ["ostree=/a ostree=/b", "/a"],
  ["quiet", null],
  ["ostree", null],
  ["ostree= rw", null],
  ["xostree=/a", null],
  ["ostree.other=/a", null],
  // Quotes and tabs mean nothing here.
  ['"ostree=/a b"', null],
  ['ostree="/a b"', '"/a'],
  ["x\tostree=/a", null],
  ["quiet\nostree=/a", null],
  ["androidboot.slot_suffix=_a", "/ostree/root.a"],
  ["androidboot.slot_suffix=_b ostree=/a", "/ostree/root.b"],
  ["androidboot.slot_suffix=_b androidboot.slot_suffix=_a", "/ostree/root.b"],
  ["ostree=/a androidboot.serialno=1", "/ostree/root.a"],
])("findOstreeTarget(%j) is %j", (cmdline, expected) => {
  expect(findOstreeTarget(cmdline)).toBe(expected);
});

test.each(["_c", "", "a"])("findOstreeTarget refuses the slot %j", (slot) => {
  expect(() => findOstreeTarget(`androidboot.slot_suffix=${slot}`)).toThrow(
    `"androidboot.slot_suffix=${slot}" is malformed: expected _a or _b`,
  );
});

test("findArgument takes the first match, and an empty value is one", () => {
  expect(findArgument("a=1 a=2", "a")).toBe("1");
  expect(findArgument("a= a=2", "a")).toBe("");
  expect(findArgument("ab=1", "a")).toBeNull();
});

test("isAndroidBoot looks for any word of an Android boot loader", () => {
  expect(isAndroidBoot("quiet androidboot.x")).toBe(true);
  expect(isAndroidBoot("quiet xandroidboot.x")).toBe(false);
});
