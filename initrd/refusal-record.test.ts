import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { IntegrityError, StateError } from "../shared/error.ts";
import { recordRefusal } from "./refusal-record.ts";

const id = "ab".repeat(64);
let root: string;
let file: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "refusal-"));
  file = join(root, "state/bootc/boot-refused.json");
});
afterEach(() => rmSync(root, { recursive: true }));

const damaged = new IntegrityError("digest-mismatch", "The image is damaged");
const record = (error: unknown = damaged, cmdline = `quiet composefs=?${id}`) =>
  recordRefusal(root, cmdline, error, "The image is damaged");

test("says which deployment, when and why, and the newest refusal counts", () => {
  mkdirSync(join(root, "state"));
  record(new StateError("missing", "gone"));
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ id, kind: "other" });
  record();
  const found = JSON.parse(readFileSync(file, "utf8"));
  expect(found).toEqual({
    at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    id,
    kind: "verity",
    text: "The image is damaged",
  });
  expect(readdirSync(join(root, "state/bootc"))).toEqual(["boot-refused.json"]);
});

test("a long reason is cut", () => {
  mkdirSync(join(root, "state"));
  recordRefusal(root, `composefs=${id}`, damaged, "x".repeat(1e6));
  expect(JSON.parse(readFileSync(file, "utf8")).text).toHaveLength(1000);
});

test("never makes anything of a disk that is not ours", () => {
  record();
  expect(readdirSync(root)).toEqual([]);
});

test.each([
  ["the command line names no deployment", () => mkdirSync(join(root, "state")), "root=/dev/vda"],
  ["the command line is broken", () => mkdirSync(join(root, "state")), "composefs=xyz"],
  ["state is a file", () => writeFileSync(join(root, "state"), ""), `composefs=${id}`],
  [
    "bootc's directory leads out of the disk",
    () => {
      mkdirSync(join(root, "state"));
      mkdirSync(join(root, "elsewhere"));
      symlinkSync(join(root, "elsewhere"), join(root, "state/bootc"));
    },
    `composefs=${id}`,
  ],
])("changes nothing when %s", (_, prepare, cmdline) => {
  prepare();
  record(damaged, cmdline);
  expect(existsSync(file)).toBe(false);
  if (existsSync(join(root, "elsewhere"))) {
    expect(readdirSync(join(root, "elsewhere"))).toEqual([]);
  }
  chmodSync(root, 0o700);
});
