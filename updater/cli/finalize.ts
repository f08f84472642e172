// `bootc composefs-finalize-staged`: what bootc-finalize-staged.service runs at shutdown
// (bootc.md 4.12).

import { Command } from "@commander-js/extra-typings";
import { hostProgram } from "../boot/own-program.ts";
import { runProgram } from "../boot/program.ts";
import { hasSystemd, readSystem, type System } from "../boot/system.ts";
import {
  forgetFinalizeFailuresOf,
  noteFinalizeBegun,
  noteFinalizeFailure,
} from "../deploy/finalize-failure.ts";
import { readNextRoot } from "../deploy/next-root.ts";
import {
  finishRunning,
  planShutdownNow,
  readShutdown,
  type ShutdownOutcome,
  type ShutdownTools,
} from "../deploy/soft-reboot.ts";
import type { Shutdown } from "../deploy/soft-reboot-plan.ts";
import { readStagedFile } from "../deploy/state-directory.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession, type Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeFinalizeCommand(terminal: Terminal) {
  return new Command("composefs-finalize-staged")
    .description("Make the staged deployment the default; run by the system at shutdown")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      using session = openAtShutdown(options.dryRun === true);
      const { boot, booted, system } = session;
      const world = observeWorld(system, boot, booted);
      const tools = shutdownTools(system);
      if (options.dryRun === true) {
        terminal.write(formatPlan(planShutdownNow(system, world, tools)));
        return;
      }
      const outcome = finishRunning(session, world, tools);
      const waiting = outcome.finalized === null ? world.stagedFile : null;
      if (waiting !== null) forgetFinalizeFailuresOf(system, [waiting.id]);
      for (const line of describe(outcome)) terminal.line(line);
    });
}

/** Without a session what was prepared for a soft reboot has no merged /etc and must not be entered. */
function openAtShutdown(dryRun: boolean): Session {
  try {
    // Another verb may hold the lock until the time limit ends this program.
    const note = dryRun ? {} : { onWritable: noteBegun };
    return openSession("write", "finalize", { lock: "wait", ...note });
  } catch (error) {
    const system = readSystem();
    const { forceReboot, shutdown } = shutdownTools(system);
    if (shutdown !== "none" && !dryRun) noteStaged(system, error);
    if (shutdown === "soft-reboot" && !dryRun) forceReboot();
    throw error;
  }
}

function noteBegun(system: System): void {
  try {
    const staged = readStagedFile(system);
    if (staged?.locked === false) noteFinalizeBegun(system, staged.id, new Date());
  } catch {
    // Finalizing will say that what is staged cannot be read.
  }
}

function noteStaged(system: System, error: unknown): void {
  try {
    const staged = readStagedFile(system);
    if (staged?.locked === false) noteFinalizeFailure(system, staged.id, error, new Date());
  } catch {
    // What is staged cannot be read, either.
  }
}

function shutdownTools(system: System): ShutdownTools {
  return {
    program: hostProgram(),
    shutdown: hasSystemd(system) ? detectShutdown(system) : "none",
    forceReboot: () => void runProgram("systemctl", ["--force", "reboot"], { package: "systemd" }),
  };
}

/** When systemd does not answer, what was prepared is mounted anew: a full restart is not harmed by that. */
function detectShutdown(system: System): Shutdown {
  try {
    return readShutdown();
  } catch {
    return readNextRoot(system, hostProgram()) === null ? "other" : "soft-reboot";
  }
}

function describe({ finalized, plan }: ShutdownOutcome): string[] {
  const lines =
    finalized === null
      ? ["What is staged waits: this soft reboot does not lead into it"]
      : [finalized.kind === "nothing" ? finalized.reason : `Deployment ${finalized.id} boots next`];
  if (plan.mount !== null) lines.push(`The soft reboot goes on with deployment ${plan.mount}`);
  return lines;
}
