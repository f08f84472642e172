// Carrying out a rollback: one exchange of the entry directories. What was staged is given up.

import type { Deployer } from "./deployer.ts";
import { replaceMenu } from "./entry-exchange.ts";
import type { RollbackPlan } from "./rollback-plan.ts";

export function applyRollback(deployer: Omit<Deployer, "repo">, plan: RollbackPlan): void {
  replaceMenu(deployer.system, deployer.boot, plan.entries, "order");
}
