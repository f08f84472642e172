// Mounts an ostree deployment's image: EROFS below overlayfs with the repository's objects as data.
//
// The layers are named by paths and not, as elsewhere here, by descriptors: the mount table of a booted
// ostree system shows these very paths, whoever mounted them.

import { shortId } from "../../shared/bytes/hex.ts";
import { FormatError, IntegrityError, isErrno, UnsupportedError } from "../../shared/error.ts";
import { MNT, MOUNT_ATTR, O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat } from "../../shared/sys/file.ts";
import { openFileSystem } from "../../shared/sys/file-system.ts";
import {
  fsconfigCreate,
  fsconfigString,
  fsmount,
  moveMount,
  umount2,
} from "../../shared/sys/mount.ts";
import { measureVerity } from "../../shared/sys/verity.ts";
import { mountErofs } from "../erofs.ts";
import { type KernelFeatures, MISSING_FILE_SYSTEM_ADVICE } from "../kernel-features.ts";
import { IMAGE_NAME, type OstreeStep } from "./plan.ts";

type ImageStep = Extract<OstreeStep, { kind: "image" }>;

/** Mounts on `step.at`; on `step.scratch` nothing stays. */
export function mountImage(step: ImageStep, features: KernelFeatures): void {
  // NONBLOCK: a FIFO of that name must not stop the start for ever.
  using image = openat(null, step.image, O.RDONLY | O.NONBLOCK);
  if (step.digest !== null) checkDigest(image, step.digest);
  using lower = mountLower(image, features);
  moveMount(lower, null, step.scratch);
  try {
    using context = openFileSystem("overlay", MISSING_FILE_SYSTEM_ADVICE);
    setLayers(context, step, features);
    fsconfigCreate(context);
    using overlay = fsmount(context, step.readOnly ? MOUNT_ATTR.RDONLY : 0);
    moveMount(overlay, null, step.at);
  } finally {
    umount2(step.scratch, MNT.DETACH);
  }
}

function mountLower(image: Fd, features: KernelFeatures): Fd {
  try {
    return mountErofs(image, features.erofs).mount;
  } catch (cause) {
    // EIO: fs-verity has found a changed block.
    if (!isErrno(cause, "EINVAL", "EUCLEAN", "EIO")) throw cause;
    throw new FormatError(
      "bad-magic",
      `The deployment's image "${IMAGE_NAME}" is damaged: choose another boot entry`,
      {},
      { cause },
    );
  }
}

/** The kernel checks every later read of the image against what it measured here. */
function checkDigest(image: Fd, expected: string): void {
  const found = measure(image);
  if (found === expected) return;
  throw new IntegrityError(
    found === null ? "verity-missing" : "digest-mismatch",
    found === null
      ? "The image is not protected by fs-verity, which a signature needs: deploy it again on a file system with fs-verity"
      : `The image is not the one that was signed: its fs-verity digest is ${shortId(found)}, signed was ${shortId(expected)}; choose another boot entry`,
    { expected, found: found ?? undefined },
  );
}

function measure(image: Fd): string | null {
  try {
    return measureVerity(image)?.digest ?? null;
  } catch (error) {
    if (error instanceof UnsupportedError) return null;
    throw error;
  }
}

function setLayers(context: Fd, step: ImageStep, features: KernelFeatures): void {
  const { objects, requireVerity, scratch, upper } = step;
  fsconfigString(context, "source", "composefs");
  fsconfigString(context, "metacopy", "on");
  fsconfigString(context, "redirect_dir", "on");
  if (requireVerity) {
    if (!features.verity) {
      throw new UnsupportedError(
        "feature",
        "The kernel cannot check files by fs-verity, as prepare-root.conf wants (overlayfs verity=require needs Linux 6.6): use a newer one",
      );
    }
    fsconfigString(context, "verity", "require");
  }
  if (features.layers === "append") {
    fsconfigString(context, "lowerdir+", scratch);
    fsconfigString(context, "datadir+", objects);
  } else {
    const separator = features.layers === "data-only" ? "::" : ":";
    fsconfigString(context, "lowerdir", `${escapePath(scratch)}${separator}${escapePath(objects)}`);
  }
  if (upper !== null) {
    fsconfigString(context, "upperdir", upper.upper);
    fsconfigString(context, "workdir", upper.work);
  }
}

/** Within a list of directories, overlayfs takes ":" and "\" for itself. */
function escapePath(path: string): string {
  return path.replaceAll(/[\\:]/g, "\\$&");
}
