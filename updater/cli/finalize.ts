// `bootc composefs-finalize-staged`: what bootc-finalize-staged.service runs at shutdown
// (bootc.md 4.12).

import { Command } from "@commander-js/extra-typings";
import { finalizeStaged } from "../deploy/finalize.ts";
import { planFinalize } from "../deploy/finalize-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeFinalizeCommand(terminal: Terminal) {
  return new Command("composefs-finalize-staged")
    .description("Make the staged deployment the default; run by the system at shutdown")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      using session = openSession("write", "finalize");
      const world = observeWorld(session.system, session.boot.path, session.booted);
      if (options.dryRun === true) {
        terminal.write(formatPlan(planFinalize(world)));
        return;
      }
      const plan = finalizeStaged(session, world);
      terminal.line(plan.kind === "nothing" ? plan.reason : `Deployment ${plan.id} boots next`);
    });
}
