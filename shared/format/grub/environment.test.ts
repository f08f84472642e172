import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { changeEnvironment, ENVIRONMENT_BYTES, parseEnvironment } from "./environment.ts";

const block = (text: string, size = ENVIRONMENT_BYTES) =>
  new Uint8Array(Buffer.from(`# GRUB Environment Block\n${text}`.padEnd(size, "#"), "latin1"));
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

test("reads variables, comments, escapes and bytes that are no UTF-8", () => {
  const bytes = block(
    "# WARNING: do not edit\nsaved_entry=a=b\nempty=\nlines=x\\\ny\\\\z\nlatin=\xe9\n",
  );
  expect([...parseEnvironment(bytes)]).toEqual([
    ["saved_entry", "a=b"],
    ["empty", ""],
    ["lines", "x\ny\\z"],
    ["latin", "\xe9"],
  ]);
});

test("changes in place, keeps the rest, and its size", () => {
  const before = block("# c\na=1\nboot_counter=2\nb=x\\\\y\n");
  const after = changeEnvironment(before, { boot_counter: "3", a: null, boot_success: "0" });
  expect(text(after)).toBe(text(block("# c\nboot_counter=3\nb=x\\\\y\nboot_success=0\n")));
  expect(text(changeEnvironment(after, {}))).toBe(text(after));
});

test("of a variable that is there twice the last one counts, and stays (found by fuzzing)", () => {
  expect(text(changeEnvironment(block("a=1\nb=2\na=3\n"), {}))).toBe(text(block("a=3\nb=2\n")));
});

test("what is written is read again", () => {
  const value = "a\\b\nc=#\xff";
  expect(parseEnvironment(changeEnvironment(block(""), { v: value })).get("v")).toBe(value);
});

test.each([
  ["no signature", new Uint8Array(1024), "signature"],
  ["an empty file", new Uint8Array(0), "signature"],
  ["a line that is no variable", block("nonsense\n"), "no variable"],
  ["a name of nothing", block("=x\n"), "no variable"],
  ["a variable without an end", block("a=1", 28), "without an end"],
  ["a backslash at the end", block("a=1\\", 29), "backslash"],
  ["a huge file", block("", 70_000), "64 KiB"],
])("refuses %s", (_, bytes, message) => {
  expect(() => parseEnvironment(bytes)).toThrow(FormatError);
  expect(() => parseEnvironment(bytes)).toThrow(message);
});

test("refuses a value there is no room for", () => {
  expect(() => changeEnvironment(block(""), { long: "x".repeat(1000) })).toThrow(
    "no room for long",
  );
});
