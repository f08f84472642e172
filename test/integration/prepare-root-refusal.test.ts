// What prepare-root refuses: exit code, one line that says what, where and what to do, and a system
// that is left as it was.

import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { createOverlay } from "../../initrd/overlay.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat } from "../../shared/sys/file.ts";
import {
  BIG,
  type ComposefsDisk,
  type ImageFiles,
  makeComposefsDisk,
  SKELETON,
} from "../support/composefs-disk.ts";
import { parseMountinfo, runInMountNamespace } from "../support/mount-namespace.ts";

const RUNNER = join(import.meta.dirname, "../support/prepare-root.ts");
const INIT = `#!/bin/sh\n# ${BIG}\n`;
const FILES: ImageFiles = { ...SKELETON, "sbin/init": INIT };

let scratch: string;
let pristine: ComposefsDisk;
let disk: ComposefsDisk;

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-refusal-"));
  pristine = makeDisk("pristine", FILES);
  for (const name of ["m", "run", "etc"]) mkdirSync(join(scratch, name));
  writeFileSync(join(scratch, "etc/initrd-release"), "");
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => {
  rmSync(join(scratch, "disk"), { recursive: true, force: true });
  rmSync(join(scratch, "conf"), { force: true });
});

function makeDisk(name: string, files: ImageFiles): ComposefsDisk {
  const path = join(scratch, name);
  mkdirSync(path);
  return makeComposefsDisk(path, files);
}

/** A copy of the good disk, for a test to damage. */
function copyDisk(): void {
  cpSync(pristine.path, join(scratch, "disk"), { recursive: true, verbatimSymlinks: true });
  disk = { ...pristine, path: join(scratch, "disk") };
}

interface Refusal {
  readonly code: number;
  readonly line: string;
}

/** Runs as in an initramfs; checks that nothing was mounted and nothing left. */
function refuse(cmdline: string, options: readonly string[] = []): Refusal {
  writeFileSync(join(scratch, "kmsg"), "");
  const steps = runInMountNamespace(
    `mount --bind "$SCRATCH/etc" /etc
     mount --bind "$SCRATCH/kmsg" /dev/kmsg
     mount --bind "$SCRATCH/disk" "$SCRATCH/m"
     step before cat /proc/self/mountinfo
     step prepare "$BUN" "$RUNNER" --sysroot "$SCRATCH/m" --run "$SCRATCH/run" \\
       --config "$SCRATCH/conf" --cmdline "$CMDLINE" ${options.join(" ")}
     step after cat /proc/self/mountinfo
     step left ls -A "$SCRATCH/run"`,
    { BUN: process.execPath, RUNNER, SCRATCH: scratch, CMDLINE: cmdline },
  );
  const { code, output } = steps.get("prepare")!;
  const targets = (name: string) => parseMountinfo(steps.get(name)!.output).map((m) => m.target);
  expect(targets("after")).toEqual(targets("before"));
  expect(steps.get("left")?.output).toBe("");
  expect(output.split("\n")).toHaveLength(1);
  // The console hears the same line, as critical.
  expect(readFileSync(join(scratch, "kmsg"), "utf8")).toBe(`<2>${output}\n`);
  return { code, line: output };
}

function expectRefusal(cmdline: string, message: string | RegExp, code = 1): void {
  const refusal = refuse(cmdline);
  expect(refusal.line).toMatch(message);
  expect(refusal.line).toMatch(/^prepare-root: refused: /);
  expect(refusal.code).toBe(code);
}

const optional = () => `composefs=?${disk.id}`;
const shortId = () => disk.id.slice(0, 12);

test("no composefs= on the command line", () => {
  copyDisk();
  expectRefusal("root=/dev/vda2 quiet", "No composefs= on the kernel command line");
});

test("a malformed composefs=", () => {
  copyDisk();
  expectRefusal("composefs=12", 'Kernel argument "composefs=12" is malformed: expected 64 or 128');
});

test("an unknown deployment", () => {
  copyDisk();
  const id = "5a".repeat(64);
  expectRefusal(`composefs=?${id}`, /No deployment 5a5a5a5a5a5a in ".*\/m\/composefs\/images"/);
});

test("a disk without a repository", () => {
  mkdirSync(join(scratch, "disk"));
  expectRefusal(`composefs=${pristine.id}`, /No composefs repository at ".*": check root=/);
});

test("a root disk that is not mounted", () => {
  copyDisk();
  const { code, line } = refuse(optional(), ["--sysroot", "/no/such"]);
  expect(line).toContain('there is no directory "/no/such"; check root=');
  expect(code).toBe(1);
});

test("a deployment without its state directory", () => {
  copyDisk();
  rmSync(join(disk.path, "state/deploy", disk.id), { recursive: true });
  const message = `Deployment ${shortId()} is incomplete: its directory "state/deploy/${shortId()}"`;
  expectRefusal(optional(), message);
});

test.each(["etc", "var"])("a state directory without %s", (name) => {
  copyDisk();
  rmSync(join(disk.path, "state/deploy", disk.id, name), { recursive: true });
  expectRefusal(optional(), `its directory "state/deploy/${shortId()}/${name}" is missing`);
});

test("a shared /var that is gone", () => {
  copyDisk();
  rmSync(join(disk.path, "state/os/default/var"), { recursive: true });
  expectRefusal(optional(), `its directory "state/deploy/${shortId()}/var" is missing`);
});

