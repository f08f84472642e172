import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import {
  blessGrubTrial,
  readGrubCounting,
  readGrubTrial,
  setGrubFallback,
  startGrubTrial,
} from "./grub-counter.ts";
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

test("a file in the place of GRUB's other directory is passed over", () => {
  writeFileSync(join(path, "grub2"), "");
  writeFileSync(file, "");
  expect(counting()).toEqual({
    kind: "none",
    reason: expect.stringMatching(/signature|cannot write/),
  });
  rmSync(join(path, "grub"), { recursive: true });
  expect(counting()).toEqual({ kind: "none", reason: null });
});

test("a script that is none is passed over", () => {
  rmSync(join(path, "grub/bootc.cfg"));
  execFileSync("mkfifo", [join(path, "grub/fifo.cfg")]);
  mkdirSync(join(path, "grub/directory.cfg"));
  symlinkSync("fifo.cfg", join(path, "grub/link.cfg"));
  writeFileSync(join(path, "grub/large.cfg"), "boot_counter".padEnd((1 << 20) + 1));
  expect(counting()).toEqual({ kind: "none", reason: null });
});

describe("a block with little room", () => {
  const boot = () => borrowBootDirectory(path, makeEspLayout("systemd", path));
  /** Leaves so many bytes. */
  const fill = (leftBytes: number, variables = "") => {
    const begin = `# GRUB Environment Block\n${variables}kernelopts=`;
    const text = `${begin.padEnd(1024 - leftBytes - 1, "x")}\n`;
    writeFileSync(file, text.padEnd(1024, "#"));
  };
  // Only on ext4 and vfat anything is counted at all.
  const reason = () => counting().kind === "none" && JSON.stringify(counting());

  test.each([
    [0, true],
    [45, true],
    [46, false],
  ])("%i bytes: no trial begins that could not be written down", (left, isTold) => {
    fill(left);
    const told = reason();
    if (told === false || told.includes("no room")) expect(told !== false).toBe(isTold);
    else expect(told).toContain("cannot write to the file system");
  });

  test("of a running trial it keeps nobody from blessing it", () => {
    fill(0, "boot_counter=2\nboot_success=0\n");
    expect(`${reason()}`).not.toContain("no room");
    blessGrubTrial(boot());
    expect(readGrubTrial(boot())).toMatchObject({ left: null, success: true });
  });

  test("without room for its name the second entry is fallen back to", () => {
    fill(60);
    startGrubTrial(boot(), "bootc_fedora-44.20261123-1");
    expect(readGrubTrial(boot())).toEqual({
      ...{ left: 3, success: false, fallback: false, fallbackId: null },
    });
    setGrubFallback(boot(), "a");
    expect(readGrubTrial(boot()).fallbackId).toBe("a");
    setGrubFallback(boot(), "bootc_fedora-44.20261123-1");
    expect(readGrubTrial(boot())).toMatchObject({ left: 3, fallbackId: null });
  });

  test("what does not fit at all is an error, and the block stays", () => {
    fill(10);
    expect(() => startGrubTrial(boot(), null)).toThrow("no room for boot_counter");
    expect(readGrubTrial(boot()).left).toBeNull();
  });
});
