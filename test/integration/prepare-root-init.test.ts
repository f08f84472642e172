// PID-1 mode: an initramfs in memory, a process namespace in which prepare-root is init, a real disk.
// The namespace is also the safety net: a restart there ends its processes and nothing else.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseBootParameters } from "../../initrd/boot-parameters.ts";
import { mountPhysicalRoot } from "../../initrd/physical-root.ts";
import { bundle } from "../../scripts/build/bundle.ts";
import {
  type ComposefsDisk,
  type ImageFiles,
  makeComposefsDisk,
  SKELETON,
  takeFromHost,
} from "../support/composefs-disk.ts";
import { runInMountNamespace, type Step } from "../support/mount-namespace.ts";

/** The real root's first program says what it found. */
const INIT = `#!/bin/sh
echo "init pid=$$ args=$*"
read -r machine </etc/machine-file && echo "etc: $machine"
read -r kept </var/kept && echo "var: $kept"
read -r reached </sysroot/state/bootc/boot-reached && echo "reached: $reached"
echo written >/var/written && echo "var is writable"
(echo x >/usr/x) 2>/dev/null || echo "usr is read-only"
while read -r line; do case $line in SigIgn*) echo "$line";; esac; done </proc/self/status
while read -r a b c d target rest; do echo "mount $target"; done </proc/self/mountinfo
`;

let scratch: string;
let disk: ComposefsDisk;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "prepare-root-init-"));
  disk = makeDisk({ ...SKELETON, ...hostShell(), "sbin/init": INIT, "proc/": "", "dev/": "" });
  await makeInitramfs();
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A shell of this machine and the libraries that it is linked with. */
function hostShell(): ImageFiles {
  const libraries = librariesOf("/bin/sh");
  return { ...takeFromHost(libraries), "bin/sh": takeFromHost(["/bin/sh"])["bin/sh"]! };
}

function librariesOf(program: string): string[] {
  const text = execFileSync("ldd", [program], { encoding: "utf8" });
  return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => path!);
}

function makeDisk(files: ImageFiles): ComposefsDisk {
  const path = join(scratch, "disk");
  mkdirSync(path);
  const made = makeComposefsDisk(path, files);
  mkdirSync(join(path, "state/bootc"));
  writeFileSync(join(path, "state/bootc/boot-trial.json"), "{}\n");
  const image = join(scratch, "disk.img");
  execFileSync("truncate", ["--size=64M", image]);
  execFileSync("mkfs.ext4", ["-q", "-b", "4096", "-d", path, image]);
  return made;
}

/** Bun, its libraries, the bundle as it ships, and a program that starts it as prepare-root. */
async function makeInitramfs(): Promise<void> {
  const root = join(scratch, "initramfs");
  const copy = (from: string) => {
    mkdirSync(join(root, dirname(from)), { recursive: true });
    copyFileSync(from, join(root, from));
  };
  for (const library of librariesOf(process.execPath)) copy(library);
  for (const name of ["proc", "sys", "dev", "run", "bin"]) mkdirSync(join(root, name));
  copyFileSync(process.execPath, join(root, "bin/bun"));
  chmodSync(join(root, "bin/bun"), 0o755);
  // Stands in for the shell that a person would get.
  writeFileSync(join(root, "bin/sh"), '#!/bin/bun\nconsole.log("this is the shell");\n');
  chmodSync(join(root, "bin/sh"), 0o755);
  writeFileSync(join(root, "initrd.js"), (await bundle("initrd")).code);
  const start = 'import { runPrepareRoot } from "/initrd.js"; process.exitCode = runPrepareRoot';
  writeFileSync(join(root, "start.js"), `${start}(process.argv.slice(2));\n`);
}

