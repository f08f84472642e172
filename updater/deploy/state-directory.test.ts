import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FormatError } from "../../shared/error.ts";
import { formatOrigin, parseOrigin } from "./origin.ts";
import { formatStagedFile, parseStagedFile } from "./staged-file.ts";
import { readStates, statePaths } from "./state-directory.ts";

const [a, b] = ["a".repeat(128), "b".repeat(64)];
const origin = {
  imageReference: "ostree-unverified-image:docker://quay.io/x/y:tag",
  bootType: "bls",
  bootDigest: "aa",
  manifestDigest: "sha256:bb",
} as const;
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "state-"));
});
afterEach(() => rmSync(root, { recursive: true }));

test("origins: full, old ones without image or boot digest, unknown groups", () => {
  expect(parseOrigin(formatOrigin(origin), "x")).toEqual(origin);
  const old = { ...origin, bootDigest: null, manifestDigest: null };
  expect(parseOrigin(formatOrigin(old), "x")).toEqual(old);
  expect(formatOrigin(old)).not.toContain("[image]");
  expect(parseOrigin("[rpmostree]\nx=1\n", "x")).toEqual({
    imageReference: null,
    bootType: "bls",
    bootDigest: null,
    manifestDigest: null,
  });
  expect(() => parseOrigin("[boot]\nboot_type=usb\n", "x")).toThrow('boot_type is "usb"');
});

test.each([
  [`{"depl_id":"${a}","finalization_locked":true}`, { id: a, locked: true }],
  [`{"depl_id":"${b}"}`, { id: b, locked: false }],
])("staged file %s", (text, staged) => {
  expect(parseStagedFile(text, "x")).toEqual(staged);
});

test("the staged file is canonical JSON", () => {
  expect(formatStagedFile({ id: a, locked: false })).toBe(
    `{"depl_id":"${a}","finalization_locked":false}`,
  );
});

test.each([
  "",
  "{",
  "null",
  "[]",
  '{"depl_id":1}',
  '{"depl_id":"../../etc"}',
  `{"depl_id":"${a}","finalization_locked":"no"}`,
])("refuses the staged file %j", (text) =>
  expect(() => parseStagedFile(text, "x")).toThrow(FormatError),
);

test("states: complete, half-written, without origin, interrupted, foreign", () => {
  const [full, bare] = [statePaths(root, a), statePaths(root, b)];
  mkdirSync(full.etc, { recursive: true });
  symlinkSync(full.varTarget, full.var);
  writeFileSync(full.origin, formatOrigin(origin));
  mkdirSync(bare.directory);
  mkdirSync(full.partial);
  mkdirSync(join(full.deploy, "mine"));
  const { states, leftovers, problems } = readStates(root);
  expect(states).toEqual([
    { id: a, origin, complete: true },
    { id: b, origin: null, complete: false },
  ]);
  expect(leftovers).toEqual([`.partial-${a}`]);
  expect(problems).toHaveLength(3);
  expect(problems.join()).toMatch(/no usable origin.*no etc or var.*mine/s);
  expect(readStates(join(root, "none"))).toEqual({ states: [], leftovers: [], problems: [] });
});
