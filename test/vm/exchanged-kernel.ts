// An installed disk that is started with another kernel than its own: QEMU loads kernel and initramfs,
// the boot entry of the disk gives the rest of the command line.
// Invariants: the initramfs is made by dracut from the image's own tree, so everything in it but the
// kernel's modules is the image's; modules that the system wants later are loaded there already,
// because the image has none for this kernel.

import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cacheDir } from "../support/cache.ts";
import type { Progress } from "../support/run.ts";
import { run } from "../support/run.ts";
import type { DebianKernel } from "./debian-kernel.ts";
import { type Machine, startMachine } from "./machine.ts";
import { makeInitramfs, type OsImage } from "./os-image.ts";
import { ensureLayer } from "./os-layer.ts";
import { runTool } from "./tools-root.ts";

/** virtio_console is the rig's shell, autofs4 a wish of systemd, the rest is for /boot. */
const LOADED_EARLY = "virtio_console autofs4 vfat nls_ascii nls_cp437";
/** Used once or twice, so it need not be small. */
const DRACUT_OPTIONS = ["--force-drivers", LOADED_EARLY, "--compress", "zstd -3 -q -T0"];

export type ExchangedKernel = {
  readonly name: string;
  readonly disk: string;
  readonly kernel: DebianKernel;
  readonly initrd: string;
  readonly append: string;
};

/** Starts it; nothing is awaited. */
export function startExchanged(boot: ExchangedKernel, onLine?: Progress): Promise<Machine> {
  const { append, disk, initrd, kernel, name } = boot;
  return startMachine({
    name,
    boot: { kind: "kernel", kernel: kernel.vmlinuz, initrd, append },
    disks: [{ id: "disk", path: disk, mode: "overlay" }],
    onLine,
  });
}

/** The initramfs that `image` would have with `kernel` in it; its own when that is its kernel. */
export async function ensureExchangedInitramfs(
  image: OsImage,
  kernel: DebianKernel,
  onLine?: Progress,
): Promise<string> {
  const modules = join("usr/lib/modules", kernel.release);
  const initramfsIn = (dir: string) => join(dir, "tree", modules, "initramfs.img");
  const own = image.layers.map(({ dir }) => initramfsIn(dir)).find(existsSync);
  if (own !== undefined) return own;
  const layer = await ensureLayer({
    name: `kernel-${kernel.release}`,
    createdBy: "dracut",
    inputs: [kernel.tree, DRACUT_OPTIONS],
    below: image.layers,
    async change({ root }) {
      await run(["cp", "-a", join(kernel.tree, modules), join(root, modules)]);
      await makeInitramfs(root, kernel.release, DRACUT_OPTIONS, onLine);
    },
    onLine,
  });
  return initramfsIn(layer.dir);
}

/** The options of the disk's only boot entry. */
export async function readBootOptions(disk: string): Promise<string> {
  const raw = join(cacheDir, "vm", `esp-${process.pid}.raw`);
  try {
    await runTool(["qemu-img", "convert", "-O", "raw", disk, raw]);
    // Where sfdisk begins with the first partition, which is the ESP.
    const esp = ["-i", `${raw}@@1M`];
    const names = await runTool(["mdir", "-b", ...esp, "::/loader/entries"]);
    const [name, ...others] = names.trim().split("\n");
    if (name === undefined || others.length > 0) throw new Error(`Not one boot entry: ${names}`);
    const entry = await runTool(["mtype", ...esp, name]);
    const options = /^options\s+(.*)$/m.exec(entry)?.[1];
    if (options === undefined) throw new Error(`No options in the boot entry:\n${entry}`);
    return options;
  } finally {
    await rm(raw, { force: true });
  }
}
