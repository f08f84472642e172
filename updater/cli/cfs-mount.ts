// Mounting an image of the repository for `cfs mount` and `cfs oci mount`: the object store is the data
// directory. In a secure repository the kernel has to check every file; in an insecure one, as with "?" on
// the kernel command line, files are read as they are.

import { resolve } from "node:path";
import { StateError, UsageError } from "../../shared/error.ts";
import { openImage } from "../../shared/store/images.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { MOUNT_ATTR } from "../../shared/sys/constants.ts";
import { mountOpenImage } from "../composefs/image-mount.ts";

export interface MountFlags {
  readonly upperdir?: string | undefined;
  readonly workdir?: string | undefined;
  readonly readWrite?: true | undefined;
}

export interface StoredMount {
  readonly digest: string;
  /** Shown as the mount's device, "composefs:NAME". */
  readonly name: string;
  readonly directory: string;
  readonly flags: MountFlags;
}

/** Descriptions of the options. */
export const MOUNT_HELP = {
  upperdir: "where overlayfs keeps changes",
  workdir: "for overlayfs' own use, beside --upperdir",
  readWrite: "let changes be made; needs --upperdir",
} as const;

export function mountStoredImage(repo: Repository, mount: StoredMount): void {
  const { upperdir, workdir, readWrite } = mount.flags;
  if ((upperdir === undefined) !== (workdir === undefined)) {
    throw new UsageError("conflict", "Options --upperdir and --workdir need each other");
  }
  if (readWrite === true && upperdir === undefined) {
    throw new UsageError("conflict", "Option --read-write needs --upperdir and --workdir");
  }
  using fd = openImage(repo, mount.digest).fd;
  try {
    mountOpenImage(fd, `images/${mount.digest}`, mount.directory, {
      source: `composefs:${mount.name}`,
      basedirs: [resolve(repo.path, "objects")],
      verity: repo.secure ? "require" : "off",
      attributes: readWrite === true ? 0 : MOUNT_ATTR.RDONLY,
      upper: upperdir === undefined || workdir === undefined ? null : { upperdir, workdir },
      idmap: null,
    });
  } catch (cause) {
    throw new StateError("command-failed", `Cannot mount image "${mount.name}"`, {}, { cause });
  }
}
