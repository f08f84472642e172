// Removing what nothing boots from any more: kernels, state directories, repository tags, then the
// repository's own garbage. Only removes; interrupted anywhere, the next run goes on.

import { dirname, join } from "node:path";
import { collectGarbage, type GarbageOptions } from "../../shared/store/gc.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { removeTree } from "../../shared/sys/directory.ts";
import { removeFrozenTree } from "../../shared/sys/frozen-tree.ts";
import { stepAside } from "../../shared/sys/priority.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { syncPath } from "../../shared/txn/durable.ts";
import { kernelRoot } from "../boot/boot-layout.ts";
import { menuPath } from "../boot/boot-menu.ts";
import { ADDONS_PARENT, UKI_PARENT } from "../boot/kernel-directory.ts";
import { tagRefName } from "../image/boot-image.ts";
import { IMAGE_REF_PREFIX } from "../image/image-streams.ts";
import { listKeptLayers, pruneDownloads } from "../image/kept-downloads.ts";
import { readNamedConfig } from "../image/named-image.ts";
import { recordEvent } from "../journal/events.ts";
import type { CleanupPlan, CleanupScope } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import { isDeploymentTag, listTags, removeTag } from "./image-tag.ts";
import { stagedFilePath, statePaths } from "./state-directory.ts";
import type { World } from "./world.ts";

export interface CleanupResult {
  readonly objectsRemoved: number;
  readonly objectsBytes: number;
  readonly imagesPruned: number;
  readonly streamsPruned: number;
}

/** What a cleanup with the repository has to know of it; `always`: which images tags lead to also when origins say it. */
export function readCleanupScope(
  repo: Repository,
  world: World,
  options: { readonly always?: boolean } = {},
): CleanupScope {
  const tags = listTags(repo);
  const isUncertain =
    options.always === true ||
    world.states.some(
      ({ origin, digestUncertain }) => !origin?.manifestDigest || digestUncertain === true,
    );
  return {
    tags,
    kernelsOnly: false,
    ...(isUncertain ? { tagsById: findTags(repo, tags.filter(isDeploymentTag)) } : {}),
  };
}

/** By the boot images that each tag's config names; a tag that cannot be read is nobody's. */
function findTags(repo: Repository, tags: readonly string[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const tag of tags) {
    for (const id of bootImages(repo, tag)) found.set(id, [...(found.get(id) ?? []), tag]);
  }
  return found;
}

function bootImages(repo: Repository, tag: string): readonly string[] {
  try {
    const { namedRefs } = readNamedConfig(repo, tag);
    const refs = [...namedRefs].filter(([name]) => name.startsWith(`${IMAGE_REF_PREFIX}.boot`));
    return refs.map(([, id]) => id);
  } catch {
    return []; // it then protects nothing; a deployment that is from it keeps every tag
  }
}

/** Files beside the repository; what may be applied or read first goes first. */
export function removeArtefacts(deployer: Omit<Deployer, "repo">, plan: CleanupPlan): void {
  const { system, boot } = deployer;
  if (plan.stagedFile) removeTree(null, stagedFilePath(system));
  if (plan.stagedEntries) {
    const staged = menuPath(boot, "staged");
    removeFrozenTree(null, staged);
    syncPath(dirname(staged));
  }
  // Before kernels: one may be the second name of an entry that is going.
  removeAll(boot.path, plan.strays);
  removeAll(kernelRoot(boot), plan.kernels);
  const { ukiPath } = boot.layout;
  if (ukiPath !== null) {
    removeAll(join(ukiPath, UKI_PARENT), plan.ukis);
    removeAll(join(ukiPath, ADDONS_PARENT), plan.globalAddons);
  }
  const { deploy } = statePaths(system.physicalRoot, "");
  // Administrators make files like /etc/resolv.conf immutable.
  for (const name of [...plan.states, ...plan.leftovers])
    removeFrozenTree(null, join(deploy, name));
}

/** Onto the disk, so that nothing that is gone takes up room after a power cut. */
function removeAll(parent: string, names: readonly string[]): void {
  for (const name of names) removeTree(null, join(parent, name));
  if (names.length > 0 && fstatatIfExists(null, parent) !== null) syncPath(parent);
}

/** With `dryRun` nothing is removed, and the result says what would be. Nobody is kept from the disk. */
export function applyCleanup(
  deployer: Deployer,
  plan: CleanupPlan,
  options: Pick<GarbageOptions, "dryRun" | "timeLimitMs">,
): CleanupResult {
  const { repo } = deployer;
  using _priority = stepAside();
  if (!options.dryRun) {
    removeArtefacts(deployer, plan);
    for (const tag of plan.tags) removeTag(repo, tag);
    pruneDownloads(repo);
  }
  const roots = [...plan.roots, ...listKeptLayers(repo)];
  const ignoredRefs = plan.tags.map(tagRefName);
  const result = collectGarbage(repo, { ...options, roots, ignoredRefs });
  if (!options.dryRun) recordCollection(deployer, plan, result);
  return result;
}

function recordCollection({ system }: Deployer, plan: CleanupPlan, result: CleanupResult): void {
  const { objectsRemoved, objectsBytes } = result;
  const deployments = plan.states.length;
  const kernels = plan.kernels.length + plan.ukis.length;
  if (objectsRemoved + deployments + kernels === 0) return;
  recordEvent(
    system,
    "collected",
    `Removed ${deployments} deployments, ${kernels} kernels, ${objectsRemoved} objects`,
    {
      OBJECTS: objectsRemoved,
      OBJECTS_BYTES: objectsBytes,
      DEPLOYMENTS: deployments,
      KERNELS: kernels,
    },
  );
}
