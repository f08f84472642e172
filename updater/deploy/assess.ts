// Carrying out what a start means: the entry loses its counter, failures are written down.

import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import { blessGrubTrial } from "../boot/grub-counter.ts";
import type { AssessPlan } from "./assess-plan.ts";
import { writeFailuresSteps } from "./boot-failure.ts";
import { forgetRecordsSteps, trialPath } from "./boot-record.ts";
import type { Deployer } from "./deployer.ts";
import { replaceEntries } from "./entry-exchange.ts";
import { renameEntry } from "./entry-rename.ts";
import { forgetFinalizeFailuresOf } from "./finalize-failure.ts";

export function applyAssessment(deployer: Omit<Deployer, "repo">, plan: AssessPlan): void {
  const { system, boot } = deployer;
  const { physicalRoot } = system;
  if (plan.bless !== null) renameEntry(boot, plan.bless);
  // Failures first: once the menu is in order, nothing else says which deployment it was.
  if (plan.grubMenu !== null && plan.failures !== null) {
    applySteps(writeFailuresSteps(physicalRoot, plan.failures));
  }
  if (plan.grubMenu !== null) applyTransaction(replaceEntries(system, boot, plan.grubMenu));
  if (plan.grubMenu !== null || plan.blessGrub) blessGrubTrial(boot);
  applySteps([
    ...(plan.failures === null ? [] : writeFailuresSteps(physicalRoot, plan.failures)),
    ...(plan.trialEnds ? forgetRecordsSteps(physicalRoot) : []),
    ...(plan.trialEnds ? [{ kind: "remove", path: trialPath(physicalRoot) } as const] : []),
  ]);
  forgetFinalizeFailuresOf(system, plan.started);
}
