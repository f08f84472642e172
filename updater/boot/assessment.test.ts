import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readAssessment } from "./assessment.ts";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import type { System } from "./system.ts";

const id = "ab".repeat(64);
let sysfs: string;
beforeEach(() => {
  sysfs = mkdtempSync(join(tmpdir(), "sys-"));
});
afterEach(() => rmSync(sysfs, { recursive: true }));

function read(countPath: string | null, cmdline = `root=x composefs=?${id}`, loader = "systemd") {
  const variables = join(sysfs, "firmware/efi/efivars");
  mkdirSync(variables, { recursive: true });
  if (countPath !== null) {
    const text = Buffer.from(`${countPath}\0`, "utf16le");
    const name = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    writeFileSync(join(variables, name), Buffer.concat([Buffer.alloc(4), text]));
  }
  const layout = makeEspLayout(loader as "systemd", "/esp");
  const system = { sysfs, cmdline } as System;
  return readAssessment(system, borrowBootDirectory("/esp", layout));
}

test.each([
  ["\\loader\\entries\\bootc_debian-13-1+2-1.conf", "bootc_debian-13-1", 2, 1],
  ["/loader/entries/x+0-4.conf", "x", 0, 4],
  ["\\LOADER\\ENTRIES\\x+1.conf", "x", 1, 0],
])("%s", (path, entryId, left, done) => {
  expect(read(path)).toEqual({
    startedId: id,
    count: { kind: "entry-name", entryId, counter: { left, done } },
  });
});

test.each([
  ["no variable", null],
  ["a unified kernel that systemd-boot found by itself", "\\EFI\\Linux\\x+2-1.efi"],
  ["an entry without counter", "\\loader\\entries\\x.conf"],
  ["nothing of the kind", "\\..\\x+1-1"],
])("%s: not counted", (_, path) => {
  expect(read(path).count).toEqual({ kind: "uncounted" });
});

test("no deployment on the command line, and a loader that does not count", () => {
  expect(read("\\loader\\entries\\x+2-1.conf", "root=x").startedId).toBeNull();
  expect(read("\\loader\\entries\\x+2-1.conf", undefined, "grub-cc").count.kind).toBe("uncounted");
});
