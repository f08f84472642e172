// Carries out a mount plan: image, overlays, /sysroot, /etc and /var become one tree.
//
// Invariant: nothing is attached where others see it before `attach`; whoever fails or refuses on the
// way leaves the system as it was.

import { shortId } from "../shared/bytes/hex.ts";
import { isErrno, StateError } from "../shared/error.ts";
import { fchmod, fchownat } from "../shared/sys/attributes.ts";
import { MOUNT_ATTR, O } from "../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../shared/sys/directory.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat } from "../shared/sys/file.ts";
import { mountSetattr, moveMount, openTree } from "../shared/sys/mount.ts";
import { fstat } from "../shared/sys/stat.ts";
import { Assembly } from "./assembly.ts";
import { mountErofs } from "./erofs.ts";
import type { KernelFeatures } from "./kernel-features.ts";
import type { Attachment, MountPlan } from "./mount-plan.ts";
import { createOverlay } from "./overlay.ts";
import type { RootImage } from "./root-image.ts";

/** What the root is made of: a verified image, or (tests) a plain directory. */
export type RootBase =
  | { readonly kind: "image"; readonly image: RootImage }
  | { readonly kind: "directory"; readonly path: string };

export interface MountedRoot extends Disposable {
  /** The finished tree, not visible anywhere yet. */
  readonly root: Fd;
  readonly erofs: KernelFeatures["erofs"] | "none";
  /** Puts the tree on `target`, over whatever is mounted there. */
  readonly attach: (target: string) => void;
}

interface Site {
  readonly assembly: Assembly;
  readonly features: KernelFeatures;
  readonly plan: MountPlan;
  /** The physical root. */
  readonly sysroot: Fd;
}

/** `run` is where older kernels get their scratch mounts. */
export function mountRoot(
  base: RootBase,
  plan: MountPlan,
  sysroot: Fd,
  features: KernelFeatures,
  run: string,
): MountedRoot {
  try {
    return assemble(base, plan, sysroot, features, run);
  } catch (error) {
    // Some kernels count a file-backed EROFS as a level of stacking, of which two are allowed, and
    // an overlay on the image is one too many. A loop device does not count.
    if (features.erofs !== "file" || !stacksOverlays(plan) || !isErrno(error, "EINVAL")) {
      throw error;
    }
    return assemble(base, plan, sysroot, { ...features, erofs: "loop" }, run);
  }
}

function stacksOverlays(plan: MountPlan): boolean {
  return plan.transientSource !== null || plan.attachments.some(({ kind }) => kind === "overlay");
}

function assemble(
  base: RootBase,
  plan: MountPlan,
  sysroot: Fd,
  features: KernelFeatures,
  run: string,
): MountedRoot {
  using stack = new DisposableStack();
  const assembly = stack.use(new Assembly(features.detachedTrees, run));
  const site: Site = { assembly, features, plan, sysroot };
  const { erofs, mount } = mountBase(base, site);
  const root = plan.transientSource === null ? mount : coverRoot(mount, plan.transientSource, site);
  for (const attachment of plan.attachments) attachBelow(root, attachment, mount, site);
  const resources = stack.move();
  return {
    root,
    erofs,
    attach: (target) => moveMount(root, null, target),
    [Symbol.dispose]: () => resources.dispose(),
  };
}

function mountBase(base: RootBase, site: Site): { mount: Fd; erofs: MountedRoot["erofs"] } {
  const { assembly, features, plan, sysroot } = site;
  if (base.kind === "directory") {
    const clone = openTree(null, base.path, { clone: true });
    mountSetattr(clone, { set: MOUNT_ATTR.RDONLY });
    return { mount: assembly.hold(clone), erofs: "none" };
  }
  const { backing, mount: lower } = mountErofs(base.image.fd, features.erofs);
  const layers = {
    source: plan.source,
    lower: assembly.hold(lower),
    data: assembly.openDirectory(sysroot, "composefs/objects"),
    verity: base.image.enforced,
  };
  const mount = createOverlay(layers, features, MOUNT_ATTR.RDONLY);
  return { mount: assembly.hold(mount), erofs: backing };
}

/** A writable layer in memory on top of the whole image. */
function coverRoot(lower: Fd, source: string, { assembly, features }: Site): Fd {
  const upper = makeUpper(assembly.makeTmpfs(), lower, assembly);
  return assembly.hold(createOverlay({ source, lower, upper }, features, 0));
}

