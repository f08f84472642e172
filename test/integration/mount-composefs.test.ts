// mount.composefs as a program, on this machine's kernel and in a mount namespace of its own.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runInMountNamespace, type Step } from "../support/mount-namespace.ts";
import { run } from "../support/run.ts";

const MAIN = resolve(import.meta.dirname, "../../main.ts");
const scratch = mkdtempSync(join(tmpdir(), "mount-composefs-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const LARGE = "large content\n".repeat(500);
const WRONG = "00".repeat(32);

const SCRIPT = `
cd "$SCRATCH"
composefs() { "$BUN" "$MAIN" internals mount.composefs "$@"; }
mounted() { grep -o " $SCRATCH/mnt r[ow].* - overlay composefs .*" /proc/self/mountinfo; }
step plain composefs -o basedir=store image mnt
step plain-table mounted
step plain-read cat mnt/large mnt/small
umount mnt
step attributes composefs -o basedir=store,nosuid,noexec,nodev image mnt
step attributes-table mounted
umount mnt
step tryverity composefs -o basedir=store,tryverity image mnt
step tryverity-read cat mnt/small
umount mnt
step verity composefs -o basedir=store,verity image mnt
step verity-read cat mnt/small mnt/large
umount mnt
# The names of mount(8)'s helpers are fixed.
printf '#!/bin/sh\nexec "%s" "%s" internals mount.composefs "$@"\n' "$BUN" "$MAIN" >helper/mount.composefs
chmod +x helper/mount.composefs
mount -t overlay overlay -o lowerdir=helper:/usr/sbin /usr/sbin
step helper mount -t composefs -o basedir=store image mnt
step helper-read cmp mnt/large tree/large
umount mnt
step helper-ro mount -r -v -t composefs image mnt -o basedir=empty:store
step helper-ro-write touch mnt/new
umount mnt
step helper-fake mount -f -t composefs image mnt -o basedir=store
step helper-bad mount -t composefs image mnt -o basedir=store,nonsense
umount /usr/sbin
step read-only composefs image mnt -n -t composefs -o ro,basedir=empty:store
step read-only-read cmp mnt/large tree/large
step read-only-write touch mnt/new
umount mnt
step writable composefs image mnt -o basedir="$SCRATCH/store",upperdir=upper,workdir=work
step writable-write sh -c 'echo more >>mnt/large && tail -n 1 mnt/large'
umount mnt
step odd-name composefs image mnt -o 'basedir=odd\\,na\\\\me'
step odd-name-read cmp mnt/large tree/large
umount mnt
unshare --user sleep 60 &
child=$!
until [ "$(readlink /proc/$child/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do :; done
echo "0 100000 1000" >/proc/$child/uid_map
echo "0 100000 1000" >/proc/$child/gid_map
step idmap composefs image mnt -o "basedir=store,idmap=/proc/$child/ns/user"
kill $child
step idmap-owner stat -c %u:%g mnt/small
umount mnt
step usage-none composefs
step usage-type composefs -t ext4 image mnt
step help composefs -h
step no-image composefs missing mnt -o basedir=store
step no-target composefs image missing -o basedir=store
step no-basedir composefs image mnt -o basedir=missing
step not-an-image composefs tree/large mnt -o basedir=store
step digest composefs image mnt -o basedir=store,digest=${WRONG}
step fake composefs image mnt -f -o basedir=store
step own-namespace composefs image mnt -o basedir=store,idmap=/proc/self/ns/user
step left-over sh -c 'grep -c "$SCRATCH" /proc/self/mountinfo; ls "$SCRATCH/tmp"'
`;

describe("mount.composefs", () => {
  let steps: ReadonlyMap<string, Step>;
  const output = (name: string) => steps.get(name)?.output;

  beforeAll(async () => {
    const names = ["tree", "mnt", "upper", "work", "empty", "tmp", "helper"];
    for (const name of names) mkdirSync(join(scratch, name));
    writeFileSync(join(scratch, "tree/large"), LARGE);
    writeFileSync(join(scratch, "tree/small"), "small\n");
    for (const store of ["store", "odd,na\\me"]) {
      const tool = [process.execPath, MAIN, "internals", "mkcomposefs"];
      await run([...tool, `--digest-store=${store}`, "tree", "image"], { cwd: scratch });
    }
    const environment = { BUN: process.execPath, MAIN, SCRATCH: scratch, TMPDIR: `${scratch}/tmp` };
    steps = runInMountNamespace(SCRIPT, environment);
  });

  test("makes a read-only overlay over image and objects", () => {
    expect(steps.get("plain")).toEqual({ output: "", code: 0 });
    expect(output("plain-table")).toMatch(/ rw,\S* - overlay composefs ro,.*metacopy=on/);
    expect(output("plain-read")).toBe(`${LARGE}small`);
  });

  test("gives the mount the attributes that are asked for", () => {
    expect(steps.get("attributes")).toEqual({ output: "", code: 0 });
    expect(output("attributes-table")).toMatch(/ rw,nosuid,nodev,noexec,\S* - overlay composefs /);
  });

  test("has files checked when told to, those without fs-verity cannot be read then", () => {
    expect(steps.get("tryverity")?.code).toBe(0);
    expect(output("tryverity-read")).toBe("small");
    expect(steps.get("verity")).toEqual({ output: "", code: 0 });
    expect(output("verity-read")).toMatch(/^small\n.*large: Input\/output error$/);
  });

  test("is a helper of mount(8)", () => {
    expect(steps.get("helper")).toEqual({ output: "", code: 0 });
    expect(steps.get("helper-read")?.code).toBe(0);
    expect(steps.get("helper-ro")?.code).toBe(0);
    expect(output("helper-ro-write")).toContain("Read-only file system");
    expect(steps.get("helper-fake")).toEqual({ output: "", code: 0 });
    expect(output("helper-bad")).toContain('Unsupported option "nonsense"');
    expect(steps.get("helper-bad")?.code).toBe(1);
  });

  test("explains itself on standard error", () => {
    expect(output("usage-none")).toContain("No source path specified");
    expect(steps.get("usage-none")?.code).toBe(1);
    expect(output("usage-type")).toContain('Unsupported fs type "ext4"');
    expect(steps.get("usage-type")?.code).toBe(1);
    expect(output("help")).toContain("Usage: mount.composefs");
    expect(steps.get("help")?.code).toBe(0);
  });

  test("takes several object directories, ro, and mount(8)'s way of calling", () => {
    expect(steps.get("read-only")).toEqual({ output: "", code: 0 });
    expect(steps.get("read-only-read")?.code).toBe(0);
    expect(output("read-only-write")).toContain("Read-only file system");
  });

  test("takes an upper directory", () => {
    expect(steps.get("writable-write")).toEqual({ output: "more", code: 0 });
    expect(readFileSync(join(scratch, "upper/large"), "utf8")).toBe(`${LARGE}more\n`);
    expect(readFileSync(join(scratch, "tree/large"), "utf8")).toBe(LARGE);
  });

  test("takes paths with commas and backslashes", () => {
    expect(steps.get("odd-name")).toEqual({ output: "", code: 0 });
    expect(steps.get("odd-name-read")?.code).toBe(0);
  });

  test("maps owners", () => {
    expect(steps.get("idmap")).toEqual({ output: "", code: 0 });
    expect(output("idmap-owner")).toBe("100000:100000");
  });

  test.each([
    ["no-image", 'openat "missing": No such file'],
    ["no-target", 'move_mount "missing": No such file'],
    ["no-basedir", 'datadir+=missing": No such file'],
    ["not-an-image", '"tree/large" is not a composefs image'],
    // What composefs' own test suite looks for.
    ["digest", ": Image has no fs-verity"],
    ["own-namespace", "mount_setattr"],
  ])("refuses: %s", (name, message) => {
    expect(output(name)).toMatch(/^mount\.composefs: Cannot mount composefs "[^\n]*$/);
    expect(output(name)).toContain(message);
    expect(steps.get(name)?.code).toBe(1);
  });

  test("mounts nothing when told to pretend, and leaves nothing behind", () => {
    expect(steps.get("fake")).toEqual({ output: "", code: 0 });
    expect(output("left-over")).toBe("0");
  });
});
