// Soft reboots on the command line (docs/soft-reboot.md): `--soft-reboot` of the verbs that change what
// boots next, and `bootc internals prep-soft-reboot` (bootc.md 1.2, 1.3, 4.16).

import { Command, Option } from "@commander-js/extra-typings";
import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import { hostProgram } from "../boot/own-program.ts";
import { runProgram } from "../boot/program.ts";
import { hasSystemd, readSystem } from "../boot/system.ts";
import { resolveDeployment } from "../deploy/deployment-name.ts";
import { clearNextRoot, mountNextRoot } from "../deploy/next-root.ts";
import { findPending } from "../deploy/pending.ts";
import { decideSoftReboot, refuseSoftReboot } from "../deploy/soft-reboot.ts";
import type { SoftRebootPlan } from "../deploy/soft-reboot-plan.ts";
import { observeWorld, type World } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import type { OstreeVerb } from "./ostree-refusal.ts";
import { formatPlan } from "./plan-text.ts";
import { restartSystem } from "./reboot.ts";
import { openSession, requireComposefs, requireRoot, type Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";

const FINALIZE_UNIT = "bootc-finalize-staged.service";

export function makeSoftRebootOption() {
  return new Option(
    "--soft-reboot <mode>",
    "prepare a restart without the kernel (with --apply: do it); auto: only where that is possible",
  ).choices(["required", "auto"] as const);
}

export interface VerbEnding {
  /** The verb did something that a restart applies. */
  readonly isPending: boolean;
  readonly apply: boolean;
  readonly softReboot: "required" | "auto" | undefined;
}

/**
 * The end of a verb that changed what boots next; call it after its session was closed. StateError when a
 * soft reboot is required and not possible; what the verb did stays.
 */
export async function endVerb(
  terminal: Terminal,
  verb: Extract<OstreeVerb, "upgrade" | "switch" | "rollback">,
  { apply, isPending, softReboot }: VerbEnding,
): Promise<void> {
  if (!isPending) return;
  const isSoft = softReboot !== undefined && preparePending(terminal, verb, softReboot);
  if (apply) await restartSystem(terminal, verb, isSoft ? "soft-reboot" : "reboot");
}

/** Whether it was prepared. */
function preparePending(terminal: Terminal, verb: OstreeVerb, mode: "required" | "auto"): boolean {
  startFinalizeUnit(verb);
  using session = openSession("write", verb);
  const world = observe(session);
  const id = findPending(world)?.id;
  const plan = id === undefined ? null : decideSoftReboot(session, world, id);
  if (plan?.kind === "possible") {
    prepare(session, terminal, plan);
    return true;
  }
  const refusal = plan === null ? nothingPending() : refuseSoftReboot(plan);
  if (mode === "required") throw refusal;
  terminal.note(refusal.message);
  return false;
}

export function makePrepSoftRebootCommand(terminal: Terminal) {
  return new Command("prep-soft-reboot")
    .description("Put a deployment in place for a restart without the kernel")
    .argument(
      "[deployment]",
      "id, beginning of an id, staged or rollback; without it, what boots next",
    )
    .option("--reboot", "restart into it")
    .addOption(new Option("--reset", "take back what was put in place").conflicts("reboot"))
    .option("--dry-run", "only print what would be done, as JSON")
    .action(async (deployment, options) => {
      const dryRun = options.dryRun === true;
      if (options.reset === true) reset(terminal, dryRun);
      else prepareNamed(terminal, deployment, dryRun);
      if (options.reboot === true && !dryRun) {
        await restartSystem(terminal, "internals prep-soft-reboot", "soft-reboot");
      }
    });
}

function prepareNamed(terminal: Terminal, name: string | undefined, dryRun: boolean): void {
  if (!dryRun) startFinalizeUnit("soft-reboot");
  using session = openSession("write", "soft-reboot");
  const world = observe(session);
  const id = name === undefined ? findPending(world)?.id : resolveDeployment(world, name);
  if (id === undefined) throw nothingPending();
  const plan = decideSoftReboot(session, world, id);
  if (dryRun) terminal.write(formatPlan(plan));
  else if (plan.kind === "possible") prepare(session, terminal, plan);
  else throw refuseSoftReboot(plan);
}

function prepare(
  { system }: Session,
  terminal: Terminal,
  plan: Extract<SoftRebootPlan, { kind: "possible" }>,
): void {
  mountNextRoot(system, hostProgram(), plan);
  const message = `Prepared for a soft reboot: deployment ${shortId(plan.id)}`;
  recordEvent(system, "softRebootPrepared", message, { DEPLOYMENT: plan.id });
  terminal.line(`${message}; "systemctl soft-reboot" enters it`);
}

/**
 * Its stopping merges /etc and puts the root in place anew. Started before the session, because it may be
 * stopping just now, and that waits for the lock.
 */
function startFinalizeUnit(verb: OstreeVerb): void {
  const system = readSystem();
  requireComposefs(system, verb);
  requireRoot();
  if (!hasSystemd(system)) return;
  runProgram("systemctl", ["start", FINALIZE_UNIT], { package: "systemd" });
}

function reset(terminal: Terminal, dryRun: boolean): void {
  using session = openSession("write", "soft-reboot");
  if (dryRun) {
    terminal.write(formatPlan({ kind: "reset" }));
    return;
  }
  const wasPrepared = clearNextRoot(session.system, hostProgram());
  terminal.line(
    wasPrepared ? "Cleared soft reboot queued state" : "No deployment staged for soft rebooting",
  );
}

function observe({ booted, boot, system }: Session): World {
  return observeWorld(system, boot, booted);
}

function nothingPending(): StateError {
  return new StateError("missing", "Nothing else than the running deployment boots next");
}
