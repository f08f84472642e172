// The case machine: one kernel with nothing but an initramfs of ours: busybox, the modules that mounting
// needs, and a shell for the rig. Programs come from a disk that is mounted at /program.
// Invariants: no Debian system is started, so it is up within seconds; modules are loaded by the
// kernel itself when it wants them, as in a real initramfs.

import {
  chmod,
  copyFile,
  cp,
  mkdir,
  readdir,
  readFile,
  symlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { run } from "../support/run.ts";
import { agentPort } from "./agent.ts";
import type { DebianKernel } from "./debian-kernel.ts";
import { openDebianArchive } from "./debian-packages.ts";
import { type Disk, ext4FromDir } from "./disks.ts";
import { type Machine, type MachineOptions, startMachine } from "./machine.ts";
import { ensureToolsRoot, runTool } from "./tools-root.ts";

/** Where there is no udev, disks are found by their serial. */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs run /run; mount -t tmpfs tmp /tmp
modprobe -a virtio_pci virtio_blk virtio_console ext4
for disk in /sys/block/vd*; do
  mkdir -p /run/disk; ln -s /dev/\${disk##*/} /run/disk/$(cat $disk/serial)
done
mount -o ro /run/disk/program /program
for port in /sys/class/virtio-ports/*; do
  if grep -qx ${agentPort} $port/name; then exec 0<>/dev/\${port##*/} 1>&0; fi
done
printf '\\n@@RIG-READY %s\\n' $(cat /proc/sys/kernel/random/boot_id)
exec setsid sh
`;

// Modules or aliases; what a kernel has built in adds nothing.
const MODULES = [
  ...["virtio_pci", "virtio_blk", "virtio_console", "ext4", "crypto-sha512"],
  ...["erofs", "overlay", "loop", "vfat", "nls_cp437", "nls_ascii", "nls_utf8"],
];
const LIBRARIES = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"];
const LIBRARY_DIR = "usr/lib/x86_64-linux-gnu";
const LINKS = {
  lib: "usr/lib",
  sbin: "bin",
  lib64: "program/lib",
  [LIBRARY_DIR]: "/program/lib",
} as const;
const memoryMb = 768;

export type CaseProgram = { readonly name: string; readonly file: string };

/** Boots `kernel`; `programs` are executables that the guest finds below /program. */
export async function startCaseMachine(
  kernel: DebianKernel,
  programs: readonly CaseProgram[],
  disks: readonly Disk[],
  onLine?: Progress,
  tpm?: MachineOptions["tpm"],
): Promise<Machine> {
  const program = await ensureProgramDisk(programs);
  const machine = await startMachine({
    name: `cases-${kernel.release}`,
    boot: {
      kind: "kernel",
      kernel: kernel.vmlinuz,
      initrd: await ensureCaseInitramfs(kernel, onLine),
      append: "console=ttyS0,115200 no_timer_check panic=5 quiet",
    },
    disks: [{ id: "program", path: program, mode: "read" }, ...disks],
    memoryMb,
    ...(tpm === undefined ? {} : { tpm }),
    onLine,
  });
  try {
    await machine.waitReady();
    return machine;
  } catch (error) {
    await machine[Symbol.asyncDispose]();
    throw error;
  }
}

/** An ext4 file system with the programs and the C library they need. */
async function ensureProgramDisk(programs: readonly CaseProgram[]): Promise<string> {
  const contents = await Promise.all(programs.map(({ file }) => readFile(file)));
  const hashes = contents.map((bytes) => Bun.hash(bytes).toString(16));
  const tools = await ensureToolsRoot();
  const key = cacheKey(
    "program disk 1",
    programs.map(({ name }) => name),
    hashes,
    tools,
  );
  const dir = await cachedDir(join(cacheDir, "vm", `program-${key}`), async (path) => {
    const tree = join(path, "tree");
    await mkdir(join(tree, "lib"), { recursive: true });
    for (const { name, file } of programs) {
      await copyFile(file, join(tree, name));
      await chmod(join(tree, name), 0o755);
    }
    for (const name of LIBRARIES) {
      await copyFile(join(tools, LIBRARY_DIR, name), join(tree, "lib", name));
    }
    const loader = "ld-linux-x86-64.so.2";
    await copyFile(join(tools, LIBRARY_DIR, loader), join(tree, "lib", loader));
    await ext4FromDir(join(path, "program.raw"), tree, 512, "program");
    await run(["rm", "-r", tree]);
  });
  return join(dir, "program.raw");
}

async function ensureCaseInitramfs(kernel: DebianKernel, onLine?: Progress): Promise<string> {
  const busybox = await ensureBusybox(onLine);
  const key = cacheKey("case initramfs 1", INIT, MODULES, LINKS, kernel.tree, busybox);
  const dir = await cachedDir(join(cacheDir, "vm", `initramfs-cases-${key}`), async (path) => {
    const tree = join(path, "tree");
    for (const name of ["bin", "dev", "proc", "sys", "run", "tmp", "program", "usr/lib"]) {
      await mkdir(join(tree, name), { recursive: true });
    }
    for (const [name, target] of Object.entries(LINKS)) await symlink(target, join(tree, name));
    await copyFile(busybox, join(tree, "bin/busybox"));
    await writeFile(join(tree, "init"), INIT, { mode: 0o755 });
    await copyModules(kernel, tree);
    const pack = 'cd "$1" && find . | cpio --quiet -o -H newc -R 0:0 | zstd -q -3 > "$2"';
    await runTool(["sh", "-c", pack, "sh", tree, join(path, "initramfs.img")]);
    await run(["rm", "-r", tree]);
  });
  return join(dir, "initramfs.img");
}

/** The modules, what they need, and the indexes in which modprobe finds them. */
async function copyModules(kernel: DebianKernel, tree: string): Promise<void> {
  const dir = join("usr/lib/modules", kernel.release);
  const source = join(kernel.tree, dir);
  const list = ["modprobe", "-d", kernel.tree, "-S", kernel.release, "--show-depends", "-a"];
  const files = (await runTool([...list, ...MODULES])).matchAll(/^insmod (\S+)/gm);
  for (const file of new Set([...files].map((match) => match[1]!))) {
    const path = file.slice(file.indexOf(`/${kernel.release}/`) + kernel.release.length + 2);
    const target = join(tree, dir, path);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(join(source, path), target);
  }
  for (const name of await readdir(source)) {
    if (/^modules\.(order|builtin)/.test(name)) await cp(join(source, name), join(tree, dir, name));
  }
  await runTool(["depmod", "-b", tree, kernel.release]);
}

async function ensureBusybox(onLine?: Progress): Promise<string> {
  const name = "busybox-static";
  const dir = await cachedDir(join(cacheDir, "vm", `busybox-${cacheKey(1)}`), async (path) => {
    const scratch = join(path, "apt");
    const archive = await openDebianArchive(scratch, ["trixie"], onLine);
    const found = await archive.find(name);
    if (found === undefined) throw new Error(`The mirror has no package "${name}"`);
    await archive.unpack([found], path);
    await run(["rm", "-r", scratch]);
  });
  return join(dir, "usr/bin/busybox");
}
