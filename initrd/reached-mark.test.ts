import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { O } from "../shared/sys/constants.ts";
import { openat } from "../shared/sys/file.ts";
import { markReached } from "./reached-mark.ts";

const id = "ab".repeat(64);
const other = "cd".repeat(64);
const at = new Date("2026-01-01T00:00:07.900Z");
const line = `${id} ${Date.UTC(2026, 0, 1, 0, 0, 7) / 1000}\n`;

let root: string;
let records: string;
let file: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "reached-"));
  records = join(root, "state/bootc");
  file = join(records, "boot-reached");
  mkdirSync(records, { recursive: true });
  writeFileSync(join(records, "boot-trial.json"), "{}\n");
});
afterEach(() => rmSync(root, { recursive: true }));

function mark(): void {
  using disk = openat(null, root, O.PATH | O.DIRECTORY);
  markReached(disk, id, at);
}

test("a line for every start, behind what is there", () => {
  mark();
  expect(readFileSync(file, "utf8")).toBe(line);
  writeFileSync(file, `${other} 5\n`);
  mark();
  mark();
  expect(readFileSync(file, "utf8")).toBe(`${other} 5\n${line}${line}`);
  expect(readdirSync(records).sort()).toEqual(["boot-reached", "boot-trial.json"]);
});

test("a trial that goes on for ever does not fill the disk", () => {
  for (let i = 0; i < 200; i++) mark();
  expect(statSync(file).size).toBeLessThanOrEqual(8 * 1024 + line.length);
  expect(readFileSync(file, "utf8").endsWith(line)).toBe(true);
});

test.each<[string, () => void]>([
  ["nothing is on trial", () => rmSync(join(records, "boot-trial.json"))],
  ["the disk is not ours", () => rmSync(join(root, "state"), { recursive: true })],
  [
    "state is a file",
    () => {
      rmSync(join(root, "state"), { recursive: true });
      writeFileSync(join(root, "state"), "");
    },
  ],
  [
    "bootc's directory leads out of the disk",
    () => {
      rmSync(records, { recursive: true });
      mkdirSync(join(root, "elsewhere"));
      writeFileSync(join(root, "elsewhere/boot-trial.json"), "");
      symlinkSync(join(root, "elsewhere"), records);
    },
  ],
  ["the name is taken by a directory", () => mkdirSync(file)],
  ["the name is taken by a FIFO, which would wait", () => void execFileSync("mkfifo", [file])],
  ["the name is a link", () => symlinkSync(join(root, "target"), file)],
])("changes nothing when %s", (_, prepare) => {
  prepare();
  const before = listTree();
  mark();
  expect(listTree()).toBe(before);
  expect(existsSync(join(root, "target"))).toBe(false);
});

const listTree = () => execFileSync("find", [root, "-printf", "%P %y %s\n"], { encoding: "utf8" });
