// Removing what nothing boots from any more: kernels, state directories, repository tags, then the
// repository's own garbage. Only removes; interrupted anywhere, the next run goes on.

import { join } from "node:path";
import { collectGarbage, type GarbageOptions } from "../../shared/store/gc.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import { KERNEL_PARENT } from "../boot/kernel-directory.ts";
import { listKeptLayers, pruneDownloads } from "../image/kept-downloads.ts";
import type { CleanupPlan } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import { syncDirectory } from "./deployment-state.ts";
import { removeTag } from "./image-tag.ts";
import { stagedFilePath, statePaths } from "./state-directory.ts";

export interface CleanupResult {
  readonly objectsRemoved: number;
  readonly objectsBytes: number;
  readonly imagesPruned: number;
  readonly streamsPruned: number;
}

/** Files beside the repository. */
export function removeArtefacts(deployer: Omit<Deployer, "repo">, plan: CleanupPlan): void {
  const { system, boot } = deployer;
  if (plan.stagedFile) removeTree(null, stagedFilePath(system));
  const kernels = join(boot.path, KERNEL_PARENT);
  for (const name of plan.kernels) removeTree(null, join(kernels, name));
  if (plan.kernels.length > 0) syncDirectory(kernels);
  const { deploy } = statePaths(system.physicalRoot, "");
  for (const name of [...plan.states, ...plan.leftovers]) removeTree(null, join(deploy, name));
}

/** With `dryRun` nothing is removed, and the result says what would be. */
export function applyCleanup(
  deployer: Deployer,
  plan: CleanupPlan,
  options: Omit<GarbageOptions, "roots">,
): CleanupResult {
  if (!options.dryRun) {
    removeArtefacts(deployer, plan);
    for (const tag of plan.tags) removeTag(deployer.repo, tag);
    pruneDownloads(deployer.repo);
  }
  const roots = [...plan.roots, ...listKeptLayers(deployer.repo)];
  return collectGarbage(deployer.repo, { ...options, roots });
}
