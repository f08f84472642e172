// The kernel of an image that lies unpacked in a directory, while it is built (bootc.md 10.2): the first
// unified kernel of /boot/EFI/Linux in name order, else the first directory of /usr/lib/modules with a vmlinuz.

import { readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";

export interface RootfsKernel {
  /** As `uname -r` will say; of a unified kernel the file name without ".efi". */
  readonly version: string;
  readonly isUnified: boolean;
  /** The unified kernel, or the directory with vmlinuz and initramfs.img. */
  readonly path: string;
}

const UNIFIED_DIRECTORY = "boot/EFI/Linux";
const MODULES_DIRECTORY = "usr/lib/modules";
const SUFFIX = ".efi";

/** The directory's absolute path. StateError when there is none. */
export function requireRootfs(path: string): string {
  const rootfs = resolve(path);
  if (statSync(rootfs, { throwIfNoEntry: false })?.isDirectory() === true) return rootfs;
  throw new StateError(
    "missing",
    `There is no directory "${rootfs}"; name the one that the image is unpacked or mounted in`,
    { path: rootfs },
  );
}

/** Null when there is none. */
export function findRootfsKernel(rootfs: string): RootfsKernel | null {
  const unified = list(join(rootfs, UNIFIED_DIRECTORY)).find(
    (name) => name.endsWith(SUFFIX) && !name.endsWith(`.addon${SUFFIX}`),
  );
  if (unified !== undefined) {
    const path = join(rootfs, UNIFIED_DIRECTORY, unified);
    return { version: unified.slice(0, -SUFFIX.length), isUnified: true, path };
  }
  for (const version of list(join(rootfs, MODULES_DIRECTORY))) {
    const path = join(rootfs, MODULES_DIRECTORY, version);
    if (fstatatIfExists(null, join(path, "vmlinuz")) !== null)
      return { version, isUnified: false, path };
  }
  return null;
}

/** As `findRootfsKernel`; StateError when there is none, or when it is a unified one already. */
export function requirePlainKernel(rootfs: string): RootfsKernel {
  const kernel = findRootfsKernel(rootfs);
  if (kernel === null) {
    throw new StateError(
      "missing",
      `"${rootfs}" has no kernel: there is no "${MODULES_DIRECTORY}/VERSION/vmlinuz"; install one`,
    );
  }
  if (!kernel.isUnified) return kernel;
  throw new StateError(
    "conflict",
    `"${rootfs}" has a unified kernel already, "${kernel.path}"; remove it, or use an image with vmlinuz and initramfs.img`,
  );
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
}
