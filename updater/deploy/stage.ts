// Staging an image on the booted machine: everything that can fail first, then the few files that make
// shutdown apply it (bootc.md 4.10). The last write, /run/composefs/staged-deployment, is the commit:
// until it is there, nothing that was written is looked at.

import { dirname, join } from "node:path";
import type { Cmdline } from "../../shared/format/kargs/cmdline.ts";
import { byteStringToBytes, type DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { openDirectory, removeTree } from "../../shared/sys/directory.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import { type Step, type Transaction, writeText } from "../../shared/txn/plan.ts";
import { removeDurably } from "../../shared/txn/removal.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { readKernelDirectories } from "../boot/kernel-directory.ts";
import type { System } from "../boot/system.ts";
import { type BootImage, readKargs } from "../image/boot-image.ts";
import { readFileContent } from "../image/file-content.ts";
import type { PolicyDecision } from "../image/policy/decision.ts";
import { writeFailuresSteps } from "./boot-failure.ts";
import type { Deployer } from "./deployer.ts";
import { writeState } from "./deployment-state.ts";
import { dropStaged, writeEntriesSteps } from "./entry-exchange.ts";
import { diffEtc, requireMergeable } from "./etc-merge.ts";
import type { EtcDiff } from "./etc-plan.ts";
import { type EtcRule, formatEtcPolicyRecord } from "./etc-policy.ts";
import { readEtcPolicy } from "./etc-policy-files.ts";
import {
  admitDeployment,
  type DeployedTrust,
  type ImageClaims,
  observeRunningTrust,
  stateOfTrust,
} from "./image-admission.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import {
  computeBootDigest,
  type KernelWrites,
  kernelSteps,
  listKernelWrites,
} from "./kernel-source.ts";
import { formatPolicyRecord, makePolicyRecord } from "./policy-record.ts";
import { requireExactBootSpace, requireStateSpace } from "./space.ts";
import { planStage, type StagePlan } from "./stage-plan.ts";
import { formatStagedFile } from "./staged-file.ts";
import { readStagedFile, stagedFilePath, statePaths } from "./state-directory.ts";
import { readFormerKernel, readUnifiedImage } from "./unified-facts.ts";
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
  /** Also when it failed to start before. */
  readonly retryFailed?: boolean;
  readonly claims: ImageClaims;
  /** Also when it proves less than what runs. */
  readonly allowWeakerTrust?: boolean;
}

export interface StagePreparation {
  readonly plan: StagePlan;
  readonly trust: DeployedTrust;
  /** What was changed locally in /etc; the merge is computed again at shutdown. */
  readonly etc: EtcDiff;
  readonly etcRules: readonly EtcRule[];
  /** On the boot partition. */
  readonly kernel: KernelWrites;
  /** Kernels of what is staged now, below the boot directory, which go first: else there is no room. */
  readonly givesUp: readonly string[];
}

/** Everything up to the first write; StateError for collisions and /etc conflicts, PolicyError without trust. */
export function prepareStage(
  deployer: Deployer,
  world: World,
  input: StageInput,
): StagePreparation {
  const { system, repo, boot } = deployer;
  const { image } = input;
  const booted = requireBooted(world);
  const unified = readUnifiedImage(repo, boot, image);
  const former = readFormerKernel(repo, boot, world);
  const bootedTree = readImageTree(repo, booted.id);
  const plan = planStage(world, {
    image: {
      id: image.deploymentId,
      manifestDigest: input.manifestDigest,
      originReference: input.originReference,
      osRelease: image.osRelease,
      kargs: image.kargsD,
      bootDigest: computeBootDigest(repo, image.kernel),
      ...(unified && { unified }),
    },
    formerAddons: former.addons,
    imageKargs: readImageKargs(repo, booted.id, bootedTree, world.stagedFile?.id ?? null),
    kernels: readKernelDirectories(boot),
    verityOptional: booted.verityOptional || !repo.secure,
    locked: input.locked,
    retryFailed: input.retryFailed === true,
  });
  const trust = admitDeployment(
    { ...deployer, isForThisMachine: true },
    {
      id: image.deploymentId,
      claims: input.claims,
      running: observeRunningTrust(system, world),
      allowWeaker: input.allowWeakerTrust === true,
    },
  );
  const etcRules = readEtcPolicy(system.root, repo, image.tree);
  const etc = diffEtc(
    { repo, etc: requireEtc(bootedTree, booted.id) },
    join(system.root, "etc"),
    { repo, etc: requireEtc(image.tree, image.deploymentId) },
    etcRules,
  );
  requireMergeable(etc);
  const kernel = listKernelWrites(boot, image.kernel, plan.kernel, former.artefact);
  const givesUp = requireExactBootSpace(boot, world, kernel, plan.entries);
  const etcTree = requireEtc(image.tree, image.deploymentId);
  requireStateSpace(system.physicalRoot, etcTree, measureLocal(system, etc));
  return { plan, trust, etc, etcRules, kernel, givesUp };
}

