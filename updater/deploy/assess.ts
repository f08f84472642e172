// Carrying out what a start means: the entry loses its counter, failures are written down.
//
// The entry is written under its new name before the old one goes, so that a power cut leaves one of them or
// both, which boot the same. When the ESP is full it is renamed in place, which needs no space.

import { join } from "node:path";
import { isErrno, StateError } from "../../shared/error.ts";
import { applySteps, applyTransaction } from "../../shared/txn/apply.ts";
import type { Transaction } from "../../shared/txn/plan.ts";
import { LIVE_ENTRIES } from "../boot/entry-directory.ts";
import { blessGrubTrial } from "../boot/grub-counter.ts";
import type { AssessPlan } from "./assess-plan.ts";
import { writeFailuresSteps } from "./boot-failure.ts";
import { forgetRecordsSteps, trialPath } from "./boot-record.ts";
import type { Deployer } from "./deployer.ts";
import { replaceEntries } from "./entry-exchange.ts";

export function applyAssessment(deployer: Omit<Deployer, "repo">, plan: AssessPlan): void {
  const { system, boot } = deployer;
  const { physicalRoot } = system;
  if (plan.bless !== null) bless(join(boot.path, LIVE_ENTRIES), plan.bless);
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
}

function bless(directory: string, { from, to }: NonNullable<AssessPlan["bless"]>): void {
  const [counted, plain] = [join(directory, from), join(directory, to.fileName)];
  try {
    applyTransaction({
      prepare: [{ kind: "write", path: plain, bytes: Buffer.from(to.text), mode: 0o644 }],
      commit: { kind: "remove", path: counted },
      cleanup: [],
    });
  } catch (error) {
    const isFull =
      isErrno(error, "ENOSPC") || (error instanceof StateError && error.code === "no-space");
    if (!isFull) throw error;
    applyTransaction(renameInPlace(counted, plain));
  }
}

function renameInPlace(from: string, to: string): Transaction {
  return {
    prepare: [],
    commit: { kind: "exchange", a: from, b: to },
    cleanup: [{ kind: "remove", path: from }],
  };
}