test("an image without a directory to mount /var on", () => {
  const { "var/": _, ...files } = FILES;
  disk = makeDisk("disk", files);
  expectRefusal(optional(), `The image of deployment ${shortId()} has no directory "/var"`);
});

test("an overlay of /etc without one in the image", () => {
  disk = makeDisk("disk", { ...SKELETON, "etc/os-release": "x", "sbin/init": INIT });
  const files = Object.entries(FILES).filter(([path]) => !path.startsWith("etc/"));
  rmSync(join(scratch, "disk"), { recursive: true });
  disk = makeDisk("disk", Object.fromEntries(files));
  writeFileSync(join(scratch, "conf"), '[etc]\nmount = "overlay"\n');
  expectRefusal(optional(), `The image of deployment ${shortId()} has no directory "/etc"`);
});

test("an image in which one byte was changed, also when fs-verity is optional", () => {
  copyDisk();
  const path = join(disk.path, "composefs/objects", objectPath(disk.id));
  const image = readFileSync(path);
  image[image.length - 1]! ^= 1;
  writeFileSync(path, image);
  const message = `The image of deployment ${shortId()} was changed: its fs-verity digest is `;
  expectRefusal(optional(), message);
});

test("an image that is not protected, when protection is demanded", () => {
  copyDisk();
  expectRefusal(`composefs=${disk.id}`, /no fs-verity|not protected by fs-verity/);
});

test("settings that cannot be read", () => {
  copyDisk();
  writeFileSync(join(scratch, "conf"), '[etc]\nmount = "bond"\n');
  expectRefusal(optional(), /conf": \[etc\] mount must be one of none, root, bind/);
});

test("an image without a program to start", () => {
  disk = makeDisk("disk", SKELETON);
  expectRefusal(optional(), "no program to start (/usr/lib/systemd/systemd or /sbin/init)");
});

test("init= that the image has not", () => {
  copyDisk();
  expectRefusal(`${optional()} init=/bin/other`, "no program to start (/bin/other)");
});

test("a first program whose object is gone", () => {
  copyDisk();
  unlinkSync(join(disk.path, disk.objectOf(INIT)));
  expectRefusal(optional(), '"/sbin/init", which every start needs, was changed or lost');
});

test("a first program behind links, of which absolute ones lead into the new root", () => {
  disk = makeDisk("disk", {
    ...SKELETON,
    sbin: { link: "usr/bin/../sbin" },
    "usr/bin/": "",
    "usr/sbin/init": { link: "/lib/./start" },
    lib: { link: "usr/lib" },
    "usr/lib/start": INIT,
  });
  unlinkSync(join(disk.path, disk.objectOf(INIT)));
  expectRefusal(optional(), '"/usr/lib/start", which every start needs, was changed or lost');
});

test("links that lead nowhere", () => {
  disk = makeDisk("disk", {
    ...SKELETON,
    "sbin/init": { link: "init" },
    "usr/lib/systemd": { link: "systemd/systemd" },
  });
  expectRefusal(optional(), "no program to start (/usr/lib/systemd/systemd or /sbin/init)");
});

test("a library of the first program whose object is gone", () => {
  const program = readFileSync("/bin/sh");
  const library = Buffer.from(`library ${BIG}`);
  disk = makeDisk("disk", { ...SKELETON, "sbin/init": program, "lib/libc.so.6": library });
  unlinkSync(join(disk.path, disk.objectOf(library)));
  expectRefusal(optional(), '"/lib/libc.so.6", which every start needs, was changed or lost');
});

test("wrong usage, with exit code 2", () => {
  copyDisk();
  const { code, line } = refuse(optional(), ["--sysrot=/x"]);
  expect(line).toBe('prepare-root: refused: Unknown option "--sysrot"');
  expect(code).toBe(2);
});

test("a Bun that cannot make system calls says so", () => {
  const { status, stderr } = spawnSync(process.execPath, [RUNNER, "--sysroot", "/no/such"], {
    env: { ...process.env, BUN_JSC_useJIT: "0" },
    encoding: "utf8",
  });
  expect(stderr).toMatch(/^prepare-root: refused: Cannot call the C library .*JIT/);
  expect(status).toBe(1);
});

test("nothing is refused on a disk with an ordinary system, whoever the boot loader is", () => {
  copyDisk();
  const run = (cmdline: string) =>
    runInMountNamespace(
      `step prepare "$BUN" "$RUNNER" --sysroot "$DISK" --run "$DISK" --config "" --cmdline "$CMDLINE"`,
      { BUN: process.execPath, RUNNER, DISK: disk.path, CMDLINE: cmdline },
    ).get("prepare")!;
  mkdirSync(join(disk.path, "usr/lib"), { recursive: true });
  writeFileSync(join(disk.path, "usr/lib/os-release"), "ID=debian\n");
  expect(run("root=/dev/vda2 androidboot.slot_suffix=_a")).toMatchObject({ code: 0 });
  const ordinary = run("root=/dev/vda2");
  expect(ordinary.code).toBe(0);
  expect(ordinary.output).toContain("nothing to do: no composefs=, and the root disk holds an");
});

test("files are never left unchecked because the kernel cannot check them", () => {
  using root = openat(null, scratch, O.RDONLY | O.DIRECTORY);
  const kernel = { detachedTrees: true, layers: "append", verity: false, erofs: "file" } as const;
  const layers = { source: "composefs:1", lower: root, data: root, verity: true };
  expect(() => createOverlay(layers, kernel, 0)).toThrow("verity=require needs Linux 6.6");
});
