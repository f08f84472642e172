// The place where the new root is put together before anybody sees it.
//
// From Linux 6.15 mounts are simply kept detached. Older kernels take layers and mount points only
// from attached mounts: they go below a private tmpfs, from which the finished root is moved away.
// Private, so that neither the moving is refused nor the clean-up reaches copies of the mounts.

import { isErrno } from "../shared/error.ts";
import { MNT, MS, O } from "../shared/sys/constants.ts";
import { mkdirat, mkdiratIfMissing, rmdirat } from "../shared/sys/directory.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat } from "../shared/sys/file.ts";
import {
  fsconfigCreate,
  fsconfigString,
  fsmount,
  fsopen,
  mount,
  moveMount,
  umount2,
} from "../shared/sys/mount.ts";

export class Assembly implements Disposable {
  readonly #scratch: string | null;
  readonly #held: Fd[] = [];

  /** `run` is where the scratch directory `name` goes when the kernel needs one. */
  constructor(detachedTrees: boolean, run: string, name = "prepare-root") {
    this.#scratch = detachedTrees ? null : `${run}/${name}`;
    if (this.#scratch === null) return;
    mkdiratIfMissing(null, this.#scratch, 0o700);
    mount("prepare-root", this.#scratch, "tmpfs", MS.NOSUID | MS.NODEV, "mode=0700");
    mount(null, this.#scratch, null, MS.PRIVATE, null);
  }

  /** Makes a new mount usable as a layer and as a mount point; returns it. Closed with the assembly. */
  hold(fd: Fd): Fd {
    this.#held.push(fd);
    if (this.#scratch !== null) {
      const place = `${this.#scratch}/${this.#held.length}`;
      mkdirat(null, place, 0o700);
      moveMount(fd, null, place);
    }
    return fd;
  }

  /** upper/ and work/ in memory, for an overlay that is forgotten at reboot. */
  makeTmpfs(): Fd {
    using context = fsopen("tmpfs");
    fsconfigString(context, "mode", "0755");
    fsconfigCreate(context);
    return this.hold(fsmount(context, 0));
  }

  /** A directory that stays open as long as the assembly. */
  openDirectory(parent: Fd, path: string): Fd {
    const fd = openat(parent, path, O.RDONLY | O.DIRECTORY);
    // Not a mount of ours: only to be closed later.
    this.#held.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#held) fd.close();
    if (this.#scratch === null) return;
    try {
      umount2(this.#scratch, MNT.DETACH);
      rmdirat(null, this.#scratch);
    } catch (error) {
      // Left-overs in /run are harmless, and must not hide the error that is on its way.
      if (!isErrno(error, "EINVAL", "ENOENT", "EBUSY")) throw error;
    }
  }
}
