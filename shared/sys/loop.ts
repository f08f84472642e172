// Loop devices: a file as a read-only block device (loop(4), LOOP_CONFIGURE since Linux 5.8).

import { bytes, struct, u32 } from "../bytes/layout.ts";
import { isErrno } from "../error.ts";
import { S_IFCHR } from "../format/tree/node.ts";
import { IOCTL, LO_FLAGS, O } from "./constants.ts";
import { ERRNO, syscallError } from "./errno.ts";
import type { Fd } from "./fd.ts";
import { openat } from "./file.ts";
import { attempt } from "./libc.ts";
import { mknodat } from "./link.ts";
import { checkFd } from "./path.ts";

/** struct loop_config with the flags of its struct loop_info64. */
export const LoopConfig = struct("loop_config", 304, {
  fd: u32,
  blockSize: u32,
  infoBeforeFlags: bytes(52),
  flags: u32,
  infoAfterFlags: bytes(176),
  reserved: bytes(64),
});
const CONTROL = "/dev/loop-control";
/** Character device 10:237, in the kernel's encoding. */
const CONTROL_RDEV = (10 << 8) | 237;
/** Another program may take the free device between the two calls. */
const ATTEMPTS = 64;

/**
 * Attaches `image` read-only to a free loop device. The device goes away by itself (autoclear) when the
 * returned descriptor is closed and nothing has it mounted.
 */
export function attachLoop(image: Fd): { readonly device: string; readonly fd: Fd } {
  using control = openControl();
  const config = LoopConfig.encode({
    fd: image.number,
    flags: LO_FLAGS.READ_ONLY | LO_FLAGS.AUTOCLEAR,
  });
  for (let attempts = 0; attempts < ATTEMPTS; attempts++) {
    const free = attempt("ioctl", control.number, IOCTL.LOOP_CTL_GET_FREE, null);
    const device = `/dev/loop${checkFd("LOOP_CTL_GET_FREE", free, control)}`;
    const fd = openat(null, device, O.RDONLY);
    const result = attempt("ioctl", fd.number, IOCTL.LOOP_CONFIGURE, config);
    if (result >= 0) return { device, fd };
    fd.close();
    if (result !== -ERRNO.get("EBUSY")!) checkFd("LOOP_CONFIGURE", result, image);
  }
  throw syscallError("LOOP_CONFIGURE", ERRNO.get("EBUSY")!, { path: CONTROL });
}

/** Opening the control device loads the loop module, but where there is no udev nobody made its node. */
function openControl(): Fd {
  try {
    return openat(null, CONTROL, O.RDWR);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    mknodat(null, CONTROL, S_IFCHR | 0o600, CONTROL_RDEV);
    return openat(null, CONTROL, O.RDWR);
  }
}
