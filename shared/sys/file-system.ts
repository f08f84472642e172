// File systems by name, and what this kernel's overlayfs can do, found out by asking it.
//
// Each question is put to a context that is thrown away; nothing is mounted. Version numbers are not
// looked at: distributions backport.

import { isErrno, UnsupportedError } from "../error.ts";
import type { Fd } from "./fd.ts";
import { fsconfigString, fsopen } from "./mount.ts";

export interface OverlayFeatures {
  /**
   * How overlayfs takes its layers. append: `lowerdir+` and `datadir+` (6.7); data-only: one string
   * `lower::data` (6.5); plain: `lower:data`, the objects being an ordinary lowest layer.
   */
  readonly layers: "append" | "data-only" | "plain";
  /** Overlayfs checks the fs-verity digest of every file it opens (6.6). */
  readonly verity: boolean;
}

/** fsopen; UnsupportedError with `advice` when the kernel does not know the type. */
export function openFileSystem(type: "erofs" | "overlay", advice: string): Fd {
  try {
    return fsopen(type);
  } catch (cause) {
    if (!isErrno(cause, "ENODEV")) throw cause;
    const message = `The kernel has no file system "${type}": ${advice}`;
    throw new UnsupportedError("feature", message, { type }, { cause });
  }
}

/** `advice` is for a kernel without overlayfs. */
export function probeOverlay(advice: string): OverlayFeatures {
  using context = openFileSystem("overlay", advice);
  // Before 6.5 overlayfs knows only the old mount call, and the kernel keeps any words for later.
  if (accepts(context, "composefs-probe", "1")) return { layers: "plain", verity: false };
  const verity = accepts(context, "verity", "require");
  return { layers: accepts(context, "lowerdir+", "/") ? "append" : "data-only", verity };
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
