// Menus in all the places where loaders keep them, in scratch directories: systemd-boot with unified kernels,
// GRUB with entries, GRUB with user.cfg; grubenv on them.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import { buildUki } from "../../test/support/uki-builder.ts";
import { openBootDirectory } from "./boot-directory.ts";
import { borrowBootDirectory, makeEspLayout } from "./boot-layout.ts";
import { extraMenuFiles, formatUserConfig, readMenu } from "./boot-menu.ts";
import { blessGrubTrial, readGrubCounting, readGrubTrial, startGrubTrial } from "./grub-counter.ts";
import { parseMountTable } from "./mount-table.ts";
import type { System } from "./system.ts";

const [A, B] = ["a".repeat(128), "b".repeat(128)];
let directory: string;
let system: System;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "menu-"));
  system = {
    root: join(directory, "root"),
    physicalRoot: join(directory, "disk"),
    runDirectory: join(directory, "run"),
    sysfs: join(directory, "sys"),
    devices: "/dev",
    cmdline: "",
    mounts: [],
    bootPath: null,
  };
});
afterEach(() => rmSync(directory, { recursive: true }));

function put(path: string, content: string | Uint8Array): string {
  const file = join(directory, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  return file;
}
const ukiPath = (id: string) => `EFI/Linux/bootc/bootc_composefs-${id}.efi`;
const environment = (text: string) => `# GRUB Environment Block\n${text}`.padEnd(1024, "#");
const entryText = (id: string) =>
  `version 1\nlinux /boot/bootc_composefs-${id}/vmlinuz\noptions composefs=${id}\n`;

describe("unified kernels on systemd-boot", () => {
  const boot = () => borrowBootDirectory(directory, makeEspLayout("systemd", directory));
  const sections = [
    [".cmdline", `quiet composefs=?${A}\n\0`],
    [".linux", "kernel"],
    [".initrd", "initramfs"],
  ] as const;

  test.each(["efi", "uki"])("key %s: the arguments are those in the kernel", (key) => {
    put(ukiPath(A), buildUki(sections));
    put("loader/entries/x.conf", `version 1\n${key} /${ukiPath(A)}\nsort-key bootc-a-0\n`);
    const menu = readMenu(boot(), "live")!;
    expect(menu.entries).toMatchObject([{ deploymentId: A, cmdline: `quiet composefs=?${A}` }]);
    expect(formatEntry(menu.entries[0]!.entry)).toContain(`${key} /EFI/Linux/bootc/`);
    expect(readMenu(boot(), "staged")).toBeNull();
  });

  test("addons add to them: those for every kernel first, each kind by name; broken ones are told of", () => {
    const addon = (text: string) => buildUki([[".cmdline", text]]);
    put(ukiPath(A), buildUki(sections));
    put(`${ukiPath(A)}.extra.d/b.addon.efi`, addon("own=2"));
    put(`${ukiPath(A)}.extra.d/a.addon.efi`, addon("own=1\n"));
    put(`${ukiPath(A)}.extra.d/other.efi`, addon("nothing"));
    put("loader/addons/z.addon.efi", addon("every"));
    put("loader/addons/c.addon.efi", buildUki([[".initrd", "x"]]));
    put("loader/addons/broken.addon.efi", "MZ");
    put("loader/entries/x.conf", `version 1\nefi /${ukiPath(A)}\nsort-key bootc-a-0\n`);
    put("loader/entries/y.conf", entryText(B).replaceAll("/boot/", "/EFI/Linux/"));
    const menu = readMenu(boot(), "live")!;
    expect(menu.entries.map(({ addonArguments }) => addonArguments)).toEqual([
      "every own=1 own=2",
      undefined,
    ]);
    expect(menu.problems).toEqual([
      expect.stringMatching(/^Addon "loader\/addons\/broken.addon.efi" cannot be read: /),
    ]);
  });

  test("arguments in the entry go first; a kernel that is gone is a problem, not an error", () => {
    put("loader/entries/a.conf", `version 1\nefi /${ukiPath(A)}\noptions own\n`);
    put("loader/entries/b.conf", `version 1\nefi /${ukiPath(B)}\n`);
    const menu = readMenu(boot(), "live")!;
    expect(menu.entries.map(({ cmdline }) => cmdline).sort()).toEqual(["", "own"]);
    expect(menu.problems).toEqual([
      expect.stringMatching(/^What "b.conf" starts cannot be read: .*No such file/),
    ]);
  });
});

describe("GRUB with entries", () => {
  test("is found by its files; a directory of the root disk has the prefix /boot", () => {
    put(`disk/boot/loader/entries/bootc_x-9-1.conf`, entryText(A));
    put(`disk/boot/loader/entries/bootc_x-10-0.conf`, entryText(B));
    using boot = openBootDirectory(system, "read");
    expect(boot.layout).toMatchObject({
      loader: "grub",
      kernelParent: "",
      linuxPrefix: "/boot",
      counting: "none",
    });
    const { entries } = readMenu(boot, "live")!;
    expect(entries.map(({ deploymentId }) => deploymentId)).toEqual([B, A]);
    expect(extraMenuFiles(boot.layout, entries)).toEqual([
      {
        fileName: "bootc-menu.cfg",
        text: expect.stringContaining(
          `linux '/boot/bootc_composefs-${B}/vmlinuz' 'composefs=${B}'`,
        ),
      },
    ]);
  });

  test("a partition mounted on /boot has no prefix", () => {
    put(`root/boot/loader/entries/x.conf`, entryText(A));
    mkdirSync(join(directory, "disk/boot"), { recursive: true });
    const mounts = parseMountTable(
      `1 0 8:2 / ${directory}/disk rw - ext4 /dev/sda2 rw\n2 1 8:1 / ${directory}/root/boot rw - ext4 /dev/sda1 rw\n`,
    );
    using boot = openBootDirectory({ ...system, mounts }, "write");
    expect(boot.path).toBe(join(directory, "root/boot"));
    expect(boot.layout.linuxPrefix).toBe("");
  });

  test("an ESP that is mounted on /boot is no GRUB's, unless GRUB's files are there", () => {
    put("root/boot/loader/entries/x.conf", entryText(A));
    mkdirSync(join(directory, "disk"), { recursive: true });
    const mounts = parseMountTable(
      `1 0 0:5 / ${directory}/disk rw - tmpfs x rw\n2 1 8:1 / ${directory}/root/boot rw - vfat /dev/sda1 rw\n`,
    );
    const open = () => openBootDirectory({ ...system, mounts }, "read");
    expect(open).toThrow("EFI system partition");
    put("root/boot/grub/grub.cfg", "");
    using boot = open();
    expect(boot.layout.loader).toBe("grub");
  });

  test("a broken entry is not in the script", () => {
    put("disk/boot/grub/grub.cfg", "");
    using boot = openBootDirectory(system, "read");
    const files = [
      { fileName: "x.conf", text: entryText(A) },
      { fileName: "broken.conf", text: "linux\n" },
    ];
    const [script] = extraMenuFiles(boot.layout, files);
    expect(script?.text.match(/menuentry/g)).toHaveLength(1);
  });

  test("without GRUB's files the ESP is looked for", () => {
    mkdirSync(join(directory, "disk/boot"), { recursive: true });
    expect(() => openBootDirectory(system, "read")).toThrow("is not a mount point");
  });
});

describe("grubenv", () => {
  const open = () => openBootDirectory(system, "write");
  const prepare = (content: string | Uint8Array, script = "if [ $boot_counter = 1 ]") => {
    put("disk/boot/grub/grub.cfg", script);
    return put("disk/boot/grub/grubenv", content);
  };

  test("trial and blessing, in place", () => {
    const path = prepare(environment("saved_entry=x\n"));
    const before = statSync(path).ino;
    using boot = open();
    startGrubTrial(boot, "bootc_x-1-0");
    expect(readFileSync(path, "latin1")).toBe(
      environment("saved_entry=x\nboot_counter=3\nboot_success=0\nbootc_fallback=bootc_x-1-0\n"),
    );
    expect(readGrubTrial(boot)).toEqual({
      left: 3,
      success: false,
      fallback: false,
      fallbackId: "bootc_x-1-0",
    });
    blessGrubTrial(boot);
    expect(readFileSync(path, "latin1")).toBe(environment("saved_entry=x\nboot_success=1\n"));
    expect(statSync(path).ino).toBe(before);
  });

  test.each([
    ["ours", "boot_counter=0\nboot_fallback=1\nboot_success=0\n", true],
    ["greenboot's", "boot_counter=-1\nboot_success=0\n", true],
    ["the last try, not used yet", "boot_counter=0\nboot_success=0\n", false],
    ["blessed since", "boot_counter=0\nboot_fallback=1\nboot_success=1\n", false],
  ])("a fallback by the script of %s", (_, text, expected) => {
    prepare(environment(text));
    using boot = open();
    expect(readGrubTrial(boot).fallback).toBe(expected);
  });

  test.each([
    ["nothing counts", environment(""), "set default=0", null],
    ["grubenv is a rubbish file", "rubbish", undefined, /signature|file system/],
  ])("is not used when %s", (_, content, script, reason) => {
    prepare(content, script);
    using boot = open();
    expect(boot.layout.counting).toBe("none");
    expect(boot.layout.countingProblem === null).toBe(reason === null);
    const counting = readGrubCounting(system, join(directory, "disk/boot"));
    expect(counting).toEqual({
      kind: "none",
      reason: reason === null ? null : expect.stringMatching(reason),
    });
  });
});

describe("GRUB with user.cfg", () => {
  const entry = (id: string) =>
    `menuentry "Fedora: (${id})" {\ninsmod chain\nchainloader /${ukiPath(id)}\n}\n`;

  test("its entries are ours, in file order; written again in another one", () => {
    const path = put("boot/grub2/user.cfg", `# own\n${entry(B)}${entry(A)}`);
    const layout = {
      ...makeEspLayout("systemd", directory),
      loader: "grub",
      userConfig: "grub2/user.cfg",
    } as const;
    put(ukiPath(A), buildUki([[".cmdline", "a"]]));
    put(ukiPath(B), buildUki([[".cmdline", "b"]]));
    const boot = borrowBootDirectory(join(directory, "boot"), layout);
    const { entries, problems } = readMenu(boot, "live")!;
    expect(problems).toEqual([]);
    expect(entries).toMatchObject([
      { deploymentId: B, cmdline: "b", entry: { title: "Fedora" } },
      { deploymentId: A, cmdline: "a" },
    ]);
    expect(formatUserConfig(boot, [...entries].reverse())).toBe(`# own\n${entry(A)}${entry(B)}`);
    expect(formatUserConfig(boot, entries.slice(1))).toBe(`# own\n${entry(A)}`);
    expect(extraMenuFiles(layout, entries)).toEqual([]);
    expect(readFileSync(path, "utf8")).toContain(B);
  });
});
