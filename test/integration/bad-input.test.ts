// What the built program says to bad input: one line that names what, where and what to do, the exit
// code, and a disk that is as it was. Single parts have their own tests (pull-refusal, deploy,
// prepare-root-refusal, updater/cli/program); here dist/bootc is run from its command line.

import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildExecutable } from "../../scripts/build.ts";
import { makeComposefsDisk, SKELETON } from "../support/composefs-disk.ts";
import {
  type BuiltImage,
  blobFile,
  type TestImage,
  type TestLayer,
  writeIndex,
  writeLayout,
} from "../support/oci-builder.ts";
import {
  type BootedHost,
  type InstallHost,
  type ProgramOutcome,
  runInstall,
  runOnHost,
} from "../support/program-host.ts";
import { dir, file, makeOs, makeTar } from "../support/small-os.ts";
import { TAR_END, tarMember } from "../support/tar-builder.ts";

let scratch: string;
let os: TestImage;
beforeAll(async () => {
  await buildExecutable();
  scratch = mkdtempSync(join(tmpdir(), "bad-input-"));
  os = await makeOs();
  writeLayout(join(scratch, "good"), [os]);
}, 120_000);
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function expectRefused(outcome: ProgramOutcome, message: string | RegExp, code = 1): void {
  const errors = outcome.output.split("\n").filter((line) => line.startsWith("error: "));
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatch(message);
  expect(outcome.output.endsWith(errors[0]!)).toBe(true);
  expect(outcome.code).toBe(code);
  expect(outcome.after).toBe(outcome.before);
}

const OPTIONS = "--allow-missing-verity --bootloader none --root-mount-spec UUID=1 --skip-finalize";

/** ARGS beside the target and the usual options. */
function install(args: string, host: InstallHost = {}): ProgramOutcome {
  return runInstall(scratch, `"$TARGET" ${OPTIONS} ${args}`, host);
}

function writeImage(name: string, layers: readonly TestLayer[]): BuiltImage {
  rmSync(join(scratch, name), { recursive: true, force: true });
  return writeLayout(join(scratch, name), [{ layers }])[0]!;
}

test("the image these tests damage can be installed", () => {
  const { code, output } = install("--source-imgref oci:good");
  expect(output).toMatch(/\nInstallation complete!$/);
  expect(code).toBe(0);
});

test("bootc/install/*.toml: its arguments count before the options', which may delete them", () => {
  const text = '[install]\\nkargs = ["console=ttyS0 nosmt"]\\nroot-mount-spec = "LABEL=x"\\n';
  const prepare = `mkdir -p /run/bootc/install; printf '${text}' >/run/bootc/install/50.toml`;
  const args = "--source-imgref oci:good --karg own --karg-delete console --dry-run";
  const { code, output } = install(args, { prepare });
  expect(output).toContain('"kargs":"root=UUID=1 rw nosmt own');
  expect(code).toBe(0);
  const wrong = prepare.replace("nosmt", "composefs=0");
  expectRefused(install(args, { prepare: wrong }), /bootc\/install\/\*\.toml: kargs/, 2);
});

test("what would be installed: a relative path is kept as an absolute one", () => {
  const { output } = install("--source-imgref oci:good --karg a=b --disable-selinux --dry-run");
  expect(JSON.parse(output)).toMatchObject({
    image: `ostree-unverified-image:oci:${join(scratch, "good")}`,
    kargs: "root=UUID=1 rw a=b selinux=0",
  });
});

