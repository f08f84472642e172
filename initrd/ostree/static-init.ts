// PID 1 of a system without an initramfs: the root disk is mounted on / already, and this program,
// named by init= on the kernel command line, makes a deployment of it the root (ostree.md 1.6).
//
// No config files, no composefs, no signatures: nothing here could be trusted, since the program itself
// comes from the disk. /proc and /dev must be mounted and the C library must be found before Bun
// can start, so something small has to come first (scripts/build/pid1-program.ts).

import { describeError, StateError } from "../../shared/error.ts";
import { encodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import { S_IFDIR, S_IFLNK, S_IFMT } from "../../shared/format/tree/node.ts";
import { MS, O } from "../../shared/sys/constants.ts";
import { rmdirat } from "../../shared/sys/directory.ts";
import { openat } from "../../shared/sys/file.ts";
import { mount, pivotRoot } from "../../shared/sys/mount.ts";
import { fstatatIfExists, fstatfs } from "../../shared/sys/stat.ts";
import { parseBootParameters } from "../boot-parameters.ts";
import { giveUp, moveApiMounts, startInit } from "../init.ts";
import { probeKernel } from "../kernel-features.ts";
import { readCmdline } from "../prepare-root.ts";
import { say } from "../report.ts";
import { assembleRoot } from "./assembly.ts";
import { type Deployment, findDeployment } from "./deployment.ts";
import { findArgument } from "./kernel-arguments.ts";
import { ASSEMBLY, HOTFIX_WORK, planStaticRoot, type StaticPlan } from "./plan.ts";
import { readLegacyReadOnly, writeRunFile } from "./prepare.ts";

/** `argv`: the words the kernel passes on to init. */
export function runAsOstreeInit(argv: readonly string[]): never {
  let shellWanted = false;
  try {
    if (fstatatIfExists(null, "/proc/cmdline") === null) mount("proc", "/proc", "proc", 0, null);
    const cmdline = readCmdline();
    ({ shellWanted } = parseBootParameters(cmdline));
    const { path } = enterDeployment(cmdline);
    say("info", `mounted ostree:${path} without an initramfs`, true);
    return startInit(["/sbin/init"], argv);
  } catch (error) {
    say("crit", `refused: ${describeError(error)}`, true);
    return giveUp(shellWanted);
  }
}

/** Afterwards the deployment is /, and what was / before is /sysroot. */
function enterDeployment(cmdline: string): Deployment {
  const target = findArgument(cmdline, "ostree");
  if (!target) {
    throw new StateError("missing", "No ostree= on the kernel command line: add it beside init=");
  }
  using disk = openat(null, "/", O.PATH | O.DIRECTORY);
  const deployment = findDeployment(disk, target);
  const typeOf = (path: string) => (fstatatIfExists(disk, path)?.mode ?? 0) & S_IFMT;
  const below = deployment.path.slice(1);
  const sysrootReadOnly = readLegacyReadOnly(disk, "", []);
  const hasHotfix = typeOf(`${below}/${HOTFIX_WORK}`) === S_IFDIR;
  const hasBoot = typeOf("boot/loader") === S_IFLNK && typeOf(`${below}/boot`) === S_IFDIR;
  const { device, path } = deployment;
  const plan = planStaticRoot({ deployment: path, device, sysrootReadOnly, hasBoot, hasHotfix });
  mount(null, "/", null, MS.REC | MS.PRIVATE, null);
  // Overlays write to the disk, which the kernel mounts read-only unless it is told "rw".
  if (hasHotfix && fstatfs(disk).readOnly) mount(null, "/", null, MS.REMOUNT, null);
  using undo = assembleRoot(plan, "", probeKernel);
  pivot(plan);
  undo.move();
  return deployment;
}

function pivot(plan: StaticPlan): void {
  moveApiMounts(ASSEMBLY);
  writeRun(plan);
  process.chdir(ASSEMBLY);
  // Moving is not possible: the new root lies within the old one.
  pivotRoot(".", "sysroot");
  process.chdir("/");
  mount(null, "/sysroot", null, MS.PRIVATE, null);
  rmdirat(null, `/sysroot${ASSEMBLY}`);
}

/** Upstream leaves this to a generator that is built to go with its own program. */
function writeRun({ booted, sysrootReadOnly }: StaticPlan): void {
  const run = `${ASSEMBLY}/run`;
  if (fstatatIfExists(null, run)?.isMountRoot === false) {
    mount("tmpfs", run, "tmpfs", MS.NOSUID | MS.NODEV, "mode=0755");
  }
  writeRunFile(`${run}/ostree-booted`, encodeDictionary(booted));
  if (sysrootReadOnly) writeRunFile(`${run}/ostree-sysroot-ro.stamp`, new Uint8Array());
}
