// Mends the host side: looks, takes the steps that the findings name, looks again, until nothing is wrong or
// nothing more helps. Nothing is remembered between runs; each step is a transaction that leaves the machine
// as it was or better, so an interruption costs nothing.

import { dirname, join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError, StateError, UnsupportedError } from "../../shared/error.ts";
import { isDamage } from "../../shared/store/finding.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { type Step, writeText } from "../../shared/txn/plan.ts";
import { parseBootEntry } from "../boot/boot-entry.ts";
import { menuPath } from "../boot/boot-menu.ts";
import { ADDONS_PARENT, UKI_PARENT } from "../boot/kernel-directory.ts";
import { findBootKernel, type UnifiedKernelFiles } from "../image/boot-kernel.ts";
import type { Deployer } from "./deployer.ts";
import { dropStaged, type EntryFile, replaceMenu } from "./entry-exchange.ts";
import type { BootedImage } from "./environment.ts";
import { checkHost } from "./host-check.ts";
import { readHostFacts } from "./host-facts.ts";
import type { HostFinding, HostStep } from "./host-finding.ts";
import { readImageTree } from "./image-tree.ts";
import { nameDifferent } from "./kernel-plan.ts";
import {
  fromImage,
  hashFile,
  type KernelFile,
  type KernelWrites,
  kernelSteps,
  listPlainWrites,
} from "./kernel-source.ts";
import { planMenu } from "./menu-plan.ts";
import { applyMigration, planMigration } from "./name-migration.ts";
import { requireExactBootSpace } from "./space.ts";
import { statePaths, VAR_DIRECTORY } from "./state-directory.ts";
import { observeWorld } from "./world.ts";

/** A kernel, then the entry that needs it, then what that hid. */
const MAX_ROUNDS = 4;

export interface HostRepair {
  readonly steps: readonly { readonly step: HostStep; readonly error: string | null }[];
  readonly remaining: readonly HostFinding[];
}

/** Every finding there is now. */
export function inspectHost(
  deployer: Deployer,
  booted: BootedImage,
  metadataOnly: boolean,
): readonly HostFinding[] {
  const world = observeWorld(deployer.system, deployer.boot, booted);
  return checkHost(readHostFacts(deployer, world, metadataOnly));
}

/** What each finding asks for, once. */
export function planHostRepair(findings: readonly HostFinding[]): readonly HostStep[] {
  const steps = new Map(
    findings.flatMap((finding) => finding.steps).map((step) => [JSON.stringify(step), step]),
  );
  return [...steps.values()];
}

/** A step that fails is reported and not tried again; the others go on. */
export function repairHost(
  deployer: Deployer,
  booted: BootedImage,
  metadataOnly: boolean,
  onStep: (step: HostStep, error: string | null) => void,
): HostRepair {
  const taken = new Map<string, { readonly step: HostStep; readonly error: string | null }>();
  let findings = inspectHost(deployer, booted, metadataOnly);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const steps = planHostRepair(findings).filter((step) => !taken.has(JSON.stringify(step)));
    if (steps.length === 0) break;
    for (const step of steps) {
      const error = tryStep(deployer, booted, step);
      taken.set(JSON.stringify(step), { step, error });
      onStep(step, error);
      // What follows may need it: an entry its kernel.
      if (error !== null) break;
    }
    findings = inspectHost(deployer, booted, metadataOnly);
  }
  return { steps: [...taken.values()], remaining: findings };
}

function tryStep(deployer: Deployer, booted: BootedImage, step: HostStep): string | null {
  try {
    applyHostStep(deployer, booted, step);
    return null;
  } catch (error) {
    if (isDamage(error) || error instanceof StateError || error instanceof UnsupportedError) {
      return describeError(error);
    }
    throw error;
  }
}

function applyHostStep(deployer: Deployer, booted: BootedImage, step: HostStep): void {
  const { system, boot } = deployer;
  const live = menuPath(boot, "live");
  switch (step.kind) {
    case "remove":
      commit({ kind: "remove", path: step.path });
      break;
    case "remove-stray":
      commit({ kind: "remove", path: join(boot.path, step.path) });
      break;
    case "remove-entry":
      commit({ kind: "remove", path: join(live, step.fileName) });
      break;
    case "write-entry":
      if (boot.layout.loader === "grub") addToMenu(deployer, booted, step.entry);
      else writeEntry(live, step.entry);
      break;
    case "write-origin": {
      const path = statePaths(system.physicalRoot, step.id).origin;
      replaceFile(path, step.text);
      break;
    }
    case "link-var": {
      const { var: path, varTarget: target } = statePaths(system.physicalRoot, step.id);
      commit({ kind: "symlink", path, target });
      break;
    }
    case "make-var":
      makeVar(system.physicalRoot);
      break;
    case "drop-staged":
      applyTransaction(dropStaged(system, boot));
      break;
    case "copy-kernel":
      copyKernel(deployer, step);
      break;
    case "copy-uki":
      copyFromImage(deployer, booted, step.from, ({ file }, esp) =>
        fromImage(join(esp, UKI_PARENT, `${step.artefact}.efi`), file),
      );
      break;
    case "copy-addon":
      copyFromImage(deployer, booted, step.from, ({ globalAddons }, esp) => {
        const addon = globalAddons.find(({ name, file }) =>
          [name, nameDifferent(name, hashFile(deployer.repo, file))].includes(step.name),
        );
        return addon ? fromImage(join(esp, ADDONS_PARENT, step.name), addon.file) : null;
      });
      break;
    case "rename-artefacts":
      renameArtefacts(deployer, booted);
      break;
  }
}

