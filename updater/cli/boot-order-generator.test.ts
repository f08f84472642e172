import { expect, test } from "vitest";
import { findLateUnits, parseAfter } from "./boot-order-generator.ts";

test.each([
  ["", []],
  ["[Unit]\nAfter=a.service b.target\nBefore=c.service\n", ["a.service", "b.target"]],
  [" After = a.service\nAfter=\nAfter=b.service\n", ["a.service", "b.service"]],
  ["After=a.service \\\n  b.service\n", ["a.service", "b.service"]],
  ["# After=a.service\nAfterwards=b.service\n", []],
  ["After=even\\x2dlater.service\n", ["even\\x2dlater.service"]],
])("After= of %j", (text, expected) => {
  expect(parseAfter(text)).toEqual(expected);
});

test("what comes after what comes after boot-complete.target, and no default target", () => {
  const orders = [
    { unit: "early.service", after: ["network.target"] },
    { unit: "last.service", after: ["later.service"] },
    { unit: "later.service", after: ["late.service", "last.service"] },
    { unit: "late.service", after: ["network.target", "boot-complete.target"] },
    { unit: "graphical.target", after: ["multi-user.target", "boot-complete.target"] },
    { unit: "display.service", after: ["graphical.target"] },
  ];
  expect(findLateUnits(orders)).toEqual(["last.service", "late.service", "later.service"]);
});
