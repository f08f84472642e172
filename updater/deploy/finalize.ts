// Finalizing at shutdown (ExecStop of bootc-finalize-staged.service; bootc.md 4.12): the local changes
// of /etc move into the staged deployment, then the entries are exchanged.
//
// The merge starts from the image's pristine /etc every time and is written beside the deployment's
// /etc, then swapped in; a run that was interrupted anywhere is simply repeated.

import { join } from "node:path";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { removeArtefacts } from "./cleanup.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import { dropStaged, exchangeStaged } from "./entry-exchange.ts";
import { mergeEtc } from "./etc-merge.ts";
import { type FinalizePlan, planFinalize } from "./finalize-plan.ts";
import { readImageTree, requireEtc } from "./image-tree.ts";
import { statePaths } from "./state-directory.ts";
import { observeWorld, requireBooted, type World } from "./world.ts";

/** Does what `planFinalize` says about this world; returns it. */
export function finalizeStaged(deployer: Deployer, world: World): FinalizePlan {
  const { system, boot } = deployer;
  const plan = planFinalize(world);
  if (plan.kind === "nothing") return plan;
  if (plan.kind === "merge-and-exchange") {
    mergeIntoStaged(deployer, requireBooted(world).id, plan.id);
    applyTransaction(exchangeStaged(system, boot.path));
  } else {
    applyTransaction(dropStaged(system, boot.path));
  }
  const after = observeWorld(system, boot.path, world.booted);
  removeArtefacts(deployer, planCleanup(after, { tags: [], kernelsOnly: true }));
  return plan;
}

/** The deployment's /etc becomes the image's own with this machine's changes. */
function mergeIntoStaged({ system, repo }: Deployer, bootedId: string, id: string): void {
  const { directory, etc } = statePaths(system.physicalRoot, id);
  const merged = join(directory, MERGED_ETC);
  mergeEtc(
    { repo, etc: requireEtc(readImageTree(repo, bootedId), bootedId) },
    join(system.root, "etc"),
    { repo, etc: requireEtc(readImageTree(repo, id), id) },
    merged,
  );
  applyTransaction({
    prepare: [{ kind: "sync", path: directory }],
    commit: { kind: "exchange", a: merged, b: etc },
    cleanup: [{ kind: "remove", path: merged }],
  });
}
/** Beside a deployment's `etc`, while it is made. */
const MERGED_ETC = "etc.partial";
