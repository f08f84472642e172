// Mounting a composefs image: EROFS from the file (Linux 6.12) or a loop device, then overlayfs over it
// with the object directories as data, in whichever way this kernel takes them (composefs.md 5.1).
//
// The EROFS mount needs a place for a moment, because kernels before 6.15 take no detached mount as a
// layer; it is gone from the mount table before the function returns, whatever happens.
// What the kernel can do is asked as in the initramfs (shared/sys/file-system.ts); the layers differ: paths
// with any number of object directories here, open descriptors and one there (initrd/overlay.ts).

import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FormatError, IntegrityError, isErrno, UnsupportedError } from "../../shared/error.ts";
import { ComposefsHeader, HEADER_FLAG_ACL } from "../../shared/format/erofs/layout.ts";
import { MNT, MOUNT_ATTR, O } from "../../shared/sys/constants.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, pread } from "../../shared/sys/file.ts";
import {
  type OverlayFeatures,
  openFileSystem,
  probeOverlay,
} from "../../shared/sys/file-system.ts";
import { attachLoop } from "../../shared/sys/loop.ts";
import {
  fsconfigCreate,
  fsconfigFlag,
  fsconfigString,
  fsmount,
  moveMount,
  setIdMapping,
  umount2,
} from "../../shared/sys/mount.ts";
import { measureVerity } from "../../shared/sys/verity.ts";
import type { MountOptions } from "./mount-options.ts";

/** What the mount table shows as the tool's device. */
const SOURCE = "composefs";
/** What to do about a file system type that the kernel does not know. */
const MISSING_FILE_SYSTEM_ADVICE = "load its module first";

/** How an image whose digest needs no further check is mounted. */
interface ImageLayers extends Omit<MountOptions, "digest"> {
  /** What the mount table shows as the device. */
  readonly source: string;
}

/** Mounts the image file `image` on the directory `target`. */
export function mountImage(image: string, target: string, options: MountOptions): void {
  using fd = openat(null, image, O.RDONLY);
  if (options.digest !== null) requireDigest(fd, options.digest);
  mountOpenImage(fd, image, target, { ...options, source: SOURCE });
}

/** The same with a file that is open and was checked; `image` is its name for messages. */
export function mountOpenImage(fd: Fd, image: string, target: string, options: ImageLayers): void {
  using erofs = createErofs(fd, readFlags(fd, image));
  if (options.idmap !== null) {
    using namespace = openat(null, options.idmap, O.RDONLY | O.NOCTTY);
    setIdMapping(erofs, namespace);
  }
  const place = mkdtempSync(join(tmpdir(), ".composefs."));
  try {
    moveMount(erofs, null, place);
    try {
      using overlay = createOverlay(place, options);
      moveMount(overlay, null, target);
    } finally {
      umount2(place, MNT.DETACH);
    }
  } finally {
    rmdirSync(place);
  }
}

/** Test suites of other projects look for these two messages. */
function requireDigest(fd: Fd, digest: string): void {
  let found: string | undefined;
  try {
    found = measureVerity(fd)?.digest;
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
  }
  if (found === undefined) {
    throw new IntegrityError("verity-missing", "Image has no fs-verity");
  }
  if (found === digest) return;
  const message = `Image has wrong fs-verity: "${found}", not "${digest}"`;
  throw new IntegrityError("digest-mismatch", message);
}

function readFlags(fd: Fd, image: string): number {
  const header = new Uint8Array(ComposefsHeader.sizeBytes);
  try {
    if (pread(fd, header, 0) !== header.length)
      throw new FormatError("truncated", "It is too short");
    return ComposefsHeader.decode(header).flags;
  } catch (cause) {
    throw new FormatError("bad-value", `"${image}" is not a composefs image`, {}, { cause });
  }
}

/** A detached read-only mount. */
function createErofs(image: Fd, flags: number): Fd {
  try {
    return mountErofs(`/proc/self/fd/${image.number}`, flags);
  } catch (error) {
    // What the kernel says when it wants a block device: too old, or built without it.
    if (!isErrno(error, "ENOTBLK")) throw error;
  }
  const loop = attachLoop(image);
  using _device = loop.fd;
  return mountErofs(loop.device, flags);
}

function mountErofs(source: string, flags: number): Fd {
  using context = openFileSystem("erofs", MISSING_FILE_SYSTEM_ADVICE);
  fsconfigString(context, "source", source);
  fsconfigFlag(context, "ro");
  // Without ACLs in the image the kernel need not look for them at every file.
  if ((flags & HEADER_FLAG_ACL) === 0) fsconfigFlag(context, "noacl");
  fsconfigCreate(context);
  return fsmount(context, MOUNT_ATTR.RDONLY);
}

/** A detached mount of overlayfs over the image that is mounted at `lower`. */
function createOverlay(lower: string, options: ImageLayers): Fd {
  const features = probeOverlay(MISSING_FILE_SYSTEM_ADVICE);
  using context = openFileSystem("overlay", MISSING_FILE_SYSTEM_ADVICE);
  fsconfigString(context, "source", options.source);
  fsconfigString(context, "metacopy", "on");
  fsconfigString(context, "redirect_dir", "on");
  if (features.verity && options.verity !== "off") fsconfigString(context, "verity", "require");
  if (!features.verity && options.verity === "require") {
    const message =
      "The kernel cannot check files by fs-verity (overlayfs verity=require needs Linux 6.6)";
    throw new UnsupportedError("feature", message);
  }
  using opened = new DisposableStack();
  setLowerLayers(context, opened, lower, options.basedirs, features.layers);
  if (options.upper !== null) {
    const { upperdir, workdir } = options.upper;
    fsconfigString(context, "upperdir", plainPath(opened, upperdir, features.layers));
    fsconfigString(context, "workdir", plainPath(opened, workdir, features.layers));
  }
  fsconfigCreate(context);
  return fsmount(context, options.attributes);
}

function setLowerLayers(
  context: Fd,
  opened: DisposableStack,
  lower: string,
  basedirs: readonly string[],
  layers: OverlayFeatures["layers"],
): void {
  if (layers === "append") {
    fsconfigString(context, "lowerdir+", lower);
    for (const path of basedirs) fsconfigString(context, "datadir+", path);
    return;
  }
  const separator = layers === "data-only" ? "::" : ":";
  const paths = [lower, ...basedirs].map((path) => plainPath(opened, path, layers));
  fsconfigString(context, "lowerdir", paths.join(separator));
}

/** Kernels before 6.7 give commas, colons and backslashes a meaning: there a path through /proc. */
function plainPath(
  opened: DisposableStack,
  path: string,
  layers: OverlayFeatures["layers"],
): string {
  if (layers === "append") return path;
  return `/proc/self/fd/${opened.use(openDirectory(null, `${path}/`)).number}`;
}
