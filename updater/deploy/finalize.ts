// Finalizing at shutdown (ExecStop of bootc-finalize-staged.service; bootc.md 4.12): the local changes
// of /etc move into the staged deployment, then the entries are exchanged.
//
// The merge starts from the image's pristine /etc every time and is written beside the deployment's
// /etc, then swapped in; a run that was interrupted anywhere is simply repeated.

import { join } from "node:path";
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import type { System } from "../boot/system.ts";
import { recordEvent } from "../journal/events.ts";
import { beginRetry, writeFailuresSteps } from "./boot-failure.ts";
import { removeArtefacts } from "./cleanup.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import { dropStaged, exchangeStaged, startMenuTrial } from "./entry-exchange.ts";
import { mergeEtc } from "./etc-merge.ts";
import { hasEtcOverlay } from "./etc-overlay.ts";
import { readShutdownPolicy } from "./etc-policy-files.ts";
import {
  forgetFinalizeFailure,
  noteFinalizeBegun,
  noteFinalizeFailure,
} from "./finalize-failure.ts";
import { type FinalizePlan, planFinalize } from "./finalize-plan.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import { statePaths } from "./state-directory.ts";
import { describeStaged, observeWorld, requireBooted, type World } from "./world.ts";

/** Does what `planFinalize` says about this world; returns it. Whoever looks after the restart is told why it failed. */
export function finalizeStaged(deployer: Deployer, world: World): FinalizePlan {
  try {
    return finalize(deployer, world);
  } catch (error) {
    const id = world.stagedFile?.id;
    if (id !== undefined && !isApplied(deployer, id)) {
      noteFinalizeFailure(deployer.system, id, error, new Date());
    }
    throw error;
  }
}

function finalize(deployer: Deployer, world: World): FinalizePlan {
  const { system, boot } = deployer;
  const plan = planFinalize(world);
  if (plan.kind === "nothing") return plan;
  if (plan.kind === "merge-and-exchange") {
    noteFinalizeBegun(system, plan.id, new Date());
    mergeIntoStaged(deployer, requireBooted(world).id, plan.id);
    startMenuTrial(system, boot, plan.entries);
    const present = (world.staged ?? []).map(({ fileName }) => fileName);
    applyTransaction(exchangeStaged(system, boot, plan.entries, present));
    recordEvent(system, "finalized", `Deployment ${plan.id} boots next`, { DEPLOYMENT: plan.id });
  } else {
    applyTransaction(dropStaged(system, boot));
  }
  noteRetry(system, world);
  forgetFinalizeFailure(system);
  const after = observeWorld(system, boot, world.booted);
  removeArtefacts(deployer, planCleanup(after, { tags: [], kernelsOnly: true }));
  return plan;
}

/**
 * From now on it counts when what is tried again fails. After the exchange: cut off before this, another failure is
 * not counted, but what was never tried is not called failed either.
 */
function noteRetry({ physicalRoot }: System, { failures, stagedFile, states }: World): void {
  const staged = describeStaged(stagedFile, states);
  const begun = staged === null ? null : beginRetry(failures, staged);
  if (begun !== null) applySteps(writeFailuresSteps(physicalRoot, begun));
}

/** The entries were exchanged, and what failed came after. */
function isApplied({ boot, system }: Deployer, id: string): boolean {
  try {
    const { live } = observeWorld(system, boot, null);
    return live.find(({ deploymentId }) => deploymentId !== null)?.deploymentId === id;
  } catch {
    return false;
  }
}

/** The deployment's /etc becomes the image's own with this machine's changes. */
function mergeIntoStaged({ system, repo }: Deployer, bootedId: string, id: string): void {
  const { directory, etc, etcRules } = statePaths(system.physicalRoot, id);
  const merged = join(directory, MERGED_ETC);
  const image = readImageTree(repo, id);
  const { rules, problem } = readShutdownPolicy(system.root, repo, image, etcRules);
  if (problem !== null) {
    const message = `The rules recorded when staging are used for /etc: ${problem}`;
    recordEvent(system, "etcRulesIgnored", message, { PROBLEM: problem });
  }
  mergeEtc(
    { repo, etc: requireEtc(readImageTree(repo, bootedId), bootedId) },
    join(system.root, "etc"),
    { repo, etc: requireEtc(image, id) },
    merged,
    { rules, forOverlay: hasEtcOverlay(repo, image) },
  );
  applyTransaction({
    prepare: [{ kind: "sync", path: directory }],
    commit: { kind: "exchange", a: merged, b: etc },
    cleanup: [{ kind: "remove", path: merged }],
  });
}
/** Beside a deployment's `etc`, while it is made. */
const MERGED_ETC = "etc.partial";
