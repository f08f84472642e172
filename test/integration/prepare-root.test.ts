// prepare-root outside an initramfs: a disk as bootc leaves it, a mount namespace, the real kernel.
//
// The build machine has no fs-verity, so the image is named with "?"; what fs-verity enforces is
// tested in the VM. The ways of older kernels are exercised by telling prepare-root that it has one.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BIG, type ComposefsDisk, makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import { type MountLine, parseMountinfo, runInMountNamespace } from "../support/mount-namespace.ts";

const RUNNER = join(import.meta.dirname, "../support/prepare-root.ts");
const FILES = { ...SKELETON, "sbin/init": "#!/bin/sh\nexec true\n" };

let scratch: string;
let disk: ComposefsDisk;

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-"));
  const path = join(scratch, "disk");
  mkdirSync(path);
  disk = makeComposefsDisk(path, FILES);
  for (const name of ["m", "run"]) mkdirSync(join(scratch, name));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => {
  for (const name of ["upper", "work"]) {
    rmSync(join(disk.path, `state/deploy/${disk.id}/etc`, name), { recursive: true, force: true });
  }
});

interface Case {
  readonly config?: string;
  readonly cmdline?: string;
  /** Stands in for what the kernel can do. */
  readonly kernel?: object;
}

/** The disk is a shared mount, as systemd makes all of them; the new root goes over it. */
const SCRIPT = `
m=$SCRATCH/m
mount --make-rshared /
mount --bind "$DISK" "$m"
mount --make-shared "$m"
step prepare "$BUN" "$RUNNER" setup-root --sysroot "$m" --config "$SCRATCH/conf" --run "$SCRATCH/run" \
  --cmdline "$CMDLINE"
step mounts cat /proc/self/mountinfo
step big cat "$m/usr/share/big"
step etc ls "$m/etc"
step var ls "$m/var"
step write-root touch "$m/usr/new"
step write-etc touch "$m/etc/new"
step write-var touch "$m/var/new"
step write-sysroot touch "$m/sysroot/new"
step left ls -A "$SCRATCH/run"
rm -f "$m/etc/new" "$m/var/new"
`;

function prepare({ config = "", cmdline = "", kernel }: Case) {
  writeFileSync(join(scratch, "conf"), config);
  const steps = runInMountNamespace(SCRIPT, {
    BUN: process.execPath,
    RUNNER,
    SCRATCH: scratch,
    DISK: disk.path,
    CMDLINE: `composefs=?${disk.id} ${cmdline}`,
    ...(kernel === undefined ? {} : { PREPARE_ROOT_KERNEL: JSON.stringify(kernel) }),
  });
  const m = join(scratch, "m");
  const mounts = parseMountinfo(steps.get("mounts")!.output);
  const at = (name: string): MountLine | undefined =>
    mounts.findLast(({ target }) => target === join(m, name));
  const writable = (name: string) => steps.get(`write-${name}`)!.code === 0;
  return {
    mounts,
    at,
    line: steps.get("prepare")!.output,
    code: steps.get("prepare")!.code,
    big: steps.get("big")!.output,
    etc: steps.get("etc")!.output,
    var: steps.get("var")!.output,
    writable: ["root", "etc", "var", "sysroot"].filter(writable),
    left: steps.get("left")!.output,
  };
}

const OLDER_KERNELS = [
  ["this kernel", undefined],
  ["6.7 to 6.14", { detachedTrees: false }],
  ["6.5", { detachedTrees: false, layers: "data-only", verity: false }],
  ["5.15", { detachedTrees: false, layers: "plain", verity: false, erofs: "loop" }],
] as const;

describe.each(OLDER_KERNELS)("with %s", (_, kernel) => {
  test("root read-only, /etc and /var bound, /sysroot read-only", () => {
    const result = prepare(kernel === undefined ? {} : { kernel });
    expect(result.line).toContain(
      `mounted composefs:${disk.id.slice(0, 12)} verity=off root=ro etc=bind var=bind erofs=`,
    );
    expect(result.code).toBe(0);
    expect(result.at("")).toMatchObject({ type: "overlay", source: `composefs:${disk.id}` });
    expect(result.at("")?.options).toMatch(/^ro,/);
    expect(result.at("etc")?.root).toMatch(new RegExp(`state/deploy/${disk.id}/etc$`));
    expect(result.at("var")?.root).toMatch(/state\/os\/default\/var$/);
    expect(result.at("etc")?.options).toMatch(/^rw,nodev/);
    expect(result.at("var")?.options).toMatch(/^rw,relatime/);
    expect(result.at("sysroot")?.options).toMatch(/^ro,nodev/);
    expect(result.etc).toBe("machine-file");
    expect(result.var).toBe("kept");
    expect(result.big).toBe(BIG);
    expect(result.writable).toEqual(["etc", "var"]);
  });

  test("copies of the disk hear nothing of each other's mounts, and no scratch mount is left", () => {
    const result = prepare(kernel === undefined ? {} : { kernel });
    const below = result.mounts.filter(({ target }) => target.startsWith(scratch));
    expect(below.map(({ target }) => target.slice(scratch.length))).toEqual(
      expect.arrayContaining(["/m", "/m", "/m/sysroot", "/m/etc", "/m/var"]),
    );
    expect(below).toHaveLength(5);
    expect(below.flatMap(({ propagation }) => propagation)).toEqual([]);
    expect(result.left).toBe("");
  });

  test("everything in memory or on overlays", () => {
    const config = '[root]\ntransient = true\n[etc]\nmount = "overlay"\n[var]\ntransient = true\n';
    const result = prepare({ config, ...(kernel === undefined ? {} : { kernel }) });
    expect(result.line).toContain("root=transient etc=overlay var=transient");
    expect(result.at("")).toMatchObject({
      type: "overlay",
      source: `transient:composefs=${disk.id}`,
    });
    expect(result.at("etc")).toMatchObject({ type: "overlay", source: "overlay" });
    expect(result.at("var")).toMatchObject({ type: "overlay", source: "transient" });
    expect(result.etc.split("\n")).toEqual(["image-default", "os-release"]);
    expect(result.var).toBe("");
    expect(result.big).toBe(BIG);
    expect(result.writable).toEqual(["root", "etc", "var"]);
  });
});

