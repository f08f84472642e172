// Carries out an ostree mount plan on /sysroot.tmp.
//
// Invariant: whoever fails on the way leaves the system as it was, so that a second try, or a person in
// a shell, finds no left-overs. What was done is undone by the returned stack unless it is let go.

import { isErrno, StateError } from "../../shared/error.ts";
import { MNT, MS, O } from "../../shared/sys/constants.ts";
import { mkdiratIfMissing, removeTree, rmdirat } from "../../shared/sys/directory.ts";
import { openat } from "../../shared/sys/file.ts";
import { mount, umount2 } from "../../shared/sys/mount.ts";
import { fstat } from "../../shared/sys/stat.ts";
import type { KernelFeatures } from "../kernel-features.ts";
import { mountImage } from "./image-mount.ts";
import { ASSEMBLY, type OstreePlan, type OstreeStep } from "./plan.ts";

/** What the steps are about: relative paths in them start at `deployment`, below `sysroot`. */
type AssemblyPlan = Pick<OstreePlan, "deployment" | "isImage" | "stacksOverlays" | "steps">;

/** `probe` is called only when there is an image. The deployment is the current directory afterwards. */
export function assembleRoot(
  plan: AssemblyPlan,
  sysroot: string,
  probe: () => KernelFeatures,
): DisposableStack {
  const features = plan.isImage ? probe() : null;
  try {
    return assembleOnce(plan, sysroot, features);
  } catch (error) {
    // Some kernels count a file-backed EROFS as a level of stacking, of which two are allowed, and
    // an overlay on the image is one too many. A loop device does not count.
    const mayRetry = features?.erofs === "file" && plan.stacksOverlays;
    if (!mayRetry || !isErrno((error as Error).cause, "EINVAL")) throw error;
    return assembleOnce(plan, sysroot, { ...features, erofs: "loop" });
  }
}

function assembleOnce(
  plan: AssemblyPlan,
  sysroot: string,
  features: KernelFeatures | null,
): DisposableStack {
  using undo = new DisposableStack();
  undo.defer(() => process.chdir("/"));
  process.chdir(`${sysroot}${plan.deployment}`);
  if (mkdiratIfMissing(null, ASSEMBLY, 0o755)) undo.defer(() => rmdirat(null, ASSEMBLY));
  const made: string[] = [];
  undo.defer(() => {
    for (const path of made.reverse()) removeTree(null, path);
  });
  undo.defer(clearAssembly);
  for (const step of plan.steps) {
    try {
      applyStep(step, features, made);
    } catch (cause) {
      if ((cause as { kind?: unknown }).kind !== "syscall") throw cause;
      const what = step.kind === "directory" ? step.path : step.at.slice(ASSEMBLY.length) || "/";
      const verb = step.kind === "directory" ? "make" : "mount";
      throw new StateError(
        "conflict",
        `Cannot ${verb} "${what}" of deployment "${plan.deployment}": choose another boot entry`,
        {},
        { cause },
      );
    }
  }
  return undo.move();
}

/** One mount carries all others; it may not be there yet. */
function clearAssembly(): void {
  using place = openat(null, ASSEMBLY, O.PATH | O.DIRECTORY);
  if (fstat(place).isMountRoot) umount2(ASSEMBLY, MNT.DETACH);
}

function applyStep(step: OstreeStep, features: KernelFeatures | null, made: string[]): void {
  switch (step.kind) {
    case "directory":
      // Upstream insists on making /run/ostree itself, and so never finds what was put there for it.
      if (mkdiratIfMissing(null, step.path, step.mode)) made.push(step.path);
      break;
    case "image":
      mountImage(step, features!);
      break;
    case "bind":
      mount(step.from, step.at, null, MS.BIND, null);
      break;
    case "remount":
      mount(null, step.at, null, MS.BIND | MS.REMOUNT | (step.readOnly ? MS.RDONLY : 0), null);
      break;
    case "propagation":
      mount(null, step.at, null, step.to === "slave" ? MS.SLAVE : MS.SHARED, null);
      break;
    case "overlay": {
      const { at, lower, upper, work } = step;
      const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
      mount("overlay", at, "overlay", step.readOnly ? MS.RDONLY : 0, options);
    }
  }
}
