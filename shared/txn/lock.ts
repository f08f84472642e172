// One bootc at a time: a lock file under flock. The file stays; the lock goes with the process.

import { StateError } from "../error.ts";
import { O } from "../sys/constants.ts";
import type { Fd } from "../sys/fd.ts";
import { flock, openat } from "../sys/file.ts";

/** Held until disposed of. */
export interface Lock extends Disposable {
  readonly path: string;
}

/**
 * Takes the lock at `path` (its directory must exist) or throws StateError("locked") at once. With `wait` it
 * blocks until the others are done.
 */
export function acquireLock(path: string, options: { readonly wait?: boolean } = {}): Lock {
  const fd: Fd = openat(null, path, O.RDWR | O.CREAT | O.NOFOLLOW, 0o600);
  let held = false;
  try {
    held = flock(fd, "exclusive", { wait: options.wait === true });
  } finally {
    if (!held) fd.close();
  }
  if (!held) {
    throw new StateError(
      "locked",
      `Another bootc is running: it holds the lock "${path}"; wait until it has finished`,
      { path },
    );
  }
  return { path, [Symbol.dispose]: () => fd.close() };
}
