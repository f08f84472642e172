// Copies between the file systems every machine has; sharing blocks is tested where one can be mounted
// that does (test/integration/reflink.test.ts).

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { O } from "./constants.ts";
import { copyFileContents } from "./copy.ts";
import type { Fd } from "./fd.ts";
import { openat, read } from "./file.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "copy-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const at = (name: string) => join(root, name);
const create = (path: string): Fd => openat(null, path, O.RDWR | O.CREAT | O.EXCL, 0o644);

test.each([0, 1, 4096, 256 * 1024, 3_000_001])("copies %d bytes from the beginning", (size) => {
  const content = Buffer.alloc(size, "0123456789abcdef!");
  writeFileSync(at("a"), content);
  using input = openat(null, at("a"), O.RDONLY);
  // Somebody else is in the middle of it, and stays there.
  const begun = read(input, new Uint8Array(7));
  using output = create(at("b"));
  expect(copyFileContents(input, output).sizeBytes).toBe(size);
  expect(readFileSync(at("b")).equals(content)).toBe(true);
  const rest = new Uint8Array(16);
  expect(Buffer.from(rest.subarray(0, read(input, rest)))).toEqual(
    content.subarray(begun, begun + 16),
  );
});

test("copies between file systems, again and again", () => {
  writeFileSync(at("a"), "content");
  const memory = mkdtempSync("/dev/shm/copy-");
  try {
    expect(statSync(memory).dev).not.toBe(statSync(root).dev);
    using input = openat(null, at("a"), O.RDONLY);
    for (const name of ["1", "2"]) {
      using output = create(join(memory, name));
      expect(copyFileContents(input, output)).toEqual({ sizeBytes: 7, isReflink: false });
      expect(readFileSync(join(memory, name), "utf8")).toBe("content");
    }
  } finally {
    rmSync(memory, { recursive: true });
  }
});

test("copies what only read(2) can tell the size of", () => {
  using input = openat(null, "/proc/self/status", O.RDONLY);
  using output = create(at("b"));
  const { sizeBytes, isReflink } = copyFileContents(input, output);
  expect([sizeBytes > 100, isReflink]).toEqual([true, false]);
  expect(readFileSync(at("b"), "utf8")).toMatch(/^Name:\t/);
  expect(statSync(at("b")).size).toBe(sizeBytes);
});

test("says what went wrong", () => {
  writeFileSync(at("a"), "content");
  using input = openat(null, at("a"), O.RDONLY);
  using readOnly = openat(null, at("a"), O.RDONLY);
  expect(() => copyFileContents(input, readOnly)).toThrow("Bad file descriptor");
  using full = openat(null, "/dev/full", O.WRONLY);
  expect(() => copyFileContents(input, full)).toThrow("No space left on device");
  using directory = openat(null, root, O.RDONLY | O.DIRECTORY);
  using output = create(at("b"));
  expect(() => copyFileContents(directory, output)).toThrow("Is a directory");
});
