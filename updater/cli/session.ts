// What a verb needs from a booted machine, opened in the right order (bootc.md 1.1 "prepare for write"):
// is this a booted system, are we root, private mounts, /sysroot writable, one verb at a time, the boot
// partition, the repository.

import { join } from "node:path";
import { describeError, StateError } from "../../shared/error.ts";
import { openRepository } from "../../shared/store/repository.ts";
import { MOUNT_ATTR, MS } from "../../shared/sys/constants.ts";
import { mkdiratIfMissing } from "../../shared/sys/directory.ts";
import { mount, mountSetattr, openTree } from "../../shared/sys/mount.ts";
import { acquireLock } from "../../shared/txn/lock.ts";
import { isReadOnlyDevice } from "../boot/block-device.ts";
import { openBootDirectory } from "../boot/boot-directory.ts";
import { type BootDirectory, borrowBootDirectory, makeEspLayout } from "../boot/boot-layout.ts";
import { findMount } from "../boot/mount-table.ts";
import { readSystem, type System } from "../boot/system.ts";
import type { Deployer } from "../deploy/deployer.ts";
import { type BootedImage, detectEnvironment } from "../deploy/environment.ts";
import { type OstreeVerb, refuseOnOstree } from "./ostree-refusal.ts";
import { enterPrivateMounts } from "./private-mounts.ts";

export interface Session extends Deployer, Disposable {
  readonly booted: BootedImage;
  /** What is broken, but did not keep this session from being opened. */
  readonly problems: readonly string[];
}

/**
 * Re-executes the program in private mounts. `mode` "read" leaves /sysroot as it is, does not lock,
 * and makes do without a boot partition. On an ostree system nothing is opened: the error names the
 * command that does the same there. `lock` is for the system's own units; `onWritable` comes before waiting for it.
 */
export function openSession(
  mode: "read" | "write",
  verb: OstreeVerb,
  options: {
    readonly lock?: "now" | "wait" | "none";
    readonly onWritable?: (system: System) => void;
  } = {},
): Session {
  const before = readSystem();
  const booted = requireComposefs(before, verb);
  requireRoot();
  enterPrivateMounts();
  using resources = new DisposableStack();
  const system = readSystem();
  if (mode === "write") {
    makeWritable(system);
    options.onWritable?.(system);
    if (options.lock !== "none") {
      resources.use(acquireVerbLock(system, { wait: options.lock === "wait" }));
    }
  }
  const problems: string[] = [];
  const boot = resources.use(openBoot(system, mode, problems));
  // Repositories of the first releases get their meta.json here.
  const repo = resources.use(
    openRepository(null, join(system.physicalRoot, "composefs"), { upgrade: true }),
  );
  const owned = resources.move();
  return { system, booted, boot, repo, problems, [Symbol.dispose]: () => owned.dispose() };
}

function openBoot(system: System, mode: "read" | "write", problems: string[]): BootDirectory {
  try {
    return openBootDirectory(system, mode);
  } catch (error) {
    if (mode === "write") throw error;
    problems.push(`Boot entries are unknown: ${describeError(error)}`);
    // Nothing is there, so everything that reads it finds nothing.
    const path = join(system.runDirectory, "bootc/mounts/none");
    return borrowBootDirectory(path, makeEspLayout("systemd", path));
  }
}

/** For verbs that look at their arguments first. UnsupportedError on an ostree system. */
export function rejectOstree(verb: OstreeVerb): void {
  const system = readSystem();
  if (detectEnvironment(system, process.env).kind === "ostree") throw refuseOnOstree(system, verb);
}

export function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new StateError("not-root", 'This command must be run as the root user, e.g. with "sudo"');
}

/** One verb that changes something at a time, installations included. */
export function acquireVerbLock(
  system: System,
  options: { readonly wait?: boolean } = {},
): Disposable {
  mkdiratIfMissing(null, join(system.runDirectory, "bootc"), 0o755);
  return acquireLock(join(system.runDirectory, "bootc/lock"), options);
}

/** For verbs that need no session. StateError or UnsupportedError anywhere else. */
export function requireComposefs(system: System, verb: OstreeVerb): BootedImage {
  const environment = detectEnvironment(system, process.env);
  switch (environment.kind) {
    case "composefs":
      return environment.booted;
    case "container":
      throw new StateError(
        "in-container",
        "Detected container; this command requires a booted host system",
      );
    case "ostree":
      throw refuseOnOstree(system, verb);
    case "other":
      throw new StateError(
        "not-booted",
        'System not booted via bootc: the kernel command line has no "composefs="; ' +
          'put an image on a disk with "bootc install" and start from there',
      );
  }
}

/** Clears read-only on our own copy of the mount; the running system keeps its protection. */
function makeWritable(system: System): void {
  const root = findMount(system.mounts, system.physicalRoot);
  if (root === null) {
    throw new StateError(
      "missing",
      `"${system.physicalRoot}" is not a mount point: the disk this system was started from is not there`,
      { path: system.physicalRoot },
    );
  }
  if (isReadOnlyDevice(system, root)) {
    throw new StateError(
      "conflict",
      `Cannot perform this operation: ${system.physicalRoot} is on a read-only block device (e.g. a live ISO)`,
      { path: system.physicalRoot },
    );
  }
  using tree = openTree(null, system.physicalRoot);
  mountSetattr(tree, { clear: MOUNT_ATTR.RDONLY });
  if (root.superReadOnly) {
    mount(null, system.physicalRoot, null, MS.REMOUNT, null);
  }
}
