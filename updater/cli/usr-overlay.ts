// `bootc usr-overlay` (alias `usroverlay`): a writable /usr until the next restart (bootc.md 1.2).

import { Command } from "@commander-js/extra-typings";
import { hostProgram } from "../boot/own-program.ts";
import { readSystem } from "../boot/system.ts";
import { overlayUsr } from "../deploy/usr-overlay.ts";
import { formatPlan } from "./plan-text.ts";
import { acquireVerbLock, requireComposefs, requireRoot } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeUsrOverlayCommand(terminal: Terminal) {
  return new Command("usr-overlay")
    .alias("usroverlay")
    .description("Make /usr writable until the next restart, by a layer in memory")
    .option("--read-only", "the layer is there, but only a mount namespace can make it writable")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      const system = readSystem();
      const booted = requireComposefs(system, "usr-overlay");
      requireRoot();
      using _lock = acquireVerbLock(system);
      const readOnly = options.readOnly === true;
      const dryRun = options.dryRun === true;
      const plan = overlayUsr(system, hostProgram(), booted, { readOnly, dryRun });
      if (dryRun) {
        terminal.write(formatPlan(plan));
        return;
      }
      if (plan.kind === "nothing") {
        terminal.line(NOTHING_LINES[plan.reason]);
        return;
      }
      const access = readOnly ? "read-only" : "read/write";
      terminal.line(`A ${access} overlayfs is now mounted on /usr`);
      terminal.line("All changes there will be discarded on reboot.");
    });
}

const NOTHING_LINES = {
  mounted: "An overlayfs is already mounted on /usr",
  "transient-root": "/usr is writable already: the whole root is in memory until the next restart",
} as const;
