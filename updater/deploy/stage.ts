// Staging an image on the booted machine: everything that can fail first, then the few files that make
// shutdown apply it (bootc.md 4.10). The last write, /run/composefs/staged-deployment, is the commit:
// until it is there, nothing that was written is looked at.

import { dirname, join } from "node:path";
import { removeTree } from "../../shared/sys/directory.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import type { Step, Transaction } from "../../shared/txn/plan.ts";
import { KERNEL_PARENT, readKernelDirectories } from "../boot/kernel-directory.ts";
import type { System } from "../boot/system.ts";
import { type BootImage, readKargs } from "../image/boot-image.ts";
import { readFileContent } from "../image/file-content.ts";
import type { PolicyDecision } from "../image/policy/decision.ts";
import type { Deployer } from "./deployer.ts";
import { writeState } from "./deployment-state.ts";
import { dropStaged, writeEntriesSteps } from "./entry-exchange.ts";
import { diffEtc, requireMergeable } from "./etc-merge.ts";
import type { EtcDiff } from "./etc-plan.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import {
  computeBootDigest,
  copyKernelSteps,
  type KernelFiles,
  kernelFiles,
} from "./kernel-source.ts";
import { formatPolicyRecord, makePolicyRecord } from "./policy-record.ts";
import { requireExactKernelSpace } from "./space.ts";
import { planStage, type StagePlan } from "./stage-plan.ts";
import { formatStagedFile } from "./staged-file.ts";
import { readStagedFile, stagedFilePath, statePaths } from "./state-directory.ts";
import { requireBooted, type World } from "./world.ts";

const KARGS_LIMIT_BYTES = 1 << 20;

/** An image that lies in the repository, ready to boot. */
export interface StageInput {
  readonly image: BootImage;
  readonly manifestDigest: string;
  /** `ostree-unverified-image:<transport>:<image>` */
  readonly originReference: string;
  readonly decision: PolicyDecision;
  /** Download only. */
  readonly locked: boolean;
}

export interface StagePreparation {
  readonly plan: StagePlan;
  /** What was changed locally in /etc; the merge is computed again at shutdown. */
  readonly etc: EtcDiff;
  readonly files: KernelFiles;
}

/** Everything up to the first write; StateError for collisions and /etc conflicts. */
export function prepareStage(
  deployer: Deployer,
  world: World,
  input: StageInput,
): StagePreparation {
  const { system, repo, boot } = deployer;
  const { image } = input;
  const booted = requireBooted(world);
  const files = kernelFiles(image);
  const bootedTree = readImageTree(repo, booted.id);
  const plan = planStage(world, {
    image: {
      id: image.deploymentId,
      manifestDigest: input.manifestDigest,
      originReference: input.originReference,
      osRelease: image.osRelease,
      kargs: image.kargsD,
      bootDigest: computeBootDigest(repo, files),
    },
    bootedKargs: readKargs(bootedTree, (file) => readFileContent(repo, file, KARGS_LIMIT_BYTES)),
    kernels: readKernelDirectories(boot.path),
    verityOptional: booted.verityOptional || !repo.secure,
    locked: input.locked,
  });
  const etc = diffEtc({ repo, etc: requireEtc(bootedTree, booted.id) }, join(system.root, "etc"), {
    repo,
    etc: requireEtc(image.tree, image.deploymentId),
  });
  requireMergeable(etc);
  if (plan.kernel.write) requireExactKernelSpace(boot.path, files);
  return { plan, etc, files };
}

/** Writes what `prepareStage` planned. When that fails, nothing of it stays. */
export function applyStage(
  deployer: Deployer,
  input: StageInput,
  preparation: StagePreparation,
): void {
  const { system, repo, boot } = deployer;
  const { plan, files } = preparation;
  try {
    writeState(repo, system.physicalRoot, {
      id: plan.id,
      etc: requireEtc(input.image.tree, plan.id),
      var: null,
      origin: plan.origin,
      policy: formatPolicyRecord(makePolicyRecord(input.decision)),
    });
    const kernel = plan.kernel.write
      ? copyKernelSteps(system.physicalRoot, boot.path, plan.kernel.directory, files)
      : [];
    applyTransaction(makeStageTransaction(system, boot.path, plan, kernel));
  } catch (error) {
    undoStage(deployer, plan);
    throw error;
  }
}

function undoStage({ system, boot }: Deployer, plan: StagePlan): void {
  try {
    const paths = statePaths(system.physicalRoot, plan.id);
    removeTree(null, paths.partial);
    // As long as its file is there, what was staged before is untouched and stays staged.
    const earlier = readStagedFile(system);
    if (earlier === null) applyTransaction(dropStaged(system, boot.path));
    if (earlier?.id === plan.id) return;
    removeTree(null, paths.directory);
    if (plan.kernel.write) removeTree(null, join(boot.path, KERNEL_PARENT, plan.kernel.directory));
  } catch {
    // The first error is the one to report; the next staging or collection removes what is left.
  }
}

function makeStageTransaction(
  system: System,
  bootPath: string,
  plan: StagePlan,
  kernel: readonly Step[],
): Transaction {
  const stagedFile = stagedFilePath(system);
  return {
    prepare: [
      ...kernel,
      // From here until the commit nothing is staged, so a shutdown in between changes nothing.
      { kind: "remove", path: stagedFile },
      ...writeEntriesSteps(bootPath, plan.entries),
      { kind: "mkdir", path: dirname(stagedFile), mode: 0o755 },
    ],
    commit: {
      kind: "write",
      path: stagedFile,
      bytes: Buffer.from(plan.stagedFile),
      mode: 0o644,
    },
    cleanup: [],
  };
}

/** Turns a download-only deployment into one that shutdown applies, or back. */
export function setStagedLock(system: System, id: string, locked: boolean): void {
  applyTransaction({
    prepare: [],
    commit: {
      kind: "write",
      path: stagedFilePath(system),
      bytes: Buffer.from(formatStagedFile({ id, locked })),
      mode: 0o644,
    },
    cleanup: [],
  });
}