describe("no such image", () => {
  test.each([
    ["no directory", "oci:nothing", 1, 'There is no directory ".*/nothing"; check the path'],
    ["a file", "oci:good/index.json", 1, "a file in its place needs another transport"],
    ["another directory", "oci:target", 1, 'is not an OCI image directory: .* "oci-layout"'],
    ["no such tag", "oci:good:v9", 1, 'has no tag "v9"; its tags are "v1"'],
    ["unknown transport", "pigeon:good", 2, 'Unknown transport "pigeon"; known are registry, oci'],
    ["no archive", "oci-archive:nothing.tar", 1, 'There is no archive ".*/nothing.tar"; check'],
    [
      "no Docker archive",
      "docker-archive:nothing.tar:os",
      1,
      'There is no archive ".*/nothing.tar"',
    ],
    ["no directory of skopeo", "dir:good", 1, 'it has no file "manifest.json"'],
    ["no storage", "'containers-storage:[/nothing]os'", 1, "There is no containers-storage with"],
    ["no tag for Docker", "docker-daemon:os", 2, "neither a tag nor a digest"],
  ])("%s", (_, reference, code, message) => {
    expectRefused(install(`--source-imgref ${reference}`), new RegExp(message), code);
  });

  test("several images and no tag", () => {
    const images = ["v1", "v2"].map((tag) => ({ ...os, tag }));
    writeLayout(join(scratch, "two"), images);
    const outcome = install("--source-imgref oci:two");
    expectRefused(outcome, /has 2 images; choose one with ":tag" .*"v1", "v2"/);
  });

  test("only for other machines", () => {
    writeLayout(join(scratch, "foreign"), [{ ...os, architecture: "s390x" }]);
    expectRefused(install("--source-imgref oci:foreign"), /is for linux\/s390x, not for linux\//);
  });
});

describe("a damaged image", () => {
  /** Changes a byte in the middle. */
  function corrupt(path: string): void {
    const bytes = readFileSync(path);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(path, bytes);
  }
  const damages: readonly [
    string,
    (image: BuiltImage, blob: (d: string) => string) => void,
    RegExp,
  ][] = [
    [
      "wrong digest of the manifest",
      ({ manifest }, blob) => corrupt(blob(manifest.digest)),
      /Manifest sha256:\w+ of "oci:.*damaged" is corrupt: its bytes have digest sha256:.*; copy or fetch the image again/,
    ],
    [
      "wrong digest of the config",
      ({ config }, blob) => corrupt(blob(config.digest)),
      /Config sha256:\w+ of "oci:.*damaged" is corrupt/,
    ],
    [
      "corrupt layer",
      ({ layers }, blob) => corrupt(blob(layers[2]!.digest)),
      /Layer sha256:\w+ of "oci:.*damaged" is corrupt/,
    ],
    [
      "truncated layer",
      ({ layers }, blob) => truncateSync(blob(layers[1]!.digest), layers[1]!.size - 10),
      /sha256:\w+ of "oci:.*damaged" has \d+ bytes instead of \d+; copy the image again/,
    ],
    [
      "missing layer",
      ({ layers }, blob) => unlinkSync(blob(layers[1]!.digest)),
      /sha256:\w+ of "oci:.*damaged" is missing from the directory; copy the image again/,
    ],
    [
      "index without images",
      () => writeIndex(join(scratch, "damaged"), []),
      /OCI directory ".*damaged" has no images/,
    ],
  ];
  test.each(damages)("%s", (_, damage, message) => {
    const directory = join(scratch, "damaged");
    damage(writeImage("damaged", os.layers), (digest) => blobFile(directory, digest));
    expectRefused(install("--source-imgref oci:damaged"), message);
  });
});

describe("an image that cannot be unpacked or booted", () => {
  const usr = tarMember({ name: "usr/", type: "5" });
  const evil = (name: string) => tarMember({ name, content: "x" });
  test.each([
    ["path escape", [usr, evil("../evil")], /Layer .* near "..\/evil": path .* contains ".."/],
    ["absolute path escape", [usr, evil("/../evil")], /contains ".."/],
    [
      "escape through a symlink",
      [usr, tarMember({ name: "out", type: "2", linkName: "/tmp" }), evil("out/evil")],
      /parent directory "\/out" is a symlink/,
    ],
    [
      "escape through a hard link",
      [usr, tarMember({ name: "link", type: "1", linkName: "../../etc/shadow" })],
      /contains ".."/,
    ],
    ["truncated archive", [usr, tarMember({ name: "f", sizeBytes: 9999 })], /ends in the middle/],
  ])("%s", (_, members, message) => {
    const tar = Buffer.concat([
      ...members,
      ...(message.source.includes("middle") ? [] : [TAR_END]),
    ]);
    writeImage("unpackable", [...os.layers, { tar }]);
    expectRefused(install("--source-imgref oci:unpackable"), message);
  });

  const kernel = ["usr", "usr/lib", "usr/lib/modules", "usr/lib/modules/6"].map(dir);
  const files = [file("usr/lib/modules/6/vmlinuz"), file("usr/lib/modules/6/initramfs.img")];
  const tops = ["boot", "etc", "sysroot"].map(dir);
  test.each([
    [
      "no kernel",
      [dir("usr"), ...tops],
      'Image has no kernel: .*"/usr/lib/modules/VERSION/vmlinuz"',
    ],
    ["no initramfs", [...kernel, files[0]!, ...tops], "run dracut when building it"],
    [
      "no /boot",
      [...kernel, ...files, ...tops.slice(1)],
      'no directory "/boot".*add it when building',
    ],
    [
      "no /etc",
      [...kernel, ...files, tops[0]!, tops[2]!],
      'no directory "/etc".*add it when building',
    ],
  ])("%s", async (_, entries, message) => {
    writeImage("unbootable", [{ tar: await makeTar(entries) }]);
    expectRefused(install("--source-imgref oci:unbootable"), new RegExp(message));
  });
});

describe("a full disk", () => {
  const BIG = 1_000_000;
  beforeAll(async () => {
    // Compresses to nothing, so that it passes the look at the free space that comes first.
    const tar = await makeTar([
      dir("var"),
      file("zeros", Buffer.alloc(4 * BIG)),
      file("etc/big", Buffer.alloc(BIG, "e")),
      file("var/big", Buffer.alloc(BIG, "v")),
    ]);
    writeImage("large", [...os.layers, { tar }]);
  });

  test.each([1, 5, 8, 9, 10])("of %i MiB", (size) => {
    const outcome = install("--source-imgref oci:large", { disk: `size=${size}m` });
    expectRefused(
      outcome,
      /No space left for the [^"]*"[^"]*target[^"]*"; free some space and try again: /,
    );
  });

  test("is noticed before anything is written", async () => {
    const noise = crypto.getRandomValues(Buffer.alloc(60_000));
    const tar = await makeTar(
      Array.from({ length: 50 }, (_, i) =>
        file(`noise${i}`, Buffer.concat([noise, Buffer.from([i])])),
      ),
    );
    writeImage("noisy", [...os.layers, { tar, compression: "none" }]);
    const outcome = install("--source-imgref oci:noisy", { disk: "size=2m" });
    expectRefused(outcome, /Insufficient free space for "oci:.*noisy" in ".*target" \(available: /);
  });

  test("a full boot partition", () => {
    const outcome = install("--source-imgref oci:good", { bootPartition: "size=1m" });
    expectRefused(
      outcome,
      /Insufficient free space for the kernel and initramfs in ".*target\/boot"/,
    );
  });

  test("the same image fits on a larger one", () => {
    expect(install("--source-imgref oci:large")).toMatchObject({ code: 0 });
  });
});

describe("an unsuitable target", () => {
  const NOBODY = "setpriv --reuid 65534 --clear-groups";
  const cases: readonly [string, RegExp, string, InstallHost?][] = [
    ["not root", /must be run as the root user/, '"$TARGET"', { wrapper: NOBODY }],
    [
      "root without privileges",
      /private mount namespace; run this as root with all privileges \(CAP_SYS_ADMIN\)/,
      '"$TARGET"',
      { wrapper: "setpriv --bounding-set -sys_admin" },
    ],
    ["no such directory", /there is no such directory; make it and mount/, '"$SCRATCH/none"'],
    ["no directory", /it is not a mount point; mount the new file/, '"$SCRATCH/good/index.json"'],
    ["no mount point", /it is not a mount point; mount the new file system/, '"$SCRATCH/good"'],
    [
      "read-only",
      /it is mounted read-only; make it writable/,
      '"$TARGET"',
      { prepare: 'mount -o remount,ro "$TARGET"' },
    ],
    [
      "not empty",
      /Non-empty root file system ".*target": found "home"; make a new file system/,
      '"$TARGET"',
      { prepare: 'mkdir -p "$TARGET/home/me"' },
    ],
    [
      "no boot partition",
      /EFI system partition of ".*target"; mount one at/,
      '"$TARGET"',
      { honest: true },
    ],
    [
      "a second run while one is working",
      /Another bootc is running: it holds the lock "\/run\/bootc\/lock"; wait until/,
      '"$TARGET"',
      { wrapper: "flock /run/bootc/lock", prepare: "mkdir -p /run/bootc" },
    ],
  ];
  test.each(cases)("%s", (_, message, target, host) => {
    const args = `${target} ${OPTIONS} --source-imgref oci:good`;
    expectRefused(runInstall(scratch, args, host), message);
  });

  test("no UUID", () => {
    const args = '"$TARGET" --allow-missing-verity --bootloader none --source-imgref oci:good';
    expectRefused(runInstall(scratch, args), /has no UUID; say how .*--root-mount-spec/);
  });

  test("ext4 without fs-verity", () => {
    const disk = join(scratch, "plain.ext4");
    writeFileSync(disk, "");
    truncateSync(disk, 16 << 20);
    execFileSync("mkfs.ext4", ["-q", "-b", "4096", disk]);
    const prepare = 'umount "$TARGET/boot" "$TARGET"; mount -o loop plain.ext4 "$TARGET"';
    const args = '"$TARGET" --bootloader none --source-imgref oci:good';
    const outcome = runInstall(scratch, args, { prepare, honest: true });
    expectRefused(
      outcome,
      /\(ext4\) cannot protect .* "mkfs.ext4 -O verity -b 4096", or use --allow/,
    );
  });

  test("a kernel argument that would swallow the next ones", () => {
    const outcome = install(`--source-imgref oci:good --karg 'a="b'`);
    expectRefused(outcome, /--karg .* cannot be written as a kernel argument: close its quotes/, 2);
  });
});

describe("a booted system", () => {
  let id: string;
  let booted: BootedHost;
  const MOUNT = 'mount --bind "$SCRATCH/disk" /sysroot';
  beforeAll(() => {
    mkdirSync(join(scratch, "disk"));
    ({ id } = makeComposefsDisk(join(scratch, "disk"), SKELETON));
    booted = { root: `composefs:${id}`, cmdline: `quiet composefs=?${id}`, prepare: MOUNT };
  });

  const verbs = ["upgrade", "rollback", "switch --transport oci /x", "composefs-finalize-staged"];
  test.each(verbs)("no composefs= on the kernel command line: %s", (verb) => {
    const outcome = runOnHost(scratch, verb, { root: "overlay", cmdline: "root=/dev/vda1" });
    expectRefused(
      outcome,
      /System not booted via bootc: .* no "composefs="; put an image on a disk/,
    );
  });

  test("status needs no such system", () => {
    const outcome = runOnHost(scratch, "status", { root: "overlay", cmdline: "root=/dev/vda1" });
    expect(outcome).toMatchObject({ code: 0, output: expect.stringContaining("booted: null") });
  });

  test.each(["upgrade", "status"])("a malformed composefs=: %s", (verb) => {
    const outcome = runOnHost(scratch, verb, { root: "overlay", cmdline: "composefs=12" });
    expectRefused(outcome, /Kernel argument "composefs=12" is malformed: expected 64 or 128 hex/);
  });

  test("another root than composefs=", () => {
    const outcome = runOnHost(scratch, "upgrade", { ...booted, root: "overlay" });
    expectRefused(outcome, /The root is not mounted using composefs \(source: overlay\)/);
  });

  test.each([
    ["upgrade", /must be run as the root user/],
    ["status", /Only root can read boot entries.* use "sudo bootc status"/],
  ])("not root: %s", (verb, message) => {
    const wrapper = "setpriv --reuid 65534 --clear-groups";
    expectRefused(runOnHost(scratch, verb, { ...booted, wrapper }), message);
  });

  test("in a container", () => {
    const outcome = runOnHost(scratch, "upgrade", { ...booted, wrapper: "env container=podman" });
    expectRefused(outcome, /Detected container; this command requires a booted host system/);
  });

  test.each(["upgrade", "rollback", "internals composefs-gc"])(
    "a second run while one is working: %s",
    (verb) => {
      const prepare = `${MOUNT}; mkdir /run/bootc`;
      const wrapper = "flock /run/bootc/lock";
      const outcome = runOnHost(scratch, verb, { ...booted, prepare, wrapper });
      expectRefused(outcome, /Another bootc is running: it holds the lock .*; wait until/);
    },
  );

  test("status does not wait for another run", () => {
    const prepare = `${MOUNT}; mkdir /run/bootc`;
    const host = { ...booted, prepare, wrapper: "flock /run/bootc/lock" };
    expect(runOnHost(scratch, "status", host)).toMatchObject({ code: 0 });
  });

  test("the disk is not mounted", () => {
    const outcome = runOnHost(scratch, "upgrade", { ...booted, prepare: "" });
    expectRefused(outcome, /"\/sysroot" is not a mount point/);
  });

  test("a disk that cannot be written", () => {
    const disk = join(scratch, "read-only.ext4");
    writeFileSync(disk, "");
    truncateSync(disk, 8 << 20);
    execFileSync("mkfs.ext4", ["-q", disk]);
    const prepare = "mount -o loop,ro read-only.ext4 /sysroot";
    const outcome = runOnHost(scratch, "upgrade", { ...booted, prepare });
    expectRefused(
      outcome,
      /Cannot perform this operation: \/sysroot is on a read-only block device/,
    );
  });

  test("no boot partition", () => {
    expectRefused(runOnHost(scratch, "rollback", booted), /EFI system partition/);
    const status = runOnHost(scratch, "status --format humanreadable", booted);
    expect(status.output).toMatch(/^Problem: Boot entries are unknown: .*EFI system partition/m);
    expect(status.code).toBe(0);
  });

  test.each([
    ["none", "rm -r /sysroot/*", 'No composefs repository at "/sysroot/composefs"'],
    [
      "damaged",
      "echo nonsense >/sysroot/composefs/meta.json",
      'The repository "/sysroot/composefs" cannot be opened: meta.json is not JSON',
    ],
    [
      "of a newer program",
      `echo '{"version": 9}' >/sysroot/composefs/meta.json`,
      "made by a newer program \\(version 9\\); update bootc to use it",
    ],
  ])("repository: %s", (_, damage, message) => {
    const prepare = `mount -t tmpfs disk /sysroot; cp -a "$SCRATCH/disk/." /sysroot; ${damage}`;
    expectRefused(runOnHost(scratch, "status", { ...booted, prepare }), new RegExp(message));
  });
});

describe("prepare-root", () => {
  const prepareRoot = (args: string) => `internals prepare-root --sysroot /sysroot ${args}`;
  const host = { root: "overlay", cmdline: "quiet", prepare: "mount -t tmpfs disk /sysroot" };
  const none = "5a".repeat(64);

  // Damaged deployments: prepare-root-refusal.test.ts.
  test.each<[string, string, string, number?]>([
    ["no composefs= on the kernel command line", "", 'add "composefs=<id>"'],
    ["unknown digest", `--cmdline composefs=${none}`, "No composefs repository .* check root="],
    ["not root", `--cmdline composefs=${none}`, "Mounting the root needs the root user"],
    ["unknown option", "--sysrot /x", 'Unknown option "--sysrot"', 2],
    ["missing value", "--cmdline", 'Option "--cmdline" needs a value', 2],
  ])("%s", (what, args, message, code = 1) => {
    const wrapper = what === "not root" ? "setpriv --reuid 65534 --clear-groups" : "";
    const outcome = runOnHost(scratch, prepareRoot(args), { ...host, wrapper });
    expect(outcome.output).toMatch(new RegExp(`^prepare-root: refused: [^\n]*${message}[^\n]*$`));
    expect(outcome.code).toBe(code);
    expect(outcome.after).toBe(outcome.before);
  });
});
