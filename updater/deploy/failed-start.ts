// A start on trial that failed its checks, or is not complete in time: why is written down for whoever starts
// next, and the machine restarts when another deployment can take over (docs/boot-assessment.md).
//
// A soft reboot takes no try away, so a failed one does that here: the restart that follows is a full one, which the
// boot loader counts, and there is one start less until the deployment before takes over.

import { join } from "node:path";
import { describeError } from "../../shared/error.ts";
import { formatEntryName } from "../../shared/format/bls/entry-name.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { spendGrubTry } from "../boot/grub-counter.ts";
import { runProgram } from "../boot/program.ts";
import type { System } from "../boot/system.ts";
import { type FailedRecord, writeFailedSteps } from "./boot-record.ts";
import { type EntryRename, renameEntry } from "./entry-rename.ts";
import { findTrialEntry, findUntried, isGivenUp, isGrubTrial } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

export type FailedStartPlan =
  | { readonly kind: "nothing"; readonly reason: string }
  | {
      readonly kind: "failed";
      readonly record: FailedRecord;
      readonly restarts: boolean;
      /** The loader did not count this start: its try is taken away here. */
      readonly spends: EntryRename | "grubenv" | null;
    };

/** It runs while this is found out. */
const OWN_UNIT = "bootc-boot-failed.service";
const LIST_LIMIT = 5;
const RESULTS_LIMIT_BYTES = 64 * 1024;

/** Asks systemd what is wrong. `now`: RFC 3339. */
export function planFailedStart(system: System, world: World, now: string): FailedStartPlan {
  const { id } = requireBooted(world);
  const untried = findUntried(world);
  if (findTrialEntry(world) === null && !isGrubTrial(world) && untried === null) {
    return { kind: "nothing", reason: "This start is not on trial" };
  }
  if (systemctl(["is-active", "boot-complete.target"]).trim() === "active") {
    return { kind: "nothing", reason: "This start is complete" };
  }
  return planFailure(world, { id, at: now, detail: findCause(system) });
}

/** Of a start that is on trial, or of a soft reboot into what is to be tried. */
export function planFailure(world: World, found: FailedRecord): FailedStartPlan {
  const restarts = world.live.some(
    (entry) => entry.deploymentId !== null && entry.deploymentId !== found.id && !isGivenUp(entry),
  );
  const untried = findUntried(world);
  if (untried === null) return { kind: "failed", record: found, restarts, spends: null };
  const record = { ...found, detail: `After a soft reboot: ${found.detail}` };
  const spends = untried === "grubenv" ? untried : spendTry(untried);
  return { kind: "failed", record, restarts, spends: restarts ? spends : null };
}

function spendTry({ fileName, name, text }: BootEntry): EntryRename {
  const { left, done } = name.counter!;
  const counter = { left: left - 1, done: done + 1 };
  return { from: fileName, to: { fileName: formatEntryName({ id: name.id, counter }), text } };
}

/** Why it could not be written down, or null. A full or read-only disk may be what failed: the restart must not wait for it. */
export function noteFailedStart(
  { physicalRoot }: System,
  { record }: Extract<FailedStartPlan, { kind: "failed" }>,
): string | null {
  try {
    applySteps(writeFailedSteps(physicalRoot, record));
    return null;
  } catch (error) {
    return describeError(error);
  }
}

/** Changes the menu: only with the lock, and nobody waits for it. */
export function spendStart(
  boot: BootDirectory,
  { spends }: Extract<FailedStartPlan, { kind: "failed" }>,
): void {
  if (spends === "grubenv") spendGrubTry(boot);
  else if (spends !== null) renameEntry(boot, spends);
}

function findCause(system: System): string {
  return explainCause({
    checks: readChecks(system),
    failedUnits: systemctl(["list-units", "--state=failed", "--plain", "--no-legend", "--full"]),
    jobs: systemctl(["list-jobs", "--plain", "--no-legend", "--full"]),
  });
}

function readChecks({ runDirectory }: System): string | null {
  try {
    return readSmallText(join(runDirectory, "bootc/health-failed"), RESULTS_LIMIT_BYTES);
  } catch {
    return null; // then the failed units say it
  }
}

/** Texts as health-checks.ts and systemctl write them. The most telling comes first. */
export function explainCause(found: {
  readonly checks: string | null;
  readonly failedUnits: string;
  readonly jobs: string;
}): string {
  const checks = lines(found.checks ?? "");
  if (checks.length > 0) return `Health check ${list(checks)}`;
  const units = lines(found.failedUnits).map((line) => line.split(/\s+/)[0]!);
  if (units.length > 0) return `${list(units)} failed`;
  const running = lines(found.jobs)
    .map((line) => line.split(/\s+/))
    .filter(([, , , state]) => state === "running")
    .map(([, unit]) => unit!)
    .filter((unit) => unit !== OWN_UNIT);
  if (running.length > 0) return `Not complete in time, waiting for ${list(running)}`;
  return "boot-complete.target was not reached";
}

function lines(text: string): string[] {
  return text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [line.trim()]));
}

function list(items: readonly string[]): string {
  const more = items.length > LIST_LIMIT ? ` and ${items.length - LIST_LIMIT} more` : "";
  return `${items.slice(0, LIST_LIMIT).join(", ")}${more}`;
}

/** "is-active" has other exit codes for other states. */
function systemctl(args: readonly string[]): string {
  return runProgram("systemctl", args, { package: "systemd", accept: [1, 2, 3, 4] });
}
