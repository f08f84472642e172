// The part of `bootc internals fsck` that is about the machine, after its repository: boot entries, kernels,
// deployments' state, what is staged (docs/cleanup.md).

import type { HostFinding, HostStep } from "../deploy/host-finding.ts";
import { inspectHost, planHostRepair, repairHost } from "../deploy/host-repair.ts";
import { notePending } from "../deploy/pending.ts";
import { formatFinding, formatHostStep } from "./fsck-text.ts";
import type { Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export interface HostCheck {
  readonly findings: readonly HostFinding[];
  readonly steps: readonly { readonly step: HostStep; readonly error: string | null }[];
}

interface HostCheckOptions {
  readonly metadataOnly: boolean;
  readonly repair: boolean;
  readonly dryRun: boolean;
}

/** The repository is as good as it gets by now: kernels and origins are mended from it. */
export function checkHostSide(
  terminal: Terminal,
  session: Session,
  options: HostCheckOptions,
): HostCheck {
  const { metadataOnly } = options;
  if (session.problems.length > 0)
    return { findings: session.problems.map(unknownHost), steps: [] };
  const note = (step: HostStep, error: string | null) =>
    terminal.note(formatHostStep(step, error === null ? "done" : "failed"));
  if (options.repair && !options.dryRun) {
    const { boot, booted, system } = session;
    const { steps, remaining } = repairHost(session, booted, metadataOnly, note);
    // What was staged may have been given up.
    if (steps.length > 0) notePending(system, boot, booted);
    return { findings: remaining, steps };
  }
  const findings = inspectHost(session, session.booted, metadataOnly);
  const steps = options.repair ? planHostRepair(findings) : [];
  return { findings, steps: steps.map((step) => ({ step, error: null })) };
}

/** Without its boot partition nothing can be said of what this machine boots. */
function unknownHost(problem: string): HostFinding {
  const advice = "mount or repair the boot partition";
  return { kind: "entries-unreadable", path: "boot partition", problem, advice, steps: [] };
}

export function printHost(
  terminal: Terminal,
  host: HostCheck,
  { dryRun }: Pick<HostCheckOptions, "dryRun">,
): void {
  if (host.findings.length === 0) terminal.line("ok: boot entries, kernels, deployments' state");
  for (const finding of host.findings) terminal.line(formatFinding(finding));
  if (!dryRun) return;
  for (const { step } of host.steps) terminal.line(formatHostStep(step, "planned"));
}
