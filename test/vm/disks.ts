// Disk images for machines: empty ones, overlays over saved ones, and ext4 trees made on the host.
// Invariants: a saved image is only ever read through overlays; image paths lie under `.cache/`,
// where the host and the tools root agree on names.

import { rm, truncate, writeFile } from "node:fs/promises";
import { run } from "../support/run.ts";
import { runTool } from "./tools-root.ts";

export type Disk = {
  /** Its serial: the guest finds it as /dev/disk/by-id/virtio-ID. */
  readonly id: string;
  /** `*.qcow2` or a raw image. */
  readonly path: string;
  /** "overlay": writes go to a file that is thrown away with the machine. */
  readonly mode: "write" | "overlay" | "read";
  /** Of a disk that can be written: where every write and flush is written down (QEMU's blklogwrites). */
  readonly log?: string;
};

export function imageFormat(path: string): "qcow2" | "raw" {
  return path.endsWith(".qcow2") ? "qcow2" : "raw";
}

/**
 * A qcow2 disk with the partitions of an sfdisk script. Not made in the guest: there udev reads a new table a
 * second time, and the partitions that it has announced vanish for a moment.
 */
export async function createPartitionedDisk(
  path: string,
  megabytes: number,
  script: string,
): Promise<string> {
  const raw = `${path}.raw`;
  await createSparse(raw, megabytes);
  await runTool(["sh", "-c", 'printf "%s" "$1" | sfdisk -q "$2"', "sfdisk", script, raw]);
  await runTool(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path]);
  await rm(raw);
  return path;
}

/** A qcow2 file that holds the differences to `base`. */
export async function createOverlay(path: string, base: string): Promise<string> {
  const format = ["-f", "qcow2", "-F", imageFormat(base)];
  await runTool(["qemu-img", "create", "-q", ...format, "-b", base, path]);
  return path;
}

/** A raw ext4 image with the contents of a directory; sparse, made without mounting anything. */
export async function ext4FromDir(
  path: string,
  dir: string,
  megabytes: number,
  label: string,
  features = "",
): Promise<string> {
  await createSparse(path, megabytes);
  await run(mkfsExt4(path, dir, label, features));
  return path;
}

export async function createSparse(path: string, megabytes: number): Promise<void> {
  await writeFile(path, "");
  await truncate(path, megabytes * 1024 * 1024);
}

export function mkfsExt4(path: string, dir: string, label: string, features = ""): string[] {
  const speed = ["-E", "lazy_itable_init=1,lazy_journal_init=1"];
  const wanted = features === "" ? [] : ["-O", features];
  return ["mkfs.ext4", "-q", "-F", "-b", "4096", ...wanted, ...speed, "-L", label, "-d", dir, path];
}
