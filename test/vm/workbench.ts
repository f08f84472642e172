// The workbench: a VM that runs the image's own Debian from a plain ext4 disk, for everything that
// needs vfat or fs-verity, which build machines may lack. Invariants: it boots once per image and
// is saved; each use goes on from there in a throwaway copy; only the disks handed in are changed,
// and they are unmounted and flushed at the end.

import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { accelerator } from "./accel.ts";
import type { Disk } from "./disks.ts";
import { createSparse, mkfsExt4 } from "./disks.ts";
import { type Machine, resumeMachine, startMachine } from "./machine.ts";
import { kernelVersion } from "./os-base.ts";
import type { OsImage } from "./os-image.ts";
import { runOnMerged } from "./os-layer.ts";
import { readState, type SavedState } from "./saved-state.ts";

export type WorkbenchOptions = {
  readonly image: OsImage;
  readonly disks: readonly Disk[];
  readonly onLine?: Progress | undefined;
};

const systemMegabytes = 2048;
const memoryMb = 1536;

/** Runs `work` in a workbench that has `disks` as /dev/disk/by-id/virtio-ID. */
export async function withWorkbench<T>(
  options: WorkbenchOptions,
  work: (machine: Machine) => Promise<T>,
): Promise<T> {
  const state = await ensureWorkbench(options.image, options.onLine);
  await using machine = await resumeMachine(state, "workbench");
  try {
    for (const disk of options.disks) await machine.addDisk(disk);
    const result = await work(machine);
    // Whatever is still mounted from the handed-in disks must be whole before the power goes.
    await machine.must("umount --recursive /run/work 2>/dev/null; sync", { timeoutMs: 300_000 });
    await machine.qmp.execute("quit").catch(() => {});
    await machine.waitExit();
    return result;
  } catch (error) {
    machine.keep();
    throw error;
  }
}

/** The plain ext4 disk with the image's tree, kernel and initramfs beside it. */
async function ensureSystemDisk(
  image: OsImage,
  onLine?: Progress,
): Promise<{ disk: string; kernel: string; initrd: string }> {
  const key = cacheKey("system disk 1", systemMegabytes, image.layers.at(-1)!.key);
  const dir = await cachedDir(join(cacheDir, "vm", `system-${key}`), async (path) => {
    onLine?.("workbench: making an ext4 disk from the image's tree");
    const disk = join(path, "system.raw");
    await createSparse(disk, systemMegabytes);
    await runOnMerged(image.layers, mkfsExt4(disk, "/mnt", "system"), onLine);
    const modules = `/mnt/usr/lib/modules/${await kernelVersion(treeOf(image, 0))}`;
    const boot = [`${modules}/vmlinuz`, `${modules}/initramfs.img`];
    await runOnMerged(image.layers, ["cp", ...boot, path], onLine);
  });
  const file = (name: string) => join(dir, name);
  return { disk: file("system.raw"), kernel: file("vmlinuz"), initrd: file("initramfs.img") };
}

function treeOf(image: OsImage, layer: number): string {
  return join(image.layers[layer]!.dir, "tree");
}

/** Boots the workbench once and saves it. */
async function ensureWorkbench(image: OsImage, onLine?: Progress): Promise<SavedState> {
  const { disk, kernel, initrd } = await ensureSystemDisk(image, onLine);
  const boot = { kind: "kernel", kernel, initrd, append: workbenchCommandLine } as const;
  // Memory saved under one accelerator cannot go on under another.
  const key = cacheKey("workbench 1", memoryMb, disk, boot, await accelerator(boot, onLine));
  const dir = await cachedDir(join(cacheDir, "vm", `workbench-${key}`), async (path) => {
    onLine?.("workbench: booting it once, to save it");
    await using machine = await startMachine({
      name: "workbench-first",
      boot,
      disks: [{ id: "system", path: disk, mode: "overlay" }],
      memoryMb,
      onLine,
    });
    await machine.waitReady();
    await machine.must("systemctl is-system-running --wait || systemctl --failed", {
      timeoutMs: 300_000,
    });
    await machine.must("modprobe -a vfat nls_ascii nls_cp437 erofs overlay sha256-ssse3");
    await machine.must("mkdir -p /run/work; sync; echo 3 >/proc/sys/vm/drop_caches");
    await machine.saveTo(path);
  });
  const state = await readState(dir);
  return { ...state, options: { ...state.options, onLine } };
}

const workbenchCommandLine =
  "root=/dev/disk/by-id/virtio-system rw console=ttyS0,115200 no_timer_check panic=5";
