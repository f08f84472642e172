// `npm run bench:guest`: the figures of docs/performance.md that need a virtual machine.
//
// The installed disk of the demo boots with less and less memory; prepare-root's own journal line
// says how long it took; ostree-prepare-root is started beside it in the same guest. Guests run
// under whatever the probe finds (here TCG): compare the lines with each other, not with hardware.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { cacheDir, cachedDir, cacheKey } from "../../test/support/cache.ts";
import { run } from "../../test/support/run.ts";
import { debootstrap } from "../../test/vm/debootstrap.ts";
import { ext4FromDir } from "../../test/vm/disks.ts";
import { ensureInstalledDisk, ensureMedia } from "../../test/vm/installed-disk.ts";
import { type Machine, startMachine } from "../../test/vm/machine.ts";
import { silentNarrator } from "../../test/vm/narrator.ts";
import type { OsImage } from "../../test/vm/os-image.ts";
import { ensureProductImages } from "../../test/vm/product-image.ts";
import { chrootCommand, ensureToolsRoot } from "../../test/vm/tools-root.ts";
import { formatMb, formatTable } from "./measure.ts";

const MEMORY_MB = [512, 448, 416, 384, 352, 320, 288] as const;
const BOOT_LIMIT_MS = 300_000;
const note = (line: string) => console.error(`. ${line}`);

const { v1, v2 } = await ensureProductImages(note);
const disk = await ensureInstalledDisk(v1, { ...silentNarrator, progress: note });
console.log(`## Initramfs\n\n${await benchInitramfs(v1)}\n`);
console.log(`## In the guest\n\n${await benchGuest()}\n`);
console.log(`## Smallest memory\n\n${await benchMemory()}`);

/** Sizes of the image's initramfs, recompressed alike, with and without the executable. */
async function benchInitramfs(image: OsImage): Promise<string> {
  const modules = image.layers.map((layer) => join(layer.dir, "tree/usr/lib/modules"));
  const script = `
    set -e
    for dir in "$@"; do for f in "$dir"/*/initramfs.img; do [ -s "$f" ] && found=$f; done; done
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
    zstd -dcq "$found" > "$work/with.cpio" 2>/dev/null || cp "$found" "$work/with.cpio"
    mkdir "$work/tree"; cd "$work/tree"; cpio -id --quiet < "$work/with.cpio"
    find . -name bootc -size +50M -delete
    find . | cpio -o -H newc --quiet > "$work/without.cpio"
    for kind in with without; do
      stat -c %s "$work/$kind.cpio"; zstd -19 -T2 -q -c "$work/$kind.cpio" | wc -c
    done`;
  const root = await ensureToolsRoot(note);
  const output = await run(chrootCommand(root, ["sh", "-c", script, "sh", ...modules]));
  const [withRaw, withZstd, withoutRaw, withoutZstd] = output.trim().split("\n").map(Number);
  return formatTable(
    ["initramfs", "unpacked", "zstd -19"],
    [
      ["with prepare-root", formatMb(withRaw!), formatMb(withZstd!)],
      ["without the executable", formatMb(withoutRaw!), formatMb(withoutZstd!)],
    ],
  );
}

async function benchGuest(): Promise<string> {
  await using machine = await startMachine({
    name: "bench",
    boot: { kind: "uefi" },
    disks: [
      { id: "disk", path: disk, mode: "overlay" },
      { id: "stick", path: await ensureMedia(v2), mode: "read" },
      { id: "ostree", path: await ensureOstreeDisk(), mode: "read" },
    ],
  });
  const rows: string[][] = [];
  for (const boot of ["first boot", "second boot"]) {
    if (rows.length > 0) await machine.reboot(BOOT_LIMIT_MS);
    else await machine.waitReady(BOOT_LIMIT_MS);
    const line = await machine.must("journalctl -b -o cat -u prepare-root.service | grep mounted");
    note(line);
    rows.push([`prepare-root, ${boot}`, / in (.*)$/.exec(line)?.[1] ?? line]);
  }
  await machine.must(
    "mkdir -p /run/o /var/mnt/usb; mount -o ro /dev/disk/by-id/virtio-ostree /run/o",
  );
  const starts = {
    "`prepare-root` refusing (no such root), start to end":
      "/usr/lib/bootc/prepare-root --sysroot /nothing",
    "`ostree-prepare-root` refusing, start to end":
      "chroot /run/o /usr/lib/ostree/ostree-prepare-root /nothing",
  };
  for (const [label, command] of Object.entries(starts)) {
    rows.push([label, await timeRuns(machine, command)]);
  }
  rows.push(["switch: image to staged deployment", await benchSwitch(machine)]);
  return formatTable(["what", "measured"], rows);
}

/** "first / second / third" in milliseconds; the first reads the program from the disk. */
async function timeRuns(machine: Machine, command: string): Promise<string> {
  const once = `TIMEFORMAT=%R; { time ${command} >/dev/null 2>&1; } 2>&1 || true`;
  const output = await machine.must(
    `echo 3 >/proc/sys/vm/drop_caches; for i in 1 2 3; do ${once}; done`,
  );
  const times = output.split("\n").map((line) => `${Math.round(Number(line) * 1000)} ms`);
  return times.join(", ");
}

async function benchSwitch(machine: Machine): Promise<string> {
  await machine.must("mount -o ro /dev/disk/by-id/virtio-stick /var/mnt/usb");
  const output = await machine.must(
    `bootc switch --transport oci /var/mnt/usb/os.oci >/dev/null 2>&1 & pid=$!
    peak=0; while read -r key value _ < <(grep VmHWM /proc/$pid/status 2>/dev/null); do
      [ "$value" -gt "$peak" ] && peak=$value; read -rt 0.2 _ <> <(:); done
    TIMEFORMAT=%R; wait $pid; echo "$peak"`,
    { timeoutMs: 600_000 },
  );
  return `peak resident ${formatMb(Number(output.split("\n").at(-1)) * 1024)}`;
}

/** ostree-prepare-root with its libraries, as a file system. */
async function ensureOstreeDisk(): Promise<string> {
  const dir = await cachedDir(join(cacheDir, "vm", `ostree-${cacheKey(1)}`), async (path) => {
    const root = join(path, "root");
    await debootstrap({
      root,
      variant: "essential",
      suites: ["trixie"],
      packages: ["ostree-boot"],
      onLine: note,
    });
    await ext4FromDir(join(path, "ostree.raw"), root, 1024, "ostree");
    spawnSync("rm", ["-rf", root]);
  });
  return join(dir, "ostree.raw");
}

async function benchMemory(): Promise<string> {
  const rows: string[][] = [];
  for (const memoryMb of MEMORY_MB) {
    const booted = await boots(memoryMb);
    note(`${memoryMb} MB: ${booted ? "boots" : "does not boot"}`);
    rows.push([`${memoryMb} MB`, booted ? "boots" : "does not boot"]);
    if (!booted) break;
  }
  return formatTable(["memory", ""], rows);
}

async function boots(memoryMb: number): Promise<boolean> {
  await using machine = await startMachine({
    name: `memory-${memoryMb}`,
    boot: { kind: "uefi" },
    disks: [{ id: "disk", path: disk, mode: "overlay" }],
    memoryMb,
  });
  try {
    await machine.waitReady(BOOT_LIMIT_MS);
    const state = await machine.must("systemctl is-system-running --wait || true", {
      timeoutMs: BOOT_LIMIT_MS,
    });
    return state === "running";
  } catch {
    return false;
  }
}
