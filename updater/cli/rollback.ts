// `bootc rollback`: the previous deployment boots next; once more, and the current one does
// (bootc.md 1.2, 4.13).

import { Command } from "@commander-js/extra-typings";
import { applyRollback } from "../deploy/rollback.ts";
import { planRollback } from "../deploy/rollback-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatPlan } from "./plan-text.ts";
import { rebootSystem } from "./reboot.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeRollbackCommand(terminal: Terminal) {
  return new Command("rollback")
    .description("Boot the previous deployment next; what is staged is given up")
    .option("--apply", "restart into it")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      using session = openSession("write", "rollback");
      const plan = planRollback(observeWorld(session.system, session.boot.path, session.booted));
      if (options.dryRun === true) {
        terminal.write(formatPlan({ kind: "rollback", ...plan }));
        return;
      }
      applyRollback(session, plan);
      if (plan.isRevert) terminal.line("notice: Reverting queued rollback state");
      const what = plan.isRevert ? "current" : "rollback";
      terminal.line(`Next boot: ${what} deployment`);
      if (options.apply === true) rebootSystem();
    });
}
