// One overlayfs mount, in the ways that kernels from 5.15 on take its layers.
//
// Layers are named by open directories, never by path text: no escaping, no races. Before 6.15 they
// must be attached somewhere, because the kernel looks them up through /proc/self/fd.

import { UnsupportedError } from "../shared/error.ts";
import { S_IFDIR, S_IFMT } from "../shared/format/tree/node.ts";
import type { Fd } from "../shared/sys/fd.ts";
import {
  fsconfigCreate,
  fsconfigFd,
  fsconfigString,
  fsmount,
  fsopen,
} from "../shared/sys/mount.ts";
import { fstatatIfExists } from "../shared/sys/stat.ts";
import type { KernelFeatures } from "./kernel-features.ts";

export interface OverlayLayers {
  /** What the mount table shows as the device. */
  readonly source: string;
  readonly lower: Fd;
  /** The object store, when `lower` is a composefs image whose files are elsewhere. */
  readonly data?: Fd;
  /** Every file of `data` must have the fs-verity digest that the image says. */
  readonly verity?: boolean;
  /** Makes the mount writable. */
  readonly upper?: { readonly upper: Fd; readonly work: Fd };
}

/** A detached mount. `attributes` from MOUNT_ATTR. */
export function createOverlay(
  layers: OverlayLayers,
  features: KernelFeatures,
  attributes: number,
): Fd {
  using context = fsopen("overlay");
  fsconfigString(context, "source", layers.source);
  if (layers.data !== undefined) {
    fsconfigString(context, "metacopy", "on");
    fsconfigString(context, "redirect_dir", "on");
  }
  if (layers.verity === true) requireVerity(context, features);
  setLowerLayers(context, layers, features);
  if (layers.upper !== undefined) {
    setDirectory(context, "upperdir", layers.upper.upper, features);
    setDirectory(context, "workdir", layers.upper.work, features);
  }
  fsconfigCreate(context);
  return fsmount(context, attributes);
}

function requireVerity(context: Fd, features: KernelFeatures): void {
  if (!features.verity) {
    throw new UnsupportedError(
      "feature",
      'The kernel cannot check files by fs-verity (overlayfs verity=require needs Linux 6.6): use a newer one, or allow it with "composefs=?<id>"',
    );
  }
  fsconfigString(context, "verity", "require");
}

function setLowerLayers(context: Fd, layers: OverlayLayers, features: KernelFeatures): void {
  const { data, lower } = layers;
  if (features.layers === "append") {
    setDirectory(context, "lowerdir+", lower, features);
    if (data !== undefined) setDirectory(context, "datadir+", data, features);
    return;
  }
  if (features.layers === "plain" && data !== undefined) requireHiddenObjects(lower);
  const separator = features.layers === "data-only" ? "::" : ":";
  const dataText = data === undefined ? "" : `${separator}${procPath(data)}`;
  fsconfigString(context, "lowerdir", `${procPath(lower)}${dataText}`);
}

/**
 * Without data-only layers (6.5) the object store is an ordinary layer, and its directories 00 to ff
 * show in the root unless the image has something else of each name: formats V0 and V1 have whiteouts.
 */
function requireHiddenObjects(image: Fd): void {
  for (let byte = 0; byte < 256; byte++) {
    const name = byte.toString(16).padStart(2, "0");
    const mode = fstatatIfExists(image, name)?.mode ?? S_IFDIR;
    if ((mode & S_IFMT) !== S_IFDIR) continue;
    throw new UnsupportedError(
      "feature",
      `The kernel would show the object store in the root as "/${name}" (EROFS format V1 hides it, data-only layers need Linux 6.5): use a newer one`,
    );
  }
}

function setDirectory(context: Fd, key: string, directory: Fd, features: KernelFeatures): void {
  if (features.detachedTrees) fsconfigFd(context, key, directory);
  else fsconfigString(context, key, procPath(directory));
}

function procPath(fd: Fd): string {
  return `/proc/self/fd/${fd.number}`;
}
