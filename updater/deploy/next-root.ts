// /run/nextroot: the root that systemd goes on with after a soft reboot (systemd-soft-reboot.service(8)).
//
// It is put there by prepare-root, as a program of its own, in the mounts of PID 1. It is either complete
// and mounted as the running root is, or not there at all.

import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError, StateError } from "../../shared/error.ts";
import { mkdiratIfMissing } from "../../shared/sys/directory.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import { findMount, type MountPoint, parseMountTable } from "../boot/mount-table.ts";
import { type OwnProgram, runIn, runOwnProgram } from "../boot/own-program.ts";
import { requireProgram } from "../boot/program.ts";
import type { System } from "../boot/system.ts";
import { parseRootSource } from "./environment.ts";
import type { NextRoot } from "./soft-reboot-plan.ts";

export interface RootMount {
  readonly id: string;
  /** What prepare-root is told instead of /proc/cmdline. */
  readonly cmdline: string;
  /** Text of setup-root-conf.toml; null: none, so its defaults. */
  readonly settings: string | null;
}

export function nextRootPath(system: System): string {
  return join(system.runDirectory, "nextroot");
}

/** What is mounted there; null when nothing is. */
export function readNextRoot(system: System, program: OwnProgram): NextRoot | null {
  const mount = findMount(readMounts(program), nextRootPath(system));
  return mount === null ? null : { id: parseRootSource(mount.source) };
}

/**
 * Mounts a deployment there, in place of what was there before. StateError when prepare-root refuses it or
 * it is not put together as the running root is; then nothing is mounted there.
 */
export function mountNextRoot(system: System, program: OwnProgram, root: RootMount): void {
  clearNextRoot(system, program);
  const target = nextRootPath(system);
  mkdiratIfMissing(null, target, 0o755);
  mountDeployment(system, program, { ...root, target });
  const difference = compareRoots(readMounts(program), system.root, target);
  if (difference === null) return;
  clearNextRoot(system, program);
  throw new StateError(
    "conflict",
    `Cannot prepare deployment ${shortId(root.id)} for a soft reboot: ${difference}, so the settings in the initramfs are not the image's; restart the machine instead`,
  );
}

/** Unmounts it; whether there was something. */
export function clearNextRoot(system: System, program: OwnProgram): boolean {
  const target = nextRootPath(system);
  let count = 0;
  for (; findMount(readMounts(program), target) !== null; count++) {
    unmountTree(program, target);
  }
  return count > 0;
}

/**
 * Takes back what was prepared for another deployment than the one that boots next: its files may go away.
 * Looks at the mounts as they were when `system` was read.
 */
export function dropStaleNextRoot(
  system: System,
  program: OwnProgram,
  nextId: string | null,
): void {
  const mount = findMount(system.mounts, nextRootPath(system));
  const id = mount === null ? null : parseRootSource(mount.source);
  if (id !== null && id !== nextId) clearNextRoot(system, program);
}

/** Takes a mount away with everything below it, however busy it is. */
export function unmountTree({ mountNamespace }: OwnProgram, path: string): void {
  runIn(mountNamespace, [requireProgram("umount", "mount"), "--lazy", path]);
}

/** Mounts a deployment with its /etc and /var on `target`. */
export function mountDeployment(
  system: System,
  program: OwnProgram,
  root: RootMount & { readonly target: string },
): void {
  const config = join(system.runDirectory, "bootc/setup-root-conf.toml");
  if (root.settings !== null) writeSettings(config, root.settings);
  try {
    runOwnProgram(program, [
      ...["internals", "prepare-root", "--sysroot", system.physicalRoot, "--target", root.target],
      ...["--run", system.runDirectory, "--config", root.settings === null ? "" : config],
      ...["--cmdline", root.cmdline],
    ]);
  } catch (error) {
    throw new StateError(
      "command-failed",
      `Cannot mount deployment ${shortId(root.id)} on "${root.target}": ${describeError(error)}`,
      {},
      { cause: error },
    );
  }
}

function writeSettings(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  applySteps([{ kind: "write", path, bytes: Buffer.from(text), mode: 0o600 }]);
}

/** How two roots differ in what is kept and what is not; null when they do not. */
function compareRoots(mounts: readonly MountPoint[], running: string, next: string): string | null {
  for (const name of ["", "etc", "var"]) {
    const [now, then] = [running, next].map((root) => describeMount(mounts, root, name));
    if (now !== then) return `its /${name} is ${then} and the running one's is ${now}`;
  }
  return null;
}

/** Text of settings that make prepare-root put a root together as the one at `root` is. */
export function describeSettings(mounts: readonly MountPoint[], root: string): string {
  const kind = (name: string) => {
    const mount = findMount(mounts, join(root, name));
    if (mount === null) return "none";
    if (mount.fileSystem !== "overlay") return "bind";
    return mount.source.startsWith("transient") ? "transient" : "overlay";
  };
  const isTransient = describeMount(mounts, root, "") === "transient";
  return `[root]\ntransient = ${isTransient}\n[etc]\nmount = "${kind("etc")}"\n[var]\nmount = "${kind("var")}"\n`;
}

/** Only overlays are told apart: what else is on /etc or /var may be the machine's own doing (fstab). */
function describeMount(mounts: readonly MountPoint[], root: string, name: string): string {
  const mount = findMount(mounts, join(root, name));
  if (mount?.fileSystem !== "overlay")
    return name === "etc" && mount === null ? "the image's" : "kept";
  return mount.source.startsWith("transient") ? "transient" : "an overlay";
}

/** The mount table as the program sees it. */
export function readMounts({ mountNamespace }: OwnProgram): MountPoint[] {
  const process = mountNamespace === null ? "/proc/self" : join(dirname(mountNamespace), "..");
  return parseMountTable(readFileSync(join(process, "mountinfo"), "utf8"));
}
