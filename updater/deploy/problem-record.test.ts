import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { JournalSocket } from "../../test/support/journal-socket.ts";
import { readSystem } from "../boot/system.ts";
import { recordProblems } from "./problem-record.ts";

let run: string;
let journal: JournalSocket;
beforeEach(() => {
  run = mkdtempSync(join(tmpdir(), "run-"));
  journal = new JournalSocket(run);
});
afterEach(() => {
  journal[Symbol.dispose]();
  rmSync(run, { recursive: true });
});

const record = (...problems: string[]) => {
  recordProblems({ ...readSystem(), runDirectory: run }, problems);
  return journal.take().map((fields) => fields["BOOTC_PROBLEM"]);
};

test("each problem once, and again when it comes back", () => {
  expect(record("a", "b")).toEqual(["a", "b"]);
  expect(record("a", "b")).toEqual([]);
  expect(record("b", "a")).toEqual([]);
  expect(record("a", "c")).toEqual(["c"]);
  expect(record()).toEqual([]);
  expect(record("a\nb")).toEqual(["a b"]);
  expect(record("a\nb")).toEqual([]);
  expect(record("a")).toEqual(["a"]);
});

test("something else in the place of the note is not waited for", () => {
  mkdirSync(join(run, "bootc"));
  execFileSync("mkfifo", [join(run, "bootc/recorded-problems")]);
  expect(record("a")).toEqual(["a"]);
  expect(record("a")).toEqual([]);
});

test("nothing wrong leaves nothing behind", () => {
  expect(record()).toEqual([]);
  expect(() => chmodSync(join(run, "bootc/recorded-problems"), 0o600)).toThrow("ENOENT");
});

test("what cannot be kept is recorded all the same", () => {
  writeFileSync(join(run, "bootc"), "");
  expect(record("a")).toEqual(["a"]);
  rmSync(join(run, "bootc"));
  mkdirSync(join(run, "bootc/recorded-problems"), { recursive: true });
  expect(record("a")).toEqual(["a"]);
});
