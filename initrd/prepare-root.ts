// The whole job, top to bottom: what is trusted, which root, may it, mount, state, hand over.
//
// What decides (settings, keys, revocations) lies in the initramfs and is read before the disk is looked at.
// Everything here is synchronous: mounts and namespaces belong to this one thread.

import { shortId } from "../shared/bytes/hex.ts";
import {
  describeError,
  isErrno,
  StateError,
  UnsupportedError,
  UsageError,
} from "../shared/error.ts";
import type { TrustAnchors } from "../shared/format/trust/anchors.ts";
import { MOUNT_ATTR, MS, O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { openat, openatIfExists, readAll } from "../shared/sys/file.ts";
import { mount, mountSetattr, openTree } from "../shared/sys/mount.ts";
import { fstat, fstatatIfExists, fstatfs } from "../shared/sys/stat.ts";
import { Assembly } from "./assembly.ts";
import { parseBootParameters } from "./boot-parameters.ts";
import { readFirstProgram } from "./first-program.ts";
import { type KernelFeatures, probeKernel } from "./kernel-features.ts";
import { describePlan, type MountPlan, planMounts } from "./mount-plan.ts";
import { checkStateDir, type MountedRoot, mountRoot, type RootBase } from "./mount-root.ts";
import type { Options } from "./options.ts";
import { findArgument, isAndroidBoot } from "./ostree/kernel-arguments.ts";
import { prepareOstreeRoot } from "./ostree/prepare.ts";
import { markReached } from "./reached-mark.ts";
import { openRootImage } from "./root-image.ts";
import { DEFAULT_SETTINGS, parseSettings, type Settings } from "./settings.ts";
import { judgeStart, readInitramfsTrust, refuseUnsigned } from "./trust.ts";
import { describeTrust, makeTrustRecord, writeTrustRecord } from "./trust-record.ts";
import { linkVolatileRoot } from "./volatile-root.ts";

export interface Outcome {
  /** null: neither composefs nor ostree starts this disk, and nothing was done. */
  readonly id: string | null;
  /** What was decided, for the journal. */
  readonly text: string;
  /** Not worth refusing for, but somebody should know. */
  readonly warnings: readonly string[];
}

/** In an initramfs a root without a first program is refused, and systemd is told about the disk. */
export interface Surroundings {
  readonly early: boolean;
  /** Nobody else mounts anything: this is PID 1, and what comes next is the root's own init. */
  readonly isInit?: boolean;
  readonly probe?: () => KernelFeatures;
}

const CONFIG_LIMIT_BYTES = 1 << 20;
const CMDLINE_LIMIT_BYTES = 1 << 16;

/** Throws for every refusal; then nothing was attached. */
export function prepareRoot(options: Options, surroundings: Surroundings): Outcome {
  const cmdline = options.cmdline ?? readCmdline();
  const parameters = parseBootParameters(cmdline);
  const anchors = readInitramfsTrust(options.trust);
  if (options.rootFs !== null) refuseUnsigned(anchors, "--root-fs names a directory");
  using sysroot = openSysroot(options.sysroot);
  if (parameters.composefs.length === 0) {
    if (!isOstreeBoot(cmdline, sysroot)) return withoutKarg(sysroot, anchors);
    refuseComposefsOptions(options);
    return prepareOstreeRoot({ ...options, cmdline }, surroundings);
  }

  const settings = readSettings(options.config);
  const features = (surroundings.probe ?? probeKernel)();
  using disk = openDisk(sysroot, options, features);
  const started = performance.now();
  using image = openRootImage(disk.fd, options.sysroot, parameters.composefs, (karg) =>
    judgeStart(karg, disk.fd, anchors, options),
  );
  if (image.trust.verityRequired && !features.verity) throw signedWithoutVerity();
  const checked = performance.now();
  const plan = planMounts(image.karg.digest, settings, parameters.volatile);
  checkStateDir(disk.fd, plan);
  const trust = makeTrustRecord(plan.id, image.trust, image.enforced);
  const warnings = [...trust.warnings];
  if (plan.needsWritableState) warnings.push(...makeWritable(disk, options));
  const base: RootBase =
    options.rootFs === null
      ? { kind: "image", image }
      : { kind: "directory", path: options.rootFs };
  using mounted = mountRoot(base, plan, disk.fd, features, options.run);
  const assembled = performance.now();
  readFirstProgram(mounted.root, parameters.init, !surroundings.early);
  if (surroundings.early) linkVolatileRoot(sysroot, options.sysroot, options.run);
  mounted.attach(options.target ?? options.sysroot);
  if (surroundings.early) markReached(disk.fd, plan.id);
  const phases = describePhases({
    image: checked - started,
    mounts: assembled - checked,
    init: performance.now() - assembled,
  });
  if (surroundings.early || options.target !== null) {
    warnings.push(...writeTrustRecord(options.run, options.target !== null, trust));
  }
  const text = `${describe(plan, image.enforced, mounted)} ${describeTrust(trust)} ${phases}`;
  return { id: plan.id, text, warnings };
}

function readSettings(path: string): Settings {
  using file = path === "" ? null : openatIfExists(null, path, O.RDONLY);
  if (file === null) return DEFAULT_SETTINGS;
  return parseSettings(Buffer.from(readAll(file, CONFIG_LIMIT_BYTES)).toString("utf8"), path);
}

export function readCmdline(): string {
  using file = openat(null, "/proc/cmdline", O.RDONLY);
  return Buffer.from(readAll(file, CMDLINE_LIMIT_BYTES)).toString("utf8").trim();
}

function openSysroot(path: string): Fd {
  try {
    return openat(null, path, O.PATH | O.DIRECTORY);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new StateError(
      "missing",
      `The root disk is not mounted: there is no directory "${path}"; check root= on the kernel command line`,
      {},
      { cause },
    );
  }
}

/** An Android boot loader also starts ordinary systems, so there the disk is asked, too. */
function isOstreeBoot(cmdline: string, sysroot: Fd): boolean {
  if (findArgument(cmdline, "ostree") !== null) return true;
  return isAndroidBoot(cmdline) && fstatatIfExists(sysroot, "ostree/root.a") !== null;
}

function refuseComposefsOptions({ rootFs, target }: Options): void {
  if (rootFs === null && target === null) return;
  throw new UsageError("conflict", "--root-fs and --target are not for ostree deployments");
}

/** The same initramfs also starts ordinary systems; only a disk with images only is refused. */
function withoutKarg(sysroot: Fd, anchors: TrustAnchors | null): Outcome {
  refuseUnsigned(anchors, "No composefs= on the kernel command line");
  const isSystem = ["usr/lib/os-release", "etc/os-release"].some(
    (path) => fstatatIfExists(sysroot, path) !== null,
  );
  if (!isSystem) {
    throw new StateError(
      "missing",
      'No composefs= on the kernel command line, so nothing says which deployment to start: choose another boot entry, or add "composefs=<id>" (the ids are the names in state/deploy on the root disk)',
    );
  }
  const text = "nothing to do: no composefs=, and the root disk holds an ordinary system";
  return { id: null, text, warnings: [] };
}

/** Otherwise the advice would be a "?", which does not count here. */
function signedWithoutVerity(): UnsupportedError {
  return new UnsupportedError(
    "feature",
    "The kernel cannot check files by fs-verity (overlayfs verity=require needs Linux 6.6), as signed images want: use a newer one, or set allow-missing-verity=true in the initramfs' trust.conf",
  );
}

/** The mount of the root disk that the new root's own are copied from. */
interface Disk extends Disposable {
  readonly fd: Fd;
}

/**
 * Without a target the mount is ours, and what is mounted goes over it. With one the system runs from
 * it, read-only and shared, and must not notice nor be kept busy: then it is a copy, which is gone at the end.
 */
function openDisk(
  sysroot: Fd,
  { run, sysroot: path, target }: Options,
  features: KernelFeatures,
): Disk {
  if (target === null) {
    stopPropagation(sysroot, path);
    return { fd: sysroot, [Symbol.dispose]: () => {} };
  }
  using stack = new DisposableStack();
  const place = stack.use(new Assembly(features.detachedTrees, run, "prepare-root-disk"));
  const copy = openTree(sysroot, "", { clone: true });
  const fd = place.hold(copy);
  mountSetattr(fd, { clear: MOUNT_ATTR.RDONLY, propagation: MS.PRIVATE });
  const resources = stack.move();
  return { fd, [Symbol.dispose]: () => resources.dispose() };
}

/** With "ro" on the command line the whole file system is read-only, and /etc and /var would stay so. */
function makeWritable({ fd }: Disk, { sysroot: path, target }: Options): string[] {
  if (!fstatfs(fd).readOnly) return [];
  if (target !== null) return ["the root disk is read-only, and so are /etc and /var"];
  try {
    mount(null, path, null, MS.REMOUNT, null);
    return [];
  } catch (error) {
    if (!isErrno(error, "EROFS", "EACCES", "EPERM", "EINVAL")) throw error;
    return [
      `the root disk cannot be made writable, so /etc and /var are read-only: ${describeError(error)}`,
    ];
  }
}

/**
 * Copies of one shared mount hear of each other's mounts: whatever is mounted in /var later would
 * appear in /sysroot as well, and the new root itself on its own /sysroot.
 */
function stopPropagation(sysroot: Fd, path: string): void {
  if (fstat(sysroot).isMountRoot) mount(null, path, null, MS.PRIVATE, null);
}

function describe(plan: MountPlan, enforced: boolean, mounted: MountedRoot): string {
  const verity = enforced ? "require" : "off";
  return `mounted composefs:${shortId(plan.id)} verity=${verity} ${describePlan(plan)} erofs=${mounted.erofs}`;
}

/** Where the time went: reading the image, mounting, reading the first program. */
function describePhases(phasesMs: Readonly<Record<string, number>>): string {
  const parts = Object.entries(phasesMs).map(([name, ms]) => `${name}=${Math.round(ms)}ms`);
  return parts.join(" ");
}
