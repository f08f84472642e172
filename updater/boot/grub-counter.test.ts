import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { blessGrubTrial, readGrubCounting, readGrubTrial } from "./grub-counter.ts";
import { readSystem } from "./system.ts";

let path: string;
let file: string;
beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), "grub-"));
  mkdirSync(join(path, "grub"));
  writeFileSync(join(path, "grub/bootc.cfg"), 'if [ -n "$boot_counter" ]; then\nfi\n');
  file = join(path, "grub/grubenv");
});
afterEach(() => rmSync(path, { recursive: true }));

const counting = () => readGrubCounting(readSystem(), path);

// A FIFO waits, and to open a device has consequences: neither may happen.
describe.each<[string, () => void]>([
  ["a FIFO", () => execFileSync("mkfifo", [file])],
  ["a directory", () => mkdirSync(file)],
  ["a link", () => symlinkSync("elsewhere", file)],
])("grubenv is %s", (_, prepare) => {
  beforeEach(prepare);

  test("GRUB does not count, and the reason is told", () => {
    expect(counting()).toEqual({
      kind: "none",
      reason: expect.stringContaining('grub/grubenv" is not a regular file'),
    });
  });

  test("nothing is read from it or written to it", () => {
    const boot = borrowBootDirectory(path, makeEspLayout("systemd", path));
    const isLink = _ === "a link";
    for (const work of [() => readGrubTrial(boot), () => blessGrubTrial(boot)]) {
      expect(work).toThrow(isLink ? /no "grubenv"/ : /is not a regular file/);
    }
  });
});

test("a script that is none is passed over", () => {
  rmSync(join(path, "grub/bootc.cfg"));
  execFileSync("mkfifo", [join(path, "grub/fifo.cfg")]);
  mkdirSync(join(path, "grub/directory.cfg"));
  symlinkSync("fifo.cfg", join(path, "grub/link.cfg"));
  writeFileSync(join(path, "grub/large.cfg"), "boot_counter".padEnd((1 << 20) + 1));
  expect(counting()).toEqual({ kind: "none", reason: null });
});
