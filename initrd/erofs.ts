// Mounting an EROFS image that is a file: directly (Linux 6.12), else through a loop device.

import { isErrno } from "../shared/error.ts";
import { MOUNT_ATTR } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openFileSystem } from "../shared/sys/file-system.ts";
import { attachLoop } from "../shared/sys/loop.ts";
import { fsconfigCreate, fsconfigFlag, fsconfigString, fsmount } from "../shared/sys/mount.ts";
import { type KernelFeatures, MISSING_FILE_SYSTEM_ADVICE } from "./kernel-features.ts";

interface ErofsMount {
  /** Detached and read-only. */
  readonly mount: Fd;
  readonly backing: KernelFeatures["erofs"];
}

export function mountErofs(image: Fd, backing: KernelFeatures["erofs"]): ErofsMount {
  if (backing === "file") {
    try {
      return { mount: mountSource(`/proc/self/fd/${image.number}`), backing };
    } catch (error) {
      // What the kernel says when it wants a block device: too old, or built without it.
      if (!isErrno(error, "ENOTBLK")) throw error;
    }
  }
  const loop = attachLoop(image);
  using _device = loop.fd;
  return { mount: mountSource(loop.device), backing: "loop" };
}

function mountSource(source: string): Fd {
  using context = openFileSystem("erofs", MISSING_FILE_SYSTEM_ADVICE);
  fsconfigFlag(context, "ro");
  fsconfigString(context, "source", source);
  fsconfigCreate(context);
  return fsmount(context, MOUNT_ATTR.RDONLY | MOUNT_ATTR.NODEV);
}
