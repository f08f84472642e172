// ostree deployments without systemd: prepare-root as PID 1 of an initramfs, and as PID 1 of a system
// that has none. A process namespace each, a real disk that `ostree admin deploy` has made.

import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { runInMountNamespace, type Step } from "../support/mount-namespace.ts";
import { ADD_SHELL, makeOstreeDisk, type OstreeDisk } from "../support/ostree-sysroot.ts";

/** The deployment's first program says what it found. */
const INIT = `#!/bin/sh
echo "init pid=$$ args=$*"
read -r hosts </etc/hosts && echo "etc: $hosts"
(echo x >/etc/x) 2>/dev/null && echo "etc is writable"
(echo x >/var/x) 2>/dev/null && echo "var is writable"
(echo x >/usr/x) 2>/dev/null || echo "usr is read-only"
(echo x >/sysroot/x) 2>/dev/null || echo "sysroot is read-only"
[ -e /sysroot/ostree/deploy/labos/var/x ] && echo "var is the stateroot's"
[ -e /run/ostree-booted ] && echo "booted"
[ -e /run/ostree-sysroot-ro.stamp ] && echo "stamp"
[ -d /boot/loader/entries ] && echo "boot has entries"
[ -e /sysroot/sysroot.tmp ] || echo "nothing is left"
while read -r a b c d target options rest; do echo "mount $target"; done </proc/self/mountinfo
`;

