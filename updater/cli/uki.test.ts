// `bootc internals uki extract`.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildUki } from "../../test/support/uki-builder.ts";
import { makeUkiCommand } from "./uki.ts";

let scratch: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "uki-"));
});
afterEach(() => rmSync(scratch, { recursive: true }));

const kernel = Buffer.alloc(3_000_001, "kernel");

async function extract(sections: Parameters<typeof buildUki>[0]): Promise<string[]> {
  const lines: string[] = [];
  const nothing = () => {};
  writeFileSync(join(scratch, "x.efi"), buildUki(sections));
  const command = makeUkiCommand({
    write: nothing,
    line: (text) => void lines.push(text),
    note: nothing,
    progress: nothing,
    columns: null,
    isInteractive: false,
  });
  await command.parseAsync(["extract", join(scratch, "x.efi"), join(scratch, "out/deep")], {
    from: "user",
  });
  return lines;
}

test("writes kernel and initramfs below the release", async () => {
  const lines = await extract([
    [".uname", "6.12.1+deb13-amd64\n\0\0"],
    [".linux", kernel],
    [".initrd", "initramfs"],
  ]);
  const directory = join(scratch, "out/deep/6.12.1+deb13-amd64");
  expect(lines).toEqual([directory]);
  expect(readFileSync(join(directory, "vmlinuz")).equals(kernel)).toBe(true);
  expect(readFileSync(join(directory, "initramfs.img"), "utf8")).toBe("initramfs");
});

test.each([
  [
    "no release",
    [
      [".linux", "k"],
      [".initrd", "i"],
    ],
    "there is none",
  ],
  [
    "a release that is a path",
    [
      [".uname", "../x"],
      [".linux", "k"],
      [".initrd", "i"],
    ],
    '"../x"',
  ],
  [
    "no initramfs",
    [
      [".uname", "6"],
      [".linux", "k"],
    ],
    'no section ".initrd"',
  ],
] as const)("refuses %s", async (_, sections, message) => {
  await expect(extract(sections)).rejects.toThrow(message);
});
