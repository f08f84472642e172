// `bootc internals assess-boot check|good|review|failed`: what the bootc-boot-*.service units run
// (docs/boot-assessment.md).

import { Argument, Command } from "@commander-js/extra-typings";
import { describeError, StateError } from "../../shared/error.ts";
import { runProgram } from "../boot/program.ts";
import { readSystem, type System } from "../boot/system.ts";
import { applyAssessment } from "../deploy/assess.ts";
import { type AssessPlan, planAssessment } from "../deploy/assess-plan.ts";
import { describeFailure } from "../deploy/boot-failure.ts";
import { readBootRecords } from "../deploy/boot-record.ts";
import {
  type FailedStartPlan,
  noteFailedStart,
  planFailedStart,
  spendStart,
} from "../deploy/failed-start.ts";
import { runHealthChecks } from "../deploy/health-checks.ts";
import {
  beginSettlement,
  planSettlement,
  settleTrust,
  type TrustSettlement,
} from "../deploy/trust-settlement.ts";
import { observeWorld } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import { formatPlan } from "./plan-text.ts";
import {
  acquireVerbLock,
  openSession,
  requireComposefs,
  requireRoot,
  type Session,
} from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeAssessBootCommand(terminal: Terminal) {
  return new Command("assess-boot")
    .description("Judge this start; run by the system when it is complete, or is not in time")
    .addArgument(
      new Argument(
        "<verdict>",
        "check: run the health checks; good: complete; review: look after earlier starts; failed",
      ).choices(["check", "good", "review", "failed"] as const),
    )
    .option("--dry-run", "only print what would be done, as JSON")
    .action((verdict, options) => {
      const dryRun = options.dryRun === true;
      if (verdict === "check") checkHealth(terminal);
      else if (verdict === "failed") judgeFailed(terminal, dryRun);
      else judge(terminal, verdict === "good", dryRun);
    });
}

function checkHealth(terminal: Terminal): void {
  if (runHealthChecks(readSystem(), terminal.line)) return;
  throw new StateError("conflict", "This start is not healthy: see the failed checks above");
}

function judge(terminal: Terminal, good: boolean, dryRun: boolean): void {
  using session = openSession("write", "assess-boot", { lock: "wait" });
  const { system, boot, booted } = session;
  const world = observeWorld(system, boot, booted);
  const now = new Date().toISOString();
  const plan = planAssessment(world, good, readBootRecords(system), now);
  if (dryRun) {
    terminal.write(formatPlan({ ...plan, trust: good ? planSettlement(session, world) : null }));
    return;
  }
  if (good) beginSettlement(session, world);
  applyAssessment(session, plan);
  const digest = world.states.find(({ id }) => id === booted.id)?.origin?.manifestDigest ?? null;
  report(terminal, system, plan, { id: booted.id, digest });
  if (good) reportTrust(terminal, system, settleTrust(session, observeWorld(system, boot, booted)));
}

function reportTrust(
  terminal: Terminal,
  system: System,
  { problems, raised, removed }: TrustSettlement,
): void {
  for (const id of removed) {
    const message = `Deployment ${id} is revoked and has left the boot menu`;
    terminal.line(message);
    recordEvent(system, "revokedRemoved", message, { DEPLOYMENT: id });
  }
  if (raised !== null) {
    const message = `Images below version ${raised.version} do not start here any more`;
    terminal.line(message);
    const { source, version } = raised;
    recordEvent(system, "floorRaised", message, { FLOOR: version, SOURCE: source });
  }
  for (const problem of problems) {
    terminal.line(problem);
    recordEvent(system, "trustProblem", problem, { PROBLEM: problem });
  }
}

function report(
  terminal: Terminal,
  system: System,
  { bless, blessGrub, newFailures }: AssessPlan,
  booted: { readonly id: string; readonly digest: string | null },
): void {
  if (bless !== null || blessGrub) {
    const message = `Deployment ${booted.id} started well and is no longer on trial`;
    terminal.line(message);
    recordEvent(system, "blessed", message, { DEPLOYMENT: booted.id, DIGEST: booted.digest });
  }
  for (const failure of newFailures) {
    const message = describeFailure(failure);
    terminal.line(message);
    recordEvent(system, "bootFailed", message, {
      DEPLOYMENT: failure.id,
      DIGEST: failure.manifestDigest,
      IMAGE: failure.image,
      REASON: failure.reason,
      DETAIL: failure.detail,
      ATTEMPTS: failure.attempts,
    });
  }
}

/** Without it the loader gives one start more. */
function takeTry(
  terminal: Terminal,
  { boot, system }: Session,
  plan: Extract<FailedStartPlan, { kind: "failed" }>,
): void {
  try {
    using _ = acquireVerbLock(system);
    spendStart(boot, plan);
  } catch (error) {
    terminal.line(`It does not count as a try: ${describeError(error)}`);
  }
}

/** On a disk that cannot be written any more the machine can be restarted all the same. */
function openFailedStart(terminal: Terminal): Session {
  requireComposefs(readSystem(), "assess-boot");
  requireRoot();
  try {
    return openSession("write", "assess-boot", { lock: "none" });
  } catch (error) {
    terminal.line(`Nothing can be changed here: ${describeError(error)}`);
    return openSession("read", "assess-boot");
  }
}

/** Does not wait for other verbs, which may be what hangs. */
function judgeFailed(terminal: Terminal, dryRun: boolean): void {
  using session = openFailedStart(terminal);
  const { system, boot, booted } = session;
  const plan = planFailedStart(
    system,
    observeWorld(system, boot, booted),
    new Date().toISOString(),
  );
  if (dryRun) {
    terminal.write(formatPlan(plan));
    return;
  }
  if (plan.kind === "nothing") {
    terminal.line(plan.reason);
    return;
  }
  const problem = noteFailedStart(system, plan);
  if (problem !== null) terminal.line(`It cannot be written down: ${problem}`);
  terminal.line(`This start failed: ${plan.record.detail}`);
  if (plan.spends !== null) takeTry(terminal, session, plan);
  if (plan.restarts) {
    const message = "--message=This start failed its checks";
    runProgram("systemctl", ["--no-block", "reboot", message], { package: "systemd" });
  } else
    terminal.line("There is no other deployment to fall back to, so the machine stays as it is");
}
