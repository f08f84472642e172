// `bootc pin [--unpin] DEPLOYMENT…`: keep deployments whatever is installed later (docs/cleanup.md). bootc
// has no such verb; `ostree admin pin` does this on ostree systems.

import { Command } from "@commander-js/extra-typings";
import { shortId } from "../../shared/bytes/hex.ts";
import { resolveDeployment } from "../deploy/deployment-name.ts";
import { applyPin } from "../deploy/pin.ts";
import { planPin } from "../deploy/pin-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makePinCommand(terminal: Terminal) {
  return new Command("pin")
    .description("Keep deployments in the boot menu and on the disk, whatever is installed later")
    .argument("<deployment...>", '"booted", "staged", "rollback", or the beginning of an id')
    .option("--unpin", "do not keep them any longer")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((names, options) => {
      using session = openSession("write", "pin");
      const { system, boot, booted } = session;
      const world = observeWorld(system, boot, booted);
      const ids = new Set(names.map((name) => resolveDeployment(world, name)));
      const plans = [...ids].map((id) => planPin(world, id, options.unpin !== true));
      if (options.dryRun === true) {
        terminal.write(formatPlan({ kind: "pin", deployments: plans }));
        return;
      }
      for (const plan of plans) {
        applyPin(system, plan);
        const what = plan.pinned ? "pinned" : "not pinned";
        const message = `Deployment ${shortId(plan.id)} is ${what}`;
        if (plan.changes) {
          recordEvent(system, "pinned", message, { DEPLOYMENT: plan.id, PINNED: plan.pinned });
        }
        terminal.line(plan.changes ? message : `${message}; nothing to do`);
      }
    });
}
