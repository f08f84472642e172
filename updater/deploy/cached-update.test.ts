import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { keepCachedUpdate, parseCachedUpdate, readCachedUpdate } from "./cached-update.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const found = (changes = {}) => ({
  originReference: "ostree-unverified-image:docker://quay.io/os:latest",
  manifestDigest: DIGEST,
  facts: { version: "13.2", timestamp: "2026-02-03T04:05:06Z", architecture: "amd64" },
  ...changes,
});
const NOW = new Date("2026-11-22T15:00:00Z");
const EXPECTED = {
  reference: "ostree-unverified-image:docker://quay.io/os:latest",
  manifestDigest: DIGEST,
  version: "13.2",
  timestamp: "2026-02-03T04:05:06Z",
  architecture: "amd64",
  checkedAt: "2026-11-22T15:00:00.000Z",
};

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "root-"));
});
afterEach(() => rmSync(root, { recursive: true }));
const path = () => join(root, "state/bootc/cached-update.json");

test("what was found is read again", () => {
  keepCachedUpdate(root, found(), NOW);
  const problems: string[] = [];
  expect(readCachedUpdate(root, problems)).toEqual(EXPECTED);
  expect(problems).toEqual([]);
  expect(statSync(path()).mode & 0o777).toBe(0o644);
});

test("the same update is not written again, another one or another reference is", () => {
  keepCachedUpdate(root, found(), NOW);
  const before = readFileSync(path(), "utf8");
  keepCachedUpdate(root, found(), new Date("2026-11-23T00:00:00Z"));
  expect(readFileSync(path(), "utf8")).toBe(before);
  keepCachedUpdate(root, found({ manifestDigest: `sha256:${"cd".repeat(32)}` }), NOW);
  expect(readCachedUpdate(root, [])?.manifestDigest).toBe(`sha256:${"cd".repeat(32)}`);
  keepCachedUpdate(root, found({ originReference: "ostree-unverified-image:oci:/os" }), NOW);
  expect(readCachedUpdate(root, [])?.reference).toBe("ostree-unverified-image:oci:/os");
});

describe("an unusable file is no update", () => {
  test("a FIFO, which would wait, is not opened", () => {
    mkdirSync(join(root, "state/bootc"), { recursive: true });
    execFileSync("mkfifo", [path()]);
    const problems: string[] = [];
    expect(readCachedUpdate(root, problems)).toBeNull();
    expect(problems.join()).toMatch(/is ignored: .*cached-update\.json" is not a regular file/);
  });

  test("none is no problem", () => {
    const problems: string[] = [];
    expect(readCachedUpdate(root, problems)).toBeNull();
    expect(problems).toEqual([]);
  });

  test.each([
    ["empty", ""],
    ["half", '{"reference":'],
    ["not an object", "[]"],
    ["no digest", JSON.stringify({ ...EXPECTED, manifestDigest: undefined })],
    ["a digest that is none", JSON.stringify({ ...EXPECTED, manifestDigest: "sha256:../x" })],
  ])("%s", (_, text) => {
    expect(() => parseCachedUpdate(Buffer.from(text), "file")).toThrow('Cached update "file" is');
    mkdirSync(join(root, "state/bootc"), { recursive: true });
    writeFileSync(path(), text);
    const problems: string[] = [];
    expect(readCachedUpdate(root, problems)).toBeNull();
    expect(problems).toHaveLength(1);
    keepCachedUpdate(root, found(), NOW);
    expect(readCachedUpdate(root, [])).toEqual(EXPECTED);
  });

  test("unknown fields of a later release are allowed", () => {
    const bytes = Buffer.from(JSON.stringify({ ...EXPECTED, more: 1 }));
    expect(parseCachedUpdate(bytes, "file")).toEqual(EXPECTED);
  });
});