test("the erofs image goes through a loop device when files cannot be mounted", () => {
  expect(prepare({ kernel: { erofs: "loop" } }).line).toContain("erofs=loop");
});

test("an overlay of /etc keeps what was written", () => {
  const upper = join(disk.path, `state/deploy/${disk.id}/etc/upper`);
  prepare({ config: '[etc]\nmount = "overlay"\n' });
  // The script removes its file again; what stays is the directory, looking as the image's /etc.
  expect(existsSync(upper)).toBe(true);
  expect(statSync(upper).mode & 0o7777).toBe(0o755);
  expect(statSync(join(upper, "../work")).mode & 0o7777).toBe(0o700);
});

test("nothing is mounted on /etc and /var when the settings say none", () => {
  const result = prepare({ config: '[etc]\nmount = "none"\n[var]\nmount = "none"\n' });
  expect(result.at("etc")).toBeUndefined();
  expect(result.etc).toBe("image-default\nos-release");
  expect(result.writable).toEqual([]);
});

test.each([
  ["state", "root=ro etc=bind var=none", "machine-file", ["etc"]],
  ["overlay", "root=transient etc=transient var=none", "machine-file", ["root", "etc", "var"]],
  ["yes", "root=transient etc=transient var=none", "image-default", ["root", "etc", "var"]],
])("systemd.volatile=%s is done here: %s", (mode, text, inEtc, writable) => {
  const result = prepare({ cmdline: `systemd.volatile=${mode}` });
  expect(result.line).toContain(text);
  expect(result.etc).toContain(inEtc);
  expect(result.writable).toEqual(writable);
  expect(existsSync(join(disk.path, `state/deploy/${disk.id}/etc/new`))).toBe(false);
});

test("composefs.digest is understood, and the first deployment that exists is started", () => {
  const other = "00".repeat(64);
  const result = prepare({ cmdline: `composefs.digest=?v1-sha512-12:${other}` });
  expect(result.code).toBe(0);
  expect(result.at("")?.source).toBe(`composefs:${disk.id}`);
});

test("SHA-256 repositories work as well", () => {
  const path = join(scratch, "sha256");
  mkdirSync(path);
  const sha256 = makeComposefsDisk(path, FILES, "sha256");
  const steps = runInMountNamespace(
    `mkdir "$M"
     step prepare "$BUN" "$RUNNER" --sysroot "$DISK" --target "$M" --run "$M" --config "" --cmdline "$CMDLINE"
     step big cat "$M/usr/share/big"`,
    {
      BUN: process.execPath,
      RUNNER,
      DISK: path,
      M: join(scratch, "m256"),
      CMDLINE: `composefs=?${sha256.id}`,
    },
  );
  expect(steps.get("prepare")?.output).toContain("mounted composefs:");
  expect(steps.get("big")?.output).toBe(BIG);
});

test("an image that cannot hide the object store is refused where it would show", () => {
  const path = join(scratch, "v2");
  mkdirSync(path);
  const v2 = makeComposefsDisk(path, FILES, "sha512", 2);
  const prepare =
    '"$BUN" "$RUNNER" --sysroot "$DISK" --target "$M" --run "$M" --config "" --cmdline "$CMDLINE"';
  const steps = runInMountNamespace(
    `mkdir "$M"
     PREPARE_ROOT_KERNEL='{"layers":"plain","verity":false}' step plain ${prepare}
     step left ls -A "$M"
     PREPARE_ROOT_KERNEL='{"layers":"data-only"}' step data-only ${prepare}
     step names ls "$M"`,
    {
      BUN: process.execPath,
      RUNNER,
      DISK: path,
      M: join(scratch, "mv2"),
      CMDLINE: `composefs=?${v2.id}`,
    },
  );
  expect(steps.get("plain")?.code).toBe(1);
  expect(steps.get("plain")?.output).toMatch(
    /^refused: The kernel would show the object store in the root as "\/00" [^\n]*$/,
  );
  expect(steps.get("left")?.output).toBe("");
  expect(steps.get("data-only")?.output).toContain("mounted composefs:");
  expect(steps.get("names")?.output.split("\n")).toEqual([
    "etc",
    "run",
    "sbin",
    "sysroot",
    "usr",
    "var",
  ]);
});

