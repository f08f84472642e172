// Carrying out a rollback: one exchange of the entry directories. What was staged is given up.

import { applyTransaction } from "../../shared/txn/apply.ts";
import type { Deployer } from "./deployer.ts";
import { replaceEntries } from "./entry-exchange.ts";
import type { RollbackPlan } from "./rollback-plan.ts";

export function applyRollback(deployer: Omit<Deployer, "repo">, plan: RollbackPlan): void {
  applyTransaction(replaceEntries(deployer.system, deployer.boot, plan.entries));
}
