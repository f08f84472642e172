// What this kernel's mount calls can do, found out by asking them (design.md section 3).
//
// Each question is put to a context that is thrown away; nothing is mounted. Version numbers are not
// looked at: distributions backport.

import { isErrno, UnsupportedError } from "../shared/error.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { fsconfigCreate, fsconfigString, fsmount, fsopen, openTree } from "../shared/sys/mount.ts";

export interface KernelFeatures {
  /** Mounts can be put together, and serve as layers, before they are attached (6.15). */
  readonly detachedTrees: boolean;
  /**
   * How overlayfs takes its layers. append: `lowerdir+` and `datadir+` (6.7); data-only: one string
   * `lower::data` (6.5); plain: `lower:data`, the objects being an ordinary lowest layer.
   */
  readonly layers: "append" | "data-only" | "plain";
  /** Overlayfs checks the fs-verity digest of every file it opens (6.6). */
  readonly verity: boolean;
  /** `file` is tried first and falls back to `loop` by itself (6.12). */
  readonly erofs: "file" | "loop";
}

export function probeKernel(): KernelFeatures {
  return { detachedTrees: probeDetachedTrees(), erofs: "file", ...probeOverlay() };
}

/** The kernel that can clone a detached mount can do the rest as well: one series brought it all. */
function probeDetachedTrees(): boolean {
  using context = fsopen("tmpfs");
  fsconfigCreate(context);
  using detached = fsmount(context, 0);
  try {
    openTree(detached, "", { clone: true }).close();
    return true;
  } catch (error) {
    if (isErrno(error, "EINVAL")) return false;
    throw error;
  }
}

function probeOverlay(): Pick<KernelFeatures, "layers" | "verity"> {
  using context = openOverlay();
  // Before 6.5 overlayfs knows only the old mount call, and the kernel keeps any words for later.
  if (accepts(context, "prepare-root-probe", "1")) return { layers: "plain", verity: false };
  const verity = accepts(context, "verity", "require");
  const layers = accepts(context, "lowerdir+", "/") ? "append" : "data-only";
  return { layers, verity };
}

function openOverlay(): Fd {
  try {
    return fsopen("overlay");
  } catch (cause) {
    if (!isErrno(cause, "ENODEV")) throw cause;
    throw missingFileSystem("overlay", cause);
  }
}

/** For a file system type that the kernel does not know. */
export function missingFileSystem(type: string, cause: unknown): UnsupportedError {
  return new UnsupportedError(
    "feature",
    `The kernel has no file system "${type}": its module must be in the initramfs`,
    { type },
    { cause },
  );
}

function accepts(context: Fd, key: string, value: string): boolean {
  try {
    fsconfigString(context, key, value);
    return true;
  } catch (error) {
    if (isErrno(error, "EINVAL")) return false;
    throw error;
  }
}
