// The sides of this machine's /etc: the running image's, the live one, the staged image's, and the rules
// that decide between them.

import { join } from "node:path";
import { describeError } from "../../shared/error.ts";
import type { ByteString, DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Deployer } from "./deployer.ts";
import { computeDrift, type EtcDrift, type EtcSides, findNode } from "./etc-drift.ts";
import { type EtcSource, withEtcTrees } from "./etc-merge.ts";
import { type EtcDiff, planEtcMerge } from "./etc-plan.ts";
import type { EtcRule } from "./etc-policy.ts";
import { readEtcPolicy } from "./etc-policy-files.ts";
import { planEtcReset, type ResetOptions, type ResetStep } from "./etc-reset-plan.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import { requireBooted, type World } from "./world.ts";

export interface MachineEtc {
  /** Directory of the live one. */
  readonly path: string;
  readonly bootedId: string;
  readonly stagedId: string | null;
  readonly image: EtcSource;
  readonly staged: EtcSource | null;
  readonly rules: readonly EtcRule[];
  /** Why there are no rules although there are files with rules. */
  readonly ruleProblem: string | null;
}

/** Nothing is read of the live /etc yet; the rules are those of a merge into what is staged. */
export function openMachineEtc({ system, repo }: Deployer, world: World): MachineEtc {
  const bootedId = requireBooted(world).id;
  const stagedId = world.stagedFile?.id ?? null;
  const bootedTree = readImageTree(repo, bootedId);
  const stagedTree = stagedId === null ? null : readImageTree(repo, stagedId);
  let rules: readonly EtcRule[] = [];
  let ruleProblem: string | null = null;
  try {
    rules = readEtcPolicy(system.root, repo, stagedTree ?? bootedTree);
  } catch (error) {
    ruleProblem = describeError(error);
  }
  return {
    path: join(system.root, "etc"),
    bootedId,
    stagedId,
    image: { repo, etc: requireEtc(bootedTree, bootedId) },
    staged: stagedTree && { repo, etc: requireEtc(stagedTree, stagedId ?? "") },
    rules,
    ruleProblem,
  };
}

export function readDrift(etc: MachineEtc, repo: Deployer["repo"]): readonly EtcDrift[] {
  return withSides(etc, (sides) => computeDrift(sides, etc.rules, repo.algorithm));
}

/** Whether the running image, the machine or the staged image has this path; "" is /etc itself. */
export function hasPath(etc: MachineEtc, path: ByteString): boolean {
  return withSides(etc, ({ pristine, current, next }) =>
    [pristine, current, next].some((side) => side !== null && findNode(side, path) !== undefined),
  );
}

export function readDiff(etc: MachineEtc): EtcDiff {
  return withSides(
    etc,
    ({ pristine, current, next }) =>
      planEtcMerge(pristine, current, next ?? pristine, etc.rules).diff,
  );
}

export function readResetPlan(
  etc: MachineEtc,
  paths: readonly string[],
  options: ResetOptions,
): readonly ResetStep[] {
  return withSides(etc, ({ pristine, current }) => planEtcReset(pristine, current, paths, options));
}

function withSides<T>(etc: MachineEtc, work: (sides: EtcSides) => T): T {
  const isStaged = etc.staged !== null;
  return withEtcTrees([etc.image, etc.path, etc.staged ?? etc.image], (pristine, current, next) =>
    work({ pristine, current, next: isStaged ? (next as DirectoryNode) : null }),
  );
}
