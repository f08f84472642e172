// `bootc rollback`: the previous deployment boots next; once more, and the current one does
// (bootc.md 1.2, 4.13).

import { Command } from "@commander-js/extra-typings";
import { requireStartable } from "../deploy/host-trust.ts";
import { notePending } from "../deploy/pending.ts";
import { applyRollback } from "../deploy/rollback.ts";
import { planRollback } from "../deploy/rollback-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession } from "./session.ts";
import { endVerb, makeSoftRebootOption } from "./soft-reboot.ts";
import type { Terminal } from "./terminal.ts";

export function makeRollbackCommand(terminal: Terminal) {
  return new Command("rollback")
    .description("Boot the previous deployment next; what is staged is given up")
    .option("--apply", "restart into it")
    .addOption(makeSoftRebootOption())
    .option("--dry-run", "only print what would be done, as JSON")
    .action(async (options) => {
      const isPending = rollBack(terminal, options.dryRun === true);
      const { softReboot } = options;
      await endVerb(terminal, "rollback", { isPending, apply: options.apply === true, softReboot });
    });
}

/** Whether anything was done. */
export function rollBack(terminal: Terminal, dryRun: boolean): boolean {
  using session = openSession("write", "rollback");
  const { system, boot, booted } = session;
  const world = observeWorld(system, boot, booted);
  const plan = planRollback(world);
  requireStartable(session, world, plan.id);
  if (dryRun) {
    terminal.write(formatPlan({ kind: "rollback", ...plan }));
    return false;
  }
  applyRollback(session, plan);
  notePending(system, boot, booted);
  const what = plan.isRevert ? "current" : "rollback";
  const message = `Next boot: ${what} deployment`;
  recordEvent(system, "rolledBack", message, {
    DEPLOYMENT: plan.id,
    REVERTED: plan.isRevert,
    DISCARDED: plan.discardsStaged,
  });
  if (plan.isRevert) terminal.line("notice: Reverting queued rollback state");
  terminal.line(message);
  return true;
}