test("--root-fs puts a directory in the image's place", () => {
  const root = join(scratch, "root-fs");
  for (const name of ["etc", "var", "sysroot"]) mkdirSync(join(root, name), { recursive: true });
  const steps = runInMountNamespace(
    `step prepare "$BUN" "$RUNNER" --sysroot "$DISK" --target "$M" --root-fs "$ROOT" --cmdline "$CMDLINE"
     step etc ls "$M/etc"
     step write touch "$M/new"`,
    {
      BUN: process.execPath,
      RUNNER,
      DISK: disk.path,
      M: join(scratch, "m"),
      ROOT: root,
      CMDLINE: `composefs=?${disk.id}`,
    },
  );
  expect(steps.get("prepare")?.output).toContain("erofs=none");
  expect(steps.get("etc")?.output).toBe("machine-file");
  expect(steps.get("write")?.output).toContain("Read-only file system");
});

describe("in an initramfs, with a real disk that is mounted read-only", () => {
  const SCRIPT = `
    device=$(losetup --find --show $LOOP "$SCRATCH/disk.img")
    mount -o ro,nosuid,nodev,noexec "$device" "$SCRATCH/m"
    losetup --detach "$device"
    mount --bind "$SCRATCH/etc" /etc
    mount --bind "$SCRATCH/kmsg" /dev/kmsg
    step device stat --format=%Hd:%Ld "$SCRATCH/m"
    step prepare "$BUN" "$RUNNER" --sysroot "$SCRATCH/m" --run "$SCRATCH/run" --cmdline "$CMDLINE"
    step write sh -c 'touch "$SCRATCH/m/etc/new" "$SCRATCH/m/var/new"'
    step mounts cat /proc/self/mountinfo
    step link readlink "$SCRATCH/run/systemd/volatile-root"
    step result cat "$SCRATCH/run/composefs/prepare-root"
    step trust cat "$SCRATCH/run/composefs/trust.json"
    step log cat "$SCRATCH/kmsg"
    rm -r "$SCRATCH/run/systemd" "$SCRATCH/run/composefs"`;

  beforeAll(() => {
    const image = join(scratch, "disk.img");
    execFileSync("truncate", ["--size=64M", image]);
    execFileSync("mkfs.ext4", ["-q", "-b", "4096", "-d", disk.path, image]);
    mkdirSync(join(scratch, "etc"));
    writeFileSync(join(scratch, "etc/initrd-release"), "");
  });

  function prepareEarly(loopOptions: string) {
    writeFileSync(join(scratch, "kmsg"), "");
    return runInMountNamespace(SCRIPT, {
      BUN: process.execPath,
      RUNNER,
      SCRATCH: scratch,
      LOOP: loopOptions,
      CMDLINE: `root=/dev/vda2 ro composefs=?${disk.id}`,
    });
  }

  test("/etc and /var become writable, the kernel log and systemd are told", () => {
    const steps = prepareEarly("");
    const line = steps.get("prepare")!.output;
    expect(line).toMatch(/^prepare-root: mounted composefs:.* in \d+ ms \(\d+ ms ours\), \d+ MB$/);
    expect(steps.get("write")).toEqual({ output: "", code: 0 });
    const mounts = parseMountinfo(steps.get("mounts")!.output);
    const options = new Map(mounts.map((mount) => [mount.target, mount.options]));
    expect(options.get(join(scratch, "m/etc"))).toBe("rw,nodev,relatime");
    expect(options.get(join(scratch, "m/var"))).toBe("rw,relatime");
    expect(options.get(join(scratch, "m/sysroot"))).toBe("ro,nodev,relatime");
    expect(steps.get("link")?.output).toBe(`/dev/block/${steps.get("device")?.output}`);
    expect(steps.get("result")?.output).toBe(line.replace("prepare-root: ", ""));
    expect(steps.get("log")?.output).toBe(`<6>${line}`);
    // Nobody vouched for it, and nothing was asked.
    expect(JSON.parse(steps.get("trust")!.output)).toEqual({
      mode: "unsigned",
      id: disk.id,
      key: null,
      keyName: null,
      version: null,
      expires: null,
      verity: "optional",
      floor: { value: null, source: "none" },
      warnings: [],
    });
  });

  test("a disk that cannot be written starts all the same, with a warning", () => {
    const steps = prepareEarly("--read-only");
    const [warning, line] = steps.get("prepare")!.output.split("\n");
    expect(warning).toContain("cannot be made writable, so /etc and /var are read-only: mount");
    expect(line).toContain("mounted composefs:");
    expect(steps.get("write")?.output).toContain("Read-only file system");
    expect(steps.get("log")?.output).toBe(`<4>${warning}\n<6>${line}`);
  });
});
