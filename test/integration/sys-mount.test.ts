// The mount calls, loop devices, full and read-only disks: real kernel, one process per case with a mount
// namespace of its own (test/support/kernel-cases.ts).

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { CaseName } from "../support/kernel-cases.ts";
import { SECURE_STORE_RESULT } from "../support/secure-store.ts";

const RUNNER = join(import.meta.dirname, "../support/kernel-cases.ts");
const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: mounting takes root)";
let directory = "";

function run(name: CaseName): unknown {
  const child = spawnSync(process.execPath, [RUNNER, name, directory], { encoding: "utf8" });
  if (child.status !== 0)
    throw new Error(`${name}: ${child.status}\n${child.stdout}${child.stderr}`);
  return JSON.parse(child.stdout);
}

describe.skipIf(notRoot !== "")(`the kernel${notRoot}`, () => {
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "kernel-"));
  });
  afterEach(() => {
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(directory);
    rmSync(directory, { recursive: true });
  });

  test("a file system is made, configured and attached", () => {
    expect(run("mountApi")).toEqual({
      mode: 0o40711,
      isMountRoot: true,
      type: 0x01021994,
      readOnly: false,
    });
  });

  test("mount attributes are set and cleared", () => {
    expect(run("attributes")).toEqual({
      readOnly: 'EROFS: openat "DIR/m/file": Read-only file system',
      options: "rw,nosuid,nodev,relatime",
      remounted: true,
    });
  });

  test("mounts are cloned, alone or with those below, and attached by path or descriptor", () => {
    expect(run("clones")).toEqual({ plain: [], whole: ["file"], third: ["file"] });
  });

  test("refusals carry the kernel's own words", () => {
    expect(run("refusals")).toEqual({
      type: 'ENODEV: fsopen "nonsense": No such device',
      option:
        "EINVAL: fsconfig \"nonsense=1\": Invalid argument (tmpfs: Unknown parameter 'nonsense')",
      value: "EINVAL: fsconfig \"size=many\": Invalid argument (tmpfs: Bad value for 'size')",
      flag: "EINVAL: fsconfig \"size\": Invalid argument (tmpfs: Bad value for 'size')",
      fd: expect.stringContaining('EINVAL: fsconfig "size=(fd)": Invalid argument'),
      early: "EINVAL: fsmount: Invalid argument",
      source: expect.stringContaining('ENOENT: fsconfig "create": No such file or directory'),
      target: 'ENOENT: move_mount "DIR/none": No such file or directory',
      tree: 'ENOENT: open_tree "DIR/none": No such file or directory',
      attributes: 'EINVAL: mount_setattr "DIR": Invalid argument',
      mount: 'ENODEV: mount "DIR": No such device',
      umount: 'EINVAL: umount2 "DIR": Invalid argument',
      chroot: 'ENOENT: chroot "DIR/none": No such file or directory',
    });
  });

  test("an EROFS image is mounted through a loop device and directly", () => {
    expect(run("erofs")).toEqual({
      throughLoop: "hello from the image",
      fileBacked: "hello from the image",
      attached: true,
      refused: expect.stringMatching(/^EINVAL: fsconfig "create": Invalid argument/),
      writing: expect.stringMatching(/^E(PERM|ACCES): /), // LO_FLAGS_READ_ONLY
      loop: expect.stringMatching(/^E\w+: LOOP_CONFIGURE "\/dev\/null"/),
    });
  });

  test("removeTree stops at mounts", () => {
    expect(run("removeTree")).toEqual({
      first: 'EBUSY: removeTree "DIR/tree/a/b": Device or resource busy (it is a mount)',
      second: 'EBUSY: removeTree "DIR/tree/bind": Device or resource busy (it is a mount)',
      kept: [true, true],
      left: ["other"],
    });
  });

  test("the root is moved and entered", () => {
    expect(run("newRoot")).toEqual(["here"]);
  });

  test("a full disk is named, and nothing half-done stays", () => {
    expect(run("fullDisk")).toEqual({
      large: expect.stringMatching(
        /^no-space: No space left for the repository "DIR\/m\/repo"; free some space and try again: write/,
      ),
      afterLarge: 0,
      storedSome: true,
      whole: true,
      temporary: [],
      file: expect.stringMatching(
        /^no-space: No space left for the file "DIR\/m\/file"; free some/,
      ),
      old: "old",
      transaction: expect.stringMatching(
        /^no-space: No space left for the file "DIR\/m\/staged\/big"/,
      ),
      left: ["file", "repo"],
    });
  });

  test("a read-only repository is read, and an old one understood without meta.json", () => {
    expect(run("readOnlyDisk")).toEqual({
      algorithm: "sha256",
      read: "content",
      again: true,
      store: expect.stringMatching(/^EROFS: openat .*Read-only file system$/),
    });
  });

  test("an ext4 disk with the verity feature: a secure repository, or the reason why not", () => {
    const result = run("ext4") as { supported: boolean };
    if (result.supported) {
      expect(result).toMatchObject({
        secure: SECURE_STORE_RESULT,
      });
    } else {
      expect(result).toMatchObject({
        enabled: expect.stringMatching(/^no-fsverity: .*\/m\/file" has no fs-verity/),
        repository: expect.stringMatching(/^no-fsverity: The file system of "DIR\/m\/repo\/#\d+/),
        left: ["file"],
      });
    }
  });

  test("three updates by transactions leave just the last one", () => {
    const files = (generation: number) => [
      "copy",
      "kernel",
      "loader",
      "loader/entries",
      `loader/entries/a long name ${generation}.conf`,
      "loader/loader.conf",
    ];
    expect(run("transactions")).toEqual({
      results: [files(1), files(2), files(3)],
      same: true,
      text: "default 3",
    });
  });
});
