// Guests that wait in their initramfs, with the root disk mounted and prepare-root about to start: there
// the tests write its config, exchange the program or damage the disk, and then let the boot go on.
// Invariants: what waits is a unit of its own in a second cpio archive behind the initramfs, which stays
// as dracut made it; a guest is saved while it waits, so that each further boot begins there.

import { copyFile, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { run } from "../support/run.ts";
import { accelerator } from "./accel.ts";
import { agentPort } from "./agent.ts";
import { type Machine, resumeMachine, startMachine } from "./machine.ts";
import { readState } from "./saved-state.ts";
import { runTool } from "./tools-root.ts";

/** What starts a guest: as in ostree-disk.ts. */
type HeldBoot = {
  readonly disk: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly append: string;
};

const RELEASE = "/run/rig-release";
const SLOW_MS = 600_000;
const MEMORY_MB = 1024;

const UNIT = `[Unit]
DefaultDependencies=no
Requires=sysroot.mount
After=sysroot.mount systemd-modules-load.service
Before=ostree-prepare-root.service initrd-root-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/rig/hold
`;

const HOLD = `#!/bin/bash
cd /sys/class/virtio-ports
for port in *; do
  if grep -qx ${agentPort} $port/name; then exec 0<>/dev/$port 1>&0; fi
done
cd /
builtin printf '\\n@@RIG-READY initramfs\\n'
BASH_ENV=/usr/lib/rig/environment bash --noprofile --norc
exit 0
`;

// The rig ends each command with a line that printf writes: after the last one the shell ends.
const ENVIRONMENT = `unset BASH_ENV
printf() { builtin printf "$@"; [ ! -e ${RELEASE} ] || exit 0; }
`;

/** The initramfs with the waiting unit behind it. */
export async function holdInitramfs(initrd: string): Promise<string> {
  const key = cacheKey("held initramfs 1", UNIT, HOLD, ENVIRONMENT, initrd);
  const dir = await cachedDir(
    join(cacheDir, "vm", `ostree-held-${kindOf(initrd)}-${key}`),
    async (path) => {
      const tree = join(path, "tree");
      const units = join(tree, "usr/lib/systemd/system");
      const wants = join(units, "initrd-root-fs.target.wants");
      for (const name of [wants, join(tree, "usr/lib/rig")]) await mkdir(name, { recursive: true });
      await writeFile(join(units, "rig-hold.service"), UNIT);
      await symlink("../rig-hold.service", join(wants, "rig-hold.service"));
      await writeFile(join(tree, "usr/lib/rig/hold"), HOLD, { mode: 0o755 });
      await writeFile(join(tree, "usr/lib/rig/environment"), ENVIRONMENT);
      const pack = 'cd "$1" && find . | sort | cpio --quiet -o -H newc -R 0:0 > "$2"';
      await runTool(["sh", "-c", pack, "sh", tree, join(path, "hold.cpio")]);
      await rm(tree, { recursive: true });
      await copyFile(initrd, join(path, "initramfs.img"));
      // The kernel wants each archive to begin at a multiple of four.
      const join4 = 'truncate -s %4 "$2" && cat "$1" >> "$2" && rm "$1"';
      await run(["sh", "-c", join4, "sh", join(path, "hold.cpio"), join(path, "initramfs.img")]);
    },
  );
  return join(dir, "initramfs.img");
}

/** Of an initramfs's entry in the cache: entries of one kind replace each other there. */
function kindOf(initrd: string): string {
  return basename(dirname(initrd)).split("-").at(-2) ?? "other";
}

/** Boots until it waits. */
export async function startHeld(
  name: string,
  boot: HeldBoot,
  mode: "write" | "overlay",
  onLine?: Progress,
): Promise<Machine> {
  const { kernel, initrd, append, disk } = boot;
  const machine = await startMachine({
    name,
    boot: { kind: "kernel", kernel, initrd, append },
    disks: [{ id: "disk", path: disk, mode }],
    memoryMb: MEMORY_MB,
    onLine,
  });
  try {
    await machine.waitReady(SLOW_MS);
    return machine;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

/** Goes on from the saved state in which a guest of this boot waits. */
export async function resumeHeld(
  name: string,
  boot: HeldBoot,
  onLine?: Progress,
): Promise<Machine> {
  const initrd = await holdInitramfs(boot.initrd);
  const kind = await accelerator({ kind: "kernel", ...boot, initrd }, onLine);
  const key = cacheKey("held 1", MEMORY_MB, boot, initrd, kind);
  const dir = await cachedDir(
    join(cacheDir, "vm", `ostree-waiting-${kindOf(boot.initrd)}-${key}`),
    async (path) => {
      onLine?.("ostree guest: starting it up to prepare-root, to save it");
      const machine = await startHeld(`${name}-first`, { ...boot, initrd }, "overlay", onLine);
      await machine.must("sync; echo 3 >/proc/sys/vm/drop_caches");
      await machine.saveTo(path);
      await machine[Symbol.asyncDispose]();
    },
  );
  const machine = await resumeMachine(await readState(dir), name);
  // The state says that the shell is there; the next one to say so is the started system's.
  await machine.waitReady();
  return machine;
}

/** Lets the boot go on, or ends the machine. */
export async function release(machine: Machine, how: "boot" | "poweroff"): Promise<void> {
  if (how === "boot") {
    await machine.must(`: >${RELEASE}`);
    return;
  }
  await machine.qmp.execute("quit").catch(() => {});
  await machine.waitExit();
}