function commit(step: Step): void {
  applyTransaction({ prepare: [], commit: step, cleanup: [] });
}

/** Whatever is there now may be a directory, or a link to nothing. */
function replaceFile(path: string, text: string): void {
  const bytes = Buffer.from(text);
  const aside = `${path}.partial`;
  applyTransaction({
    prepare: [
      { kind: "remove", path: aside },
      { kind: "write", path: aside, bytes, mode: 0o644 },
    ],
    commit: { kind: "exchange", a: aside, b: path },
    cleanup: [{ kind: "remove", path: aside }],
  });
}

/** What lost all its entries may have lost their directory. */
function writeEntry(live: string, { fileName, text }: EntryFile): void {
  applyTransaction({
    prepare: [dirname(live), live].map((path): Step => ({ kind: "mkdir", path, mode: 0o755 })),
    commit: writeText(join(live, fileName), text),
    cleanup: [],
  });
}

/** GRUB's menu has a copy that is one file, and its order is that of names: it is made anew, with this entry at its end. */
function addToMenu({ system, boot }: Deployer, booted: BootedImage, file: EntryFile): void {
  const world = observeWorld(system, boot, booted);
  const added = parseBootEntry(file.fileName, file.text);
  const ours = world.live.filter(({ deploymentId }) => deploymentId !== null);
  const items = [...ours, added].map((entry) => ({ kind: "kept", entry }) as const);
  const menu = planMenu(world, { names: "rollback", items });
  replaceMenu(system, boot, menu, "order");
}

function makeVar(physicalRoot: string): void {
  const path = join(physicalRoot, VAR_DIRECTORY);
  const parents = [join(path, "../.."), join(path, "..")];
  applyTransaction({
    prepare: parents.map((each): Step => ({ kind: "mkdir", path: each, mode: 0o755 })),
    commit: { kind: "mkdir", path, mode: 0o755 },
    cleanup: [],
  });
}

function copyKernel(
  { system, boot, repo }: Deployer,
  { directory, from }: Extract<HostStep, { kind: "copy-kernel" }>,
): void {
  const kernel = findBootKernel(readImageTree(repo, from));
  if (kernel.kind !== "bls")
    throw new StateError("missing", `Deployment ${shortId(from)} has no plain kernel`);
  const writes = listPlainWrites(boot, directory, kernel.vmlinuz, kernel.initramfs);
  writeKernel({ system, boot }, writes);
}

/** A unified kernel, or an addon, from the image in which it still is. */
function copyFromImage(
  deployer: Deployer,
  booted: BootedImage,
  from: string,
  choose: (kernel: UnifiedKernelFiles, esp: string) => KernelFile | null,
): void {
  const { system, boot } = deployer;
  const world = observeWorld(system, boot, booted);
  const facts = readHostFacts(deployer, world, true).deployments.get(from);
  const kernel = facts?.image?.kernel;
  const esp = boot.layout.ukiPath;
  const file = kernel?.kind === "uki" && esp !== null ? choose(kernel, esp) : null;
  if (file === null) {
    throw new StateError("missing", `The image of deployment ${shortId(from)} does not have it`);
  }
  const parent = dirname(file.to);
  const directories = [dirname(dirname(parent)), dirname(parent), parent];
  writeKernel({ system, boot }, { directories, files: [file], stale: [], own: [] });
}

function writeKernel({ system, boot }: Omit<Deployer, "repo">, writes: KernelWrites): void {
  requireExactBootSpace(boot, null, writes, []);
  // No transaction that takes back what it made: a copy that is cut off is no worse than a damaged one.
  for (const step of kernelSteps(system.physicalRoot, writes)) commit(step);
}

function renameArtefacts(deployer: Deployer, booted: BootedImage): void {
  const plan = planMigration(observeWorld(deployer.system, deployer.boot, booted));
  if (plan === null) {
    throw new StateError("conflict", "Cannot rename old kernels while an update is staged");
  }
  if (applyMigration(deployer, plan)) return;
  throw new StateError(
    "no-space",
    `Insufficient free space to copy old kernels in "${deployer.boot.path}"; remove a deployment and try again`,
  );
}
