// What this kernel's mount calls can do, found out by asking them (design.md section 3).
// What overlayfs can do is asked in shared/sys/file-system.ts, as the tools ask it too.

import { isErrno } from "../shared/error.ts";
import { type OverlayFeatures, probeOverlay } from "../shared/sys/file-system.ts";
import { fsconfigCreate, fsmount, fsopen, openTree } from "../shared/sys/mount.ts";

/** What to do about a file system type that the kernel does not know. */
export const MISSING_FILE_SYSTEM_ADVICE = "its module must be in the initramfs";

export interface KernelFeatures extends OverlayFeatures {
  /** Mounts can be put together, and serve as layers, before they are attached (6.15). */
  readonly detachedTrees: boolean;
  /** `file` is tried first and falls back to `loop` by itself (6.12). */
  readonly erofs: "file" | "loop";
}

export function probeKernel(): KernelFeatures {
  return {
    detachedTrees: probeDetachedTrees(),
    erofs: "file",
    ...probeOverlay(MISSING_FILE_SYSTEM_ADVICE),
  };
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
