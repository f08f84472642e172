// Deleting a deployment: its entries leave the menus, then everything that nothing leads to any more is
// cleaned away. Interrupted between the two, the next cleanup does the rest.

import { join } from "node:path";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { type Step, type Transaction, writeText } from "../../shared/txn/plan.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { extraMenuFiles, formatUserConfig, menuPath } from "../boot/boot-menu.ts";
import { applyCleanup, type CleanupResult, readCleanupScope } from "./cleanup.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { DeletePlan } from "./delete-plan.ts";
import type { Deployer } from "./deployer.ts";
import { dropStaged, keepGrubFallback } from "./entry-exchange.ts";
import { observeWorld, type World } from "./world.ts";

/** `world` is what the plan was made from. */
export function applyDelete(deployer: Deployer, world: World, plan: DeletePlan): CleanupResult {
  const { system, boot, repo } = deployer;
  if (plan.dropsStaged) applyTransaction(dropStaged(system, boot));
  // The second name of an interrupted blessing would be the entry again, once the first is gone.
  const strays = world.strays.map(
    (name): Step => ({ kind: "remove", path: join(boot.path, name) }),
  );
  for (const which of ["staged", "live"] as const) {
    const kept = plan[which];
    if (kept === null) continue;
    if (which === "live") keepGrubFallback(boot, kept);
    const transaction = shrinkMenu(boot, which, world[which] ?? [], kept);
    applyTransaction({ ...transaction, prepare: [...strays, ...transaction.prepare] });
  }
  const after = observeWorld(system, boot, world.booted);
  const cleanup = planCleanup(after, readCleanupScope(repo, after));
  return applyCleanup(deployer, cleanup, { dryRun: false });
}

/** Nothing moves: the one commit is that the entry's file, or its part of GRUB's, is gone. */
function shrinkMenu(
  boot: BootDirectory,
  which: "live" | "staged",
  before: readonly BootEntry[],
  kept: readonly BootEntry[],
): Transaction {
  const path = menuPath(boot, which);
  if (boot.layout.userConfig !== null) {
    return { prepare: [], commit: writeText(path, formatUserConfig(boot, kept)), cleanup: [] };
  }
  const extra = extraMenuFiles(boot.layout, kept).map(
    ({ fileName, text }): Step => writeText(join(path, fileName), text),
  );
  const gone = before.filter((entry) => !kept.includes(entry));
  const [last, ...others] = gone
    .map(({ fileName }): Step => ({ kind: "remove", path: join(path, fileName) }))
    .reverse();
  return {
    prepare: [...extra, ...others],
    commit: last ?? { kind: "sync", path },
    cleanup: [],
  };
}
