// What `upgrade` and `switch` say about their outcome. Scripts match a few of these lines: they are
// bootc's (bootc.md 1.2).

import { describeFailure } from "../deploy/boot-failure.ts";
import type { ImageFacts } from "../deploy/image-facts.ts";
import type { UpdateOutcome } from "../deploy/update.ts";
import type { RenewedStatement } from "../deploy/update-trust.ts";
import { displayReference, type ImageReference } from "../image/reference.ts";
import { describeStage, formatPlan } from "./plan-text.ts";
import { describePull } from "./pull-text.ts";
import type { Terminal } from "./terminal.ts";

interface OutcomeOptions {
  readonly check: boolean;
  readonly downloadOnly: boolean;
  /** What would be done, and be it nothing, as JSON. */
  readonly dryRun: boolean;
}

export function printOutcome(
  terminal: Terminal,
  outcome: UpdateOutcome,
  reference: ImageReference,
  options: OutcomeOptions,
): void {
  const name = displayReference(reference);
  if (options.dryRun && outcome.kind !== "available" && outcome.kind !== "planned") {
    terminal.write(formatPlan(describeUnchanged(outcome)));
    return;
  }
  switch (outcome.kind) {
    case "unchanged":
      if (options.check) terminal.line(`No changes in: ${name}`);
      else if (outcome.slot === "booted") terminal.line("No update available.");
      else terminal.line(`No changes in: ${name}: it is the rollback, "bootc rollback" boots it`);
      printRenewal(terminal, outcome.renewed);
      return;
    case "failed-before":
      terminal.line(`No update: ${describeFailure(outcome.failure)}`);
      terminal.line('A newer image is staged as usual; "--retry-failed" stages this one again');
      return;
    case "already-staged":
      terminal.line(STAGED_LINES[outcome.lock]);
      printRenewal(terminal, outcome.renewed);
      return;
    case "available":
      terminal.line(`Update available for: ${name}`);
      printFacts(terminal, outcome.facts, outcome.manifestDigest);
      for (const line of describePull(outcome.plan)) terminal.line(`  ${line}`);
      return;
    case "planned":
      terminal.write(formatPlan(describeStage(outcome.preparation)));
      return;
    case "staged":
      terminal.line(
        options.downloadOnly
          ? "Image downloaded, but will not be applied on reboot"
          : `Queued for next boot: ${name}`,
      );
      printFacts(terminal, outcome.facts, outcome.manifestDigest);
      if (outcome.droppedArguments !== "") {
        terminal.line(
          `  Kernel arguments that its sealed kernel does not take over: ${outcome.droppedArguments}`,
        );
      }
      for (const warning of outcome.warnings) terminal.line(`  Warning: ${warning}`);
      return;
  }
}

/** Without the document itself. */
function describeUnchanged(outcome: UpdateOutcome): object {
  if (!("renewed" in outcome) || outcome.renewed === undefined) return outcome;
  const { document, ...renewed } = outcome.renewed;
  return { ...outcome, renewed };
}

/** The image is the same, its signatures are not. */
function printRenewal(terminal: Terminal, renewed: RenewedStatement | undefined): void {
  if (renewed === undefined) return;
  const until = renewed.expires === null ? "does not expire" : `expires ${renewed.expires}`;
  terminal.line(`Signature renewed: version ${renewed.version}, ${until}`);
}

const STAGED_LINES = {
  locked: "Image downloaded, but will not be applied on reboot",
  unlocked: "Staged deployment will now be applied on reboot",
  kept: "Staged update present, not changed",
} as const;

function printFacts(terminal: Terminal, facts: ImageFacts, digest: string): void {
  if (facts.version !== null) terminal.line(`  Version: ${facts.version}`);
  terminal.line(`  Digest: ${digest}`);
}