/** The initramfs in memory, on a loop device the disk, and the command line of the test's own. */
const SCRIPT = `
device=$(losetup --find --show "$SCRATCH/disk.img")
trap 'losetup --detach "$device"' EXIT
mkdir -p "$SCRATCH/m"
mount -t tmpfs none "$SCRATCH/m"
cp -a "$SCRATCH/initramfs/." "$SCRATCH/m"
cd "$SCRATCH/m"
printf '%s\\n' "$CMDLINE" | sed "s|@DISK@|$device|" >cmdline
: >"$SCRATCH/kmsg"
mount -t devtmpfs none dev
mount --bind "$SCRATCH/kmsg" dev/kmsg
step boot unshare --pid --fork sh -c '
  mount -t proc none proc && mount --bind cmdline proc/cmdline &&
  exec chroot . /bin/bun /start.js single'
step log cat "$SCRATCH/kmsg"
cd /
umount --lazy "$SCRATCH/m"
step initramfs ls -A "$SCRATCH/m"
`;

function boot(cmdline: string): ReadonlyMap<string, Step> {
  return runInMountNamespace(SCRIPT, { SCRATCH: scratch, CMDLINE: cmdline });
}

test("the image's init runs as PID 1 on the new root, and the initramfs is emptied", () => {
  const steps = boot(`quiet root=@DISK@ composefs=?${disk.id}`);
  const { output } = steps.get("boot")!;
  expect(steps.get("log")?.output).toMatch(
    /^<6>prepare-root: mounted composefs:.* verity=off root=ro etc=bind var=bind erofs=\w+ .* in \d+ ms/,
  );
  expect(output).toContain("init pid=1 args=single");
  expect(output).toContain("etc: from the state");
  expect(output).toContain("var: from /var");
  expect(output).toMatch(new RegExp(`^reached: ${disk.id} \\d+$`, "m"));
  expect(output).toContain("var is writable");
  expect(output).toContain("usr is read-only");
  // What is left is where the physical root is mounted, below the new one.
  expect(steps.get("initramfs")?.output).toBe("sysroot");
  // Bun ignores SIGPIPE; a whole system must not inherit that.
  expect(output).toContain("SigIgn:\t0000000000000000");
  const mounts = [...output.matchAll(/^mount (\S+)$/gm)].map(([, target]) => target!);
  expect(new Set(mounts)).toEqual(
    new Set([
      "/",
      "/sysroot",
      "/etc",
      "/var",
      "/proc",
      "/proc/cmdline",
      "/dev",
      "/dev/kmsg",
      "/run",
    ]),
  );
});

test("a refusal restarts the machine after a while", () => {
  const steps = boot("quiet root=@DISK@");
  const [refusal, restart, rest] = steps.get("log")!.output.split("\n");
  expect(refusal).toMatch(/^<2>prepare-root: refused: No composefs= on the kernel command line/);
  expect(restart).toBe("<2>prepare-root: restarting in 5 seconds");
  expect(rest).toBeUndefined();
  // SIGHUP is what reboot(2) means inside a process namespace.
  expect(steps.get("boot")?.code).toBe(128 + 1);
});

test("rd.shell gives the initramfs's shell instead", () => {
  const steps = boot("rd.shell root=/dev/no-disk");
  expect(steps.get("log")?.output).toContain("refused: There is no disk");
  expect(steps.get("boot")?.output).toContain("this is the shell");
});

test.each([
  ["no root=", "quiet", "No root= on the kernel command line"],
  ["a name it cannot look up", "root=UUID=1", 'Cannot find "root=UUID=1" without systemd'],
  ["a disk that is not there", "root=/dev/no-disk", 'There is no disk "/dev/no-disk"'],
  ["another kind of device", "root=/dev/zero", 'There is no disk "/dev/zero"'],
])("mountPhysicalRoot refuses %s", (_, cmdline, message) => {
  const parameters = parseBootParameters(cmdline);
  expect(() => mountPhysicalRoot(parameters, scratch)).toThrow(message);
});

test("mountPhysicalRoot refuses a disk without a file system", () => {
  const image = join(scratch, "empty.img");
  execFileSync("truncate", ["--size=1M", image]);
  const argv = ["--find", "--show", image];
  const device = execFileSync("losetup", argv, { encoding: "utf8" }).trim();
  try {
    const parameters = parseBootParameters(`root=${device} rootfstype=ext4,xfs`);
    expect(() => mountPhysicalRoot(parameters, scratch)).toThrow(
      `No file system on "${device}" that could be mounted (tried ext4, xfs)`,
    );
  } finally {
    execFileSync("losetup", ["--detach", device]);
  }
});
