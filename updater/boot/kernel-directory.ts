// Kernel directories on the boot partition: `EFI/Linux/bootc_composefs-<id>/{vmlinuz,initrd}`
// (bootc.md 4.4-4.6).
//
// A directory is named after the deployment that brought it, but every deployment with the same two
// files uses it (vfat has no links): it lives for as long as any entry names it. Two pairs are the same
// when their boot digest is, SHA-256 over vmlinuz followed by initrd.

import { closeSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";

export const ARTEFACT_PREFIX = "bootc_composefs-";
/** Below the boot directory; also the path prefix in entries. */
export const KERNEL_PARENT = "EFI/Linux";
const CHUNK_BYTES = 1024 * 1024;

export interface KernelDirectory {
  /** `bootc_composefs-<id>` */
  readonly name: string;
  /** Null when a file is missing: a copy that was interrupted. */
  readonly bootDigest: string | null;
}

/** Names of all kernel directories. */
export function listKernelDirectories(bootPath: string): readonly string[] {
  try {
    return readdirSync(join(bootPath, KERNEL_PARENT), { withFileTypes: true })
      .filter((item) => item.isDirectory() && item.name.startsWith(ARTEFACT_PREFIX))
      .map((item) => item.name)
      .sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Reads every kernel directory through: slow, only for staging. */
export function readKernelDirectories(bootPath: string): readonly KernelDirectory[] {
  return listKernelDirectories(bootPath).map((name) => ({
    name,
    bootDigest: hashFiles(
      ["vmlinuz", "initrd"].map((file) => join(bootPath, KERNEL_PARENT, name, file)),
    ),
  }));
}

function hashFiles(paths: readonly string[]): string | null {
  const hasher = new Bun.CryptoHasher("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  try {
    for (const path of paths) {
      const fd = openSync(path, "r");
      try {
        for (let n = readSync(fd, chunk); n > 0; n = readSync(fd, chunk)) {
          hasher.update(chunk.subarray(0, n));
        }
      } finally {
        closeSync(fd);
      }
    }
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    throw error;
  }
  return hasher.digest("hex");
}
