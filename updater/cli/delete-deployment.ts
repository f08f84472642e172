// `bootc delete-deployment ID`: a deployment that is not needed any more goes, with all that only it uses
// (bootc.md 4.14).

import { Command } from "@commander-js/extra-typings";
import { applyDelete } from "../deploy/delete.ts";
import { type DeletePlan, planDelete } from "../deploy/delete-plan.ts";
import { resolveDeployment } from "../deploy/deployment-name.ts";
import { notePending } from "../deploy/pending.ts";
import { observeWorld } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeDeleteCommand(terminal: Terminal) {
  return new Command("delete-deployment")
    .description("Remove a deployment that is not running")
    .argument("<deployment>", '"staged", "rollback", or the beginning of an id')
    .option("--dry-run", "only print what would be done, as JSON")
    .action((name, options) => {
      using session = openSession("write", "delete");
      const { system, boot, booted } = session;
      const world = observeWorld(system, boot, booted);
      const plan = planDelete(world, resolveDeployment(world, name));
      if (options.dryRun === true) {
        terminal.write(formatPlan(describePlan(plan)));
        return;
      }
      const state = world.states.find(({ id }) => id === plan.id);
      if (plan.revertsRollback) terminal.line("notice: Reverting queued rollback state");
      applyDelete(session, world, plan);
      notePending(system, boot, booted);
      const message = `Deleted ${plan.slot} deployment ${plan.id}`;
      recordEvent(system, "deleted", message, {
        DEPLOYMENT: plan.id,
        DIGEST: state?.origin?.manifestDigest ?? null,
      });
      terminal.line(message);
    });
}

function describePlan({ live, staged, ...plan }: DeletePlan): object {
  const names = (entries: DeletePlan["live"]) => entries?.map(({ fileName }) => fileName) ?? null;
  return { kind: "delete", ...plan, live: names(live), staged: names(staged) };
}
