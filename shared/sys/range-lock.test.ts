// Locks of open file descriptions: between two openings of one process, and given up on closing.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { O } from "./constants.ts";
import { openat } from "./file.ts";
import { lockFile } from "./range-lock.ts";

const scratch = mkdtempSync(join(tmpdir(), "range-lock-"));
const path = join(scratch, "lock");
writeFileSync(path, "");
afterAll(() => rmSync(scratch, { recursive: true }));

const now = { wait: false };

test("shared locks go together, an exclusive one stands alone", () => {
  using first = openat(null, path, O.RDWR);
  using second = openat(null, path, O.RDWR);
  expect(lockFile(first, "shared", now)).toBe(true);
  expect(lockFile(second, "shared", now)).toBe(true);
  expect(lockFile(first, "exclusive", now)).toBe(false);
  second.close();
  expect(lockFile(first, "exclusive", { wait: true })).toBe(true);
  using third = openat(null, path, O.RDWR);
  expect(lockFile(third, "shared", now)).toBe(false);
  first.close();
  expect(lockFile(third, "shared", now)).toBe(true);
});

test("the file must be open for what is locked", () => {
  using reading = openat(null, path, O.RDONLY);
  expect(lockFile(reading, "shared", now)).toBe(true);
  expect(() => lockFile(reading, "exclusive", now)).toThrow("Bad file descriptor");
});
