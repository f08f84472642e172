// A mount namespace of our own, so that mounting the ESP and making /sysroot writable stays invisible to
// everybody else.
//
// A namespace belongs to a thread, and Bun has several: after unshare(2) the whole program is executed
// again, which leaves one thread, in the new namespace (measured: systemd-initramfs.md 5).

import { StateError } from "../../shared/error.ts";
import { MS } from "../../shared/sys/constants.ts";
import { mount, unshareMounts } from "../../shared/sys/mount.ts";
import { execve } from "../../shared/sys/process.ts";

const GUARD = "_bootc_private_mounts";

/** Returns only in the new namespace. */
export function enterPrivateMounts(): void {
  if (process.env[GUARD] === String(process.pid)) return;
  try {
    unshareMounts();
    mount(null, "/", null, MS.REC | MS.PRIVATE, null);
  } catch (cause) {
    throw new StateError(
      "not-root",
      "Cannot get a private mount namespace; run this as root with all privileges (CAP_SYS_ADMIN)",
      {},
      { cause },
    );
  }
  const variables = Object.entries(process.env).filter(
    (variable): variable is [string, string] => variable[1] !== undefined,
  );
  execve("/proc/self/exe", commandLine(), {
    ...Object.fromEntries(variables),
    // execve keeps the process id; an inherited value of somebody else's does not count.
    [GUARD]: String(process.pid),
  });
}

/** A compiled executable is the program; otherwise Bun runs a script that has to be named. */
function commandLine(): string[] {
  const isCompiled = Bun.main.startsWith("/$bunfs/");
  return [process.argv0, ...(isCompiled ? [] : [Bun.main]), ...process.argv.slice(2)];
}
