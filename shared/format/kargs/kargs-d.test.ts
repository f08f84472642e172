import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { formatCmdline } from "./cmdline.ts";
import { mergeKargsFiles, parseKargsFile, rustArchitecture } from "./kargs-d.ts";

test.each([
  ['kargs = ["a=b", "c d"]', "a=b c d"],
  ["kargs = []", ""],
  ['kargs = ["x"]\nmatch-architectures = ["x86_64", "riscv64"]', "x"],
  ['kargs = ["x"]\nmatch-architectures = ["aarch64"]', ""],
  ['kargs = ["x"]\nmatch-architectures = []', ""],
])("%s", (text, expected) => {
  expect(formatCmdline(parseKargsFile(text, "f", "x86_64"))).toBe(expected);
});

test.each([
  ['kargs = ["x"]\nmatch_architectures = ["x86_64"]', 'unknown key "match_architectures"'],
  ['match-architectures = ["x86_64"]', '"kargs" is missing'],
  ['kargs = "x"', "must be a list of strings"],
  ["kargs = [1]", "must be a list of strings"],
  ["kargs = [", "kargs.d/10.toml"],
  ["kargs = ['a=\"b']", "close its quotes"],
])("refuses %s", (text, message) => {
  const read = () => parseKargsFile(text, "kargs.d/10.toml", "x86_64");
  expect(read).toThrow(FormatError);
  expect(read).toThrow(message);
});

test("files are merged in name order, others are ignored", () => {
  const files = new Map([
    ["20.toml", 'kargs = ["second"]'],
    ["10.toml", 'kargs = ["first"]'],
    ["README", "not toml ["],
  ]);
  expect(formatCmdline(mergeKargsFiles(files, "x86_64"))).toBe("first second");
});

test("architecture names are Rust's", () => {
  expect([rustArchitecture("x64"), rustArchitecture("arm64"), rustArchitecture("s390x")]).toEqual([
    "x86_64",
    "aarch64",
    "s390x",
  ]);
});