let scratch: string;
let disk: OstreeDisk;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "ostree-init-"));
  writeFileSync(join(scratch, "init"), INIT);
  const init = INIT.replaceAll("'", "'\\''");
  const extra = `${ADD_SHELL}\nprintf '%s' '${init}' >tree/usr/sbin/init; chmod 755 tree/usr/sbin/init`;
  disk = await makeOstreeDisk(scratch, extra);
  makeInitramfs();
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** Bun, its libraries and the bundle as it ships. */
function makeInitramfs(): void {
  const root = join(scratch, "initramfs");
  const libraries = execFileSync("ldd", [process.execPath], { encoding: "utf8" });
  const files = [...libraries.matchAll(/(\/\S+) \(0x/g)].map(([, path]) => [path!, path!]);
  files.push([process.execPath, "/bin/bun"]);
  for (const name of ["initrd", "runPrepareRoot", "runOstreePrepareRoot"]) {
    files.push([join(scratch, `programs/${name}.js`), `/${name}.js`]);
  }
  for (const [from, to] of files) {
    mkdirSync(join(root, dirname(to!)), { recursive: true });
    copyFileSync(from!, join(root, to!));
  }
  chmodSync(join(root, "bin/bun"), 0o755);
  for (const name of ["proc", "dev", "etc/ostree"])
    mkdirSync(join(root, name), { recursive: true });
}

const SETUP = `
cp "$SCRATCH/pristine.img" "$SCRATCH/disk.img"
device=$(losetup --find --show "$SCRATCH/disk.img")
trap 'losetup --detach "$device"' EXIT
mkdir -p "$SCRATCH/m"
: >"$SCRATCH/kmsg"
printf '%s\\n' "$CMDLINE" | sed "s|@DISK@|$device|" >"$SCRATCH/cmdline"
mount "$device" "$SCRATCH/m"
cd "$SCRATCH/m"
eval "$CHANGE"
cd /
`;

const BOOT = `
mount -t devtmpfs none dev
mount --bind "$SCRATCH/kmsg" dev/kmsg
step boot unshare --pid --fork sh -c '
  mount -t proc none proc && mount --bind "$SCRATCH/cmdline" proc/cmdline &&
  exec chroot . /bin/bun /$PROGRAM.js single'
step log cat "$SCRATCH/kmsg"
cd /
umount --lazy "$SCRATCH/m"
`;

const INITRAMFS = `${SETUP}
umount "$SCRATCH/m"
mount -t tmpfs none "$SCRATCH/m"
cp -a "$SCRATCH/initramfs/." "$SCRATCH/m"
cd "$SCRATCH/m"
printf '%s' "$CONFIG" >etc/ostree/prepare-root.conf
${BOOT}`;

/** What Bun needs to start is mounted where the root disk would have it. */
const NO_INITRAMFS = `${SETUP}
cd "$SCRATCH/m"
for path in "$SCRATCH/initramfs/"*; do
  name=$(basename "$path")
  [ ! -d "$path" ] || mkdir -p "$name"
  [ -d "$path" ] || : >"$name"
  case $name in etc|proc|dev) ;; *) mount --bind "$path" "$name" ;; esac
done
${BOOT}`;

interface Start {
  readonly config?: string;
  readonly extra?: string;
  readonly change?: string;
}

function boot(script: string, program: string, start: Start): ReadonlyMap<string, Step> {
  return runInMountNamespace(script, {
    SCRATCH: scratch,
    PROGRAM: program,
    CMDLINE: `root=@DISK@ ${disk.karg} ${start.extra ?? ""}`,
    CONFIG: start.config ?? "",
    CHANGE: start.change ?? "",
  });
}

const mountsIn = (output: string) =>
  [...output.matchAll(/^mount (\S+)$/gm)].map(([, target]) => target!);
const API = ["/proc", "/proc/cmdline", "/dev", "/dev/kmsg", "/run"];

describe("in an initramfs", () => {
  test("composefs: the deployment's init runs as PID 1, and /var is mounted for it", () => {
    const steps = boot(INITRAMFS, "runPrepareRoot", { config: "[composefs]\nenabled=yes\n" });
    const { output } = steps.get("boot")!;
    expect(steps.get("log")?.output).toMatch(
      /^<6>prepare-root: mounted ostree:\w+ composefs=yes verity=off root=ro etc=bind usr=ro var=bind sysroot=ro in/,
    );
    expect(output).toContain(
      "init pid=1 args=single\netc: 127.0.0.1\netc is writable\nvar is writable",
    );
    expect(output).toContain(
      "usr is read-only\nsysroot is read-only\nvar is the stateroot's\nbooted\nnothing is left",
    );
    const expected = [
      "/",
      "/etc",
      "/var",
      "/sysroot",
      "/sysroot/ostree/deploy/labos/var",
      "/sys",
      ...API,
    ];
    expect(mountsIn(output).sort()).toEqual(expected.sort());
  });

  test("a bound root; what systemd's generator will mount is left to it", () => {
    const generator = "usr/lib/systemd/system-generators";
    const change = `D=$(echo ostree/deploy/labos/deploy/*.0); chattr -i "$D"; mkdir -p "$D/${generator}"; : >"$D/${generator}/ostree-system-generator"`;
    const { output } = boot(INITRAMFS, "runPrepareRoot", { change }).get("boot")!;
    expect(output).toContain("init pid=1 args=single");
    expect(mountsIn(output).sort()).toEqual(["/", "/usr", "/sysroot", "/sys", ...API].sort());
  });

  test("a first program that is not there is refused", () => {
    const config = "[composefs]\nenabled=yes\n";
    const steps = boot(INITRAMFS, "runPrepareRoot", { config, extra: "init=/bin/other" });
    expect(steps.get("log")?.output).toContain(
      "refused: The image has no program to start (/bin/other)",
    );
  });
});

describe("without an initramfs", () => {
  test("the deployment becomes /, the disk /sysroot, /boot and /var are mounted", () => {
    const steps = boot(NO_INITRAMFS, "runOstreePrepareRoot", {});
    const { output } = steps.get("boot")!;
    expect(steps.get("log")?.output).toMatch(/^<6>prepare-root: mounted ostree:.* without an init/);
    expect(output).toContain(
      "init pid=1 args=single\netc: 127.0.0.1\netc is writable\nvar is writable",
    );
    expect(output).toContain(
      "usr is read-only\nvar is the stateroot's\nbooted\nboot has entries\nnothing is left",
    );
    const found = mountsIn(output).filter((target) => !target.startsWith("/sysroot/"));
    expect(found.sort()).toEqual(["/", "/boot", "/usr", "/var", "/sysroot", ...API].sort());
  });

  test("readonly=true of the repository's config", () => {
    const change = "printf '[sysroot]\\nreadonly=true\\n' >>ostree/repo/config; rm boot/loader";
    const { output } = boot(NO_INITRAMFS, "runOstreePrepareRoot", { change }).get("boot")!;
    expect(output).toContain("var is the stateroot's\nbooted\nstamp\nnothing is left");
    const found = mountsIn(output).filter((target) => !/^\/sysroot\/[^o]/.test(target));
    const own = "/sysroot/ostree/deploy/labos/var";
    expect(found.sort()).toEqual(["/", "/etc", "/usr", "/var", "/sysroot", own, ...API].sort());
  });

  test("an unknown deployment restarts the machine after a while", () => {
    const steps = boot(NO_INITRAMFS, "runOstreePrepareRoot", { change: "rm ostree/boot.1" });
    const [refusal, restart] = steps.get("log")!.output.split("\n");
    expect(refusal).toMatch(/^<2>prepare-root: refused: "\/ostree\/boot.1\/.*", which the kernel/);
    expect(restart).toBe("<2>prepare-root: restarting in 5 seconds");
    expect(steps.get("boot")?.code).toBe(128 + 1);
  });
});
