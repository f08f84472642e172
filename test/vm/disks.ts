// Disk images for machines: empty ones, overlays over saved ones, and ext4 trees made on the host.
// Invariants: a saved image is only ever read through overlays; image paths lie under `.cache/`,
// where the host and the tools root agree on names.

import { truncate, writeFile } from "node:fs/promises";
import { run } from "../support/run.ts";
import { runTool } from "./tools-root.ts";

export type Disk = {
  /** Its serial: the guest finds it as /dev/disk/by-id/virtio-ID. */
  readonly id: string;
  /** `*.qcow2` or a raw image. */
  readonly path: string;
  /** "overlay": writes go to a file that is thrown away with the machine. */
  readonly mode: "write" | "overlay" | "read";
  /** A raw disk only: where every write and flush is written down (QEMU's blklogwrites). */
  readonly log?: string;
};

export function imageFormat(path: string): "qcow2" | "raw" {
  return path.endsWith(".qcow2") ? "qcow2" : "raw";
}

/** An empty qcow2 disk. */
export async function createDisk(path: string, megabytes: number): Promise<string> {
  await runTool(["qemu-img", "create", "-q", "-f", "qcow2", path, `${megabytes}M`]);
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