function attachBelow(root: Fd, attachment: Attachment, image: Fd, site: Site): void {
  using mount = makeMount(attachment, image, site);
  try {
    moveMount(mount, root, attachment.at);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    if (attachment.kind === "sysroot") return;
    throw missingMountPoint(attachment.at, site, cause);
  }
}

function missingMountPoint(at: string, { plan }: Site, cause: unknown): StateError {
  return new StateError(
    "missing",
    `The image of deployment ${shortId(plan.id)} has no directory "/${at}": build it with one`,
    {},
    { cause },
  );
}

function makeMount(attachment: Attachment, image: Fd, site: Site): Fd {
  const { features, sysroot } = site;
  switch (attachment.kind) {
    case "sysroot":
      return cloneSysroot(sysroot);
    case "bind":
      return cloneState(attachment.from, attachment.at, site);
    case "overlay": {
      const { source } = attachment;
      const layers = { source, ...overlayLayers(attachment, image, site) };
      return createOverlay(layers, features, MOUNT_ATTR.NODEV);
    }
  }
}

/** Flags are set, not inherited: systemd mounts the root differently when it found it by itself. */
function cloneSysroot(sysroot: Fd): Fd {
  const clone = openTree(sysroot, "", { clone: true });
  mountSetattr(clone, {
    set: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NODEV,
    clear: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC,
  });
  return clone;
}

function cloneState(from: string, at: "etc" | "var", site: Site): Fd {
  const clone = inState(from, site, () => openTree(site.sysroot, from, { clone: true }));
  const inherited = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC | MOUNT_ATTR.NODEV;
  // Device nodes in /etc are never legitimate; in /var people build whole systems.
  const set = at === "etc" ? MOUNT_ATTR.NODEV : 0;
  mountSetattr(clone, { set, clear: inherited & ~set });
  return clone;
}

function overlayLayers(
  { at, lower, upper }: Extract<Attachment, { kind: "overlay" }>,
  image: Fd,
  site: Site,
) {
  const { assembly } = site;
  // The image and not the root that covers it: overlayfs allows two levels, this is the second.
  const below = lower === null ? openInImage(image, at, site) : openInState(lower, site);
  const top = upper === null ? assembly.makeTmpfs() : openInState(upper, site);
  return { lower: below, upper: makeUpper(top, below, assembly) };
}

/** upper/ and work/ below `parent`; a new upper/ looks as `model`, whose place it takes. */
function makeUpper(parent: Fd, model: Fd, assembly: Assembly): { upper: Fd; work: Fd } {
  const isNew = mkdiratIfMissing(parent, "upper", 0o755);
  mkdiratIfMissing(parent, "work", 0o700);
  const upper = assembly.openDirectory(parent, "upper");
  if (isNew) {
    const { gid, mode, uid } = fstat(model);
    fchownat(parent, "upper", uid, gid);
    fchmod(upper, mode & 0o7777);
  }
  return { upper, work: assembly.openDirectory(parent, "work") };
}

function openInImage(image: Fd, at: string, site: Site): Fd {
  try {
    return site.assembly.openDirectory(image, at);
  } catch (cause) {
    if (isErrno(cause, "ENOENT", "ENOTDIR")) throw missingMountPoint(at, site, cause);
    throw cause;
  }
}

function openInState(path: string, site: Site): Fd {
  return inState(path, site, () => site.assembly.openDirectory(site.sysroot, path));
}

/** For lookups in the state directory: what is missing there gets a message of its own. */
function inState<T>(path: string, { plan }: Site, look: () => T): T {
  try {
    return look();
  } catch (cause) {
    if (isErrno(cause, "ENOENT", "ENOTDIR")) throw missingState(plan.id, path, cause);
    throw cause;
  }
}

/** Refuses a deployment without its directory before anything is mounted. */
export function checkStateDir(sysroot: Fd, plan: MountPlan): void {
  try {
    openat(sysroot, plan.stateDir, O.PATH | O.DIRECTORY).close();
  } catch (cause) {
    if (isErrno(cause, "ENOENT", "ENOTDIR")) throw missingState(plan.id, plan.stateDir, cause);
    throw cause;
  }
}

function missingState(id: string, path: string, cause: unknown): StateError {
  const text = path.replace(id, shortId(id));
  return new StateError(
    "missing",
    `Deployment ${shortId(id)} is incomplete: its directory "${text}" is missing on the root disk; choose another boot entry`,
    {},
    { cause },
  );
}