/** Sizes of the local files that shutdown will carry over. */
function measureLocal(system: System, { added, modified }: EtcDiff): readonly number[] {
  const paths = [...added, ...modified].map(byteStringToBytes);
  using etc = openDirectory(null, `${join(system.root, "etc")}/.`);
  return paths.map((path) => fstatatIfExists(etc, path)?.sizeBytes ?? 0);
}

/** Of the running image and of the staged one, which nothing needs to be readable for. */
function readImageKargs(
  repo: Repository,
  bootedId: string,
  bootedTree: DirectoryNode,
  stagedId: string | null,
): ReadonlyMap<string, Cmdline> {
  const read = (tree: DirectoryNode) =>
    readKargs(tree, (file) => readFileContent(repo, file, KARGS_LIMIT_BYTES));
  const kargs = new Map([[bootedId, read(bootedTree)]]);
  if (stagedId === null) return kargs;
  try {
    kargs.set(stagedId, read(readImageTree(repo, stagedId)));
  } catch {
    // It is going to be replaced; what is running is a base, too.
  }
  return kargs;
}

/** Writes what `prepareStage` planned. When that fails, nothing of it stays. */
export function applyStage(
  deployer: Deployer,
  input: StageInput,
  preparation: StagePreparation,
): void {
  const { system, repo, boot } = deployer;
  const { plan, etcRules, givesUp } = preparation;
  if (givesUp.length > 0) giveUpStaged(deployer, givesUp);
  try {
    writeState(repo, system.physicalRoot, {
      id: plan.id,
      etc: requireEtc(input.image.tree, plan.id),
      var: null,
      origin: plan.origin,
      policy: formatPolicyRecord(makePolicyRecord(input.decision)),
      ...stateOfTrust(preparation.trust),
      addons: plan.addons,
      etcRules: etcRules.length === 0 ? null : formatEtcPolicyRecord(etcRules),
    });
    const kernel = kernelSteps(system.physicalRoot, preparation.kernel);
    applyTransaction(makeStageTransaction(system, boot, plan, kernel));
    // After the commit: without it the next failure is just not counted as a new one.
    if (plan.failures !== null) applySteps(writeFailuresSteps(system.physicalRoot, plan.failures));
  } catch (error) {
    undoStage(deployer, preparation);
    throw error;
  }
}

/** Makes room for what replaces it. */
function giveUpStaged({ system, boot }: Deployer, kernels: readonly string[]): void {
  applyTransaction(dropStaged(system, boot));
  removeDurably(kernels.map((name) => join(boot.path, name)));
}

function undoStage({ system, boot }: Deployer, { plan, kernel }: StagePreparation): void {
  try {
    const paths = statePaths(system.physicalRoot, plan.id);
    removeTree(null, paths.partial);
    // As long as its file is there, what was staged before is untouched and stays staged.
    const earlier = readStagedFile(system);
    if (earlier === null) applyTransaction(dropStaged(system, boot));
    // One that is tried again is in the menu still.
    if (earlier?.id === plan.id || plan.failures !== null) return;
    removeTree(null, paths.directory);
    removeDurably(kernel.own);
  } catch {
    // The first error is the one to report; the next staging or collection removes what is left.
  }
}

function makeStageTransaction(
  system: System,
  boot: BootDirectory,
  plan: StagePlan,
  kernel: readonly Step[],
): Transaction {
  const stagedFile = stagedFilePath(system);
  return {
    prepare: [
      ...kernel,
      // From here until the commit nothing is staged, so a shutdown in between changes nothing.
      { kind: "remove", path: stagedFile },
      ...writeEntriesSteps(boot, plan.entries),
      { kind: "mkdir", path: dirname(stagedFile), mode: 0o755 },
    ],
    commit: writeText(stagedFile, plan.stagedFile),
    cleanup: [],
  };
}

/** Turns a download-only deployment into one that shutdown applies, or back. */
export function setStagedLock(system: System, id: string, locked: boolean): void {
  applySteps([writeText(stagedFilePath(system), formatStagedFile({ id, locked }))]);
}
