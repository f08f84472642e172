// A writable /usr for the rest of this boot (bootc.md 1.2, `usr-overlay`): a layer in memory over the image's
// /usr. A restart, soft ones included, begins with the image's own again.
//
// Overlayfs stacks two levels and the root is one of them, in some kernels even both. So the layer does not
// go over the running root but over the same image, which prepare-root mounts and checks once more.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { rmdirat } from "../../shared/sys/directory.ts";
import { findMount, type MountPoint } from "../boot/mount-table.ts";
import { type OwnProgram, runIn } from "../boot/own-program.ts";
import { requireProgram } from "../boot/program.ts";
import type { System } from "../boot/system.ts";
import type { BootedImage } from "./environment.ts";
import { mountDeployment, readMounts, unmountTree } from "./next-root.ts";

export type UsrOverlayPlan =
  | { readonly kind: "mount"; readonly readOnly: boolean }
  /** What was asked for is there, or nothing could be added to what is. */
  | { readonly kind: "nothing"; readonly reason: "mounted" | "transient-root" };

const SETTINGS = `[root]\ntransient = true\n[etc]\nmount = "none"\n[var]\nmount = "none"\n`;

/** `root` is where the running root is seen, "/" but for tests. */
export function planUsrOverlay(
  mounts: readonly MountPoint[],
  root: string,
  readOnly: boolean,
): UsrOverlayPlan {
  if (findMount(mounts, join(root, "usr")) !== null) return { kind: "nothing", reason: "mounted" };
  const source = findMount(mounts, root)?.source ?? "";
  if (source.startsWith("transient:")) return { kind: "nothing", reason: "transient-root" };
  return { kind: "mount", readOnly };
}

/** Plans for the system as it is, and mounts unless `dryRun`. StateError when mounting fails. */
export function overlayUsr(
  system: System,
  program: OwnProgram,
  booted: BootedImage,
  options: { readonly readOnly: boolean; readonly dryRun: boolean },
): UsrOverlayPlan {
  const plan = planUsrOverlay(readMounts(program), system.root, options.readOnly);
  if (plan.kind === "mount" && !options.dryRun) {
    mountUsr(system, program, booted, plan.readOnly);
  }
  return plan;
}

function mountUsr(
  system: System,
  program: OwnProgram,
  { id, verityOptional }: BootedImage,
  readOnly: boolean,
): void {
  const target = join(system.runDirectory, "bootc/usr-overlay");
  mkdirSync(target, { recursive: true, mode: 0o700 });
  // Nothing else of the command line is about /usr.
  const cmdline = `composefs=${verityOptional ? "?" : ""}${id}`;
  mountDeployment(system, program, { id, cmdline, settings: SETTINGS, target });
  try {
    const mode = readOnly ? "bind,ro" : "bind";
    const mount = requireProgram("mount", "mount");
    runIn(program.mountNamespace, [
      mount,
      ...["-o", mode, join(target, "usr"), join(system.root, "usr")],
    ]);
  } finally {
    unmountTree(program, target);
    rmdirat(null, target);
  }
}
