// What a start means for the deployments of a machine (docs/boot-assessment.md). Pure.
//
// good: boot-complete.target was reached, so the entry that is on trial loses its counter. review: this start
// is not on trial itself, but others ran out of tries; each is written down once, with what is known of why.

import { formatEntryName } from "../../shared/format/bls/entry-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootFailure } from "./boot-failure.ts";
import type { BootRecords } from "./boot-record.ts";
import type { EntryFile } from "./entry-exchange.ts";
import type { EntryRename } from "./entry-rename.ts";
import { NEW_COUNTER, planMenu } from "./menu-plan.ts";
import { findGivenUp, findTrialEntry, isGrubTrial } from "./trial.ts";
import type { World } from "./world.ts";

export interface AssessPlan {
  /** The entry that is renamed, or null: this start is not on trial. */
  readonly bless: ({ readonly id: string } & EntryRename) | null;
  /** GRUB is told that the start was good. */
  readonly blessGrub: boolean;
  /** GRUB gave a deployment up: the menu with that one behind the others, after which GRUB is told so. */
  readonly grubMenu: readonly EntryFile[] | null;
  /** Deployments that are found to have failed. */
  readonly newFailures: readonly BootFailure[];
  /** All that are known then; null: nothing changes. */
  readonly failures: readonly BootFailure[] | null;
  /** Deployments that were started, for better or worse. */
  readonly started: readonly string[];
  /** Nothing is on trial any more. */
  readonly trialEnds: boolean;
}

/** `good`: this start is complete. `now`: RFC 3339. */
export function planAssessment(
  world: World,
  good: boolean,
  records: BootRecords,
  now: string,
): AssessPlan {
  const trial = good ? findTrialEntry(world) : null;
  const blessedId = trial?.deploymentId ?? null;
  const blessGrub = good && isGrubTrial(world);
  const newFailures = findGivenUp(world)
    .filter((entry) => entry.deploymentId !== world.booted?.id && !isKnown(world, entry))
    .map((entry) => describeFailure(world, entry, records, now));
  const startedWell = good && isUncountedStart(world) ? world.booted?.id : undefined;
  const isGone = (failure: BootFailure) =>
    failure.id === blessedId ||
    failure.id === startedWell ||
    newFailures.some((other) => other.id === failure.id);
  const failures = [...world.failures.filter((failure) => !isGone(failure)), ...newFailures];
  const isSame = newFailures.length === 0 && failures.length === world.failures.length;
  return {
    bless: trial === null ? null : planBlessing(trial),
    blessGrub,
    grubMenu: planGrubMenu(world),
    newFailures,
    failures: isSame ? null : failures,
    started: [
      ...(good && world.booted !== null ? [world.booted.id] : []),
      ...newFailures.map(({ id }) => id),
    ],
    trialEnds: !isTrialLeft(world, blessedId) && (blessGrub || !isGrubTrial(world)),
  };
}

/** Not by the name of its entry, so that nothing is left to bless: by GRUB, or by hand. */
function isUncountedStart({ assessment, booted }: World): boolean {
  return assessment.count.kind !== "entry-name" && assessment.startedId === booted?.id;
}

/** In the order of `live`, where what was given up is last already. */
function planGrubMenu(world: World): readonly EntryFile[] | null {
  const { count } = world.assessment;
  if (count.kind !== "grubenv" || !count.fallback) return null;
  const ours = world.live.filter(({ deploymentId }) => deploymentId !== null);
  return planMenu(world, {
    names: "rollback",
    items: ours.map((entry) => ({ kind: "kept", entry })),
  });
}

function isTrialLeft(world: World, blessedId: string | null): boolean {
  return world.live.some(
    ({ deploymentId, name }) =>
      deploymentId !== blessedId && name.counter !== null && name.counter.left > 0,
  );
}

function planBlessing(entry: BootEntry): AssessPlan["bless"] {
  return {
    id: entry.deploymentId!,
    from: entry.fileName,
    to: { fileName: formatEntryName({ id: entry.name.id, counter: null }), text: entry.text },
  };
}

function isKnown(world: World, { deploymentId }: BootEntry): boolean {
  return world.failures.some((failure) => failure.id === deploymentId && !failure.retrying);
}

function describeFailure(
  world: World,
  entry: BootEntry,
  records: BootRecords,
  now: string,
): BootFailure {
  const id = entry.deploymentId!;
  const origin = world.states.find((state) => state.id === id)?.origin ?? null;
  const before = world.failures.find((failure) => failure.id === id)?.attempts ?? 0;
  return {
    id,
    manifestDigest: origin?.manifestDigest ?? null,
    image: origin?.imageReference ?? null,
    ...findReason(id, records, now),
    attempts: before + (entry.name.counter?.done ?? NEW_COUNTER.left),
    retrying: false,
  };
}

type Reason = Pick<BootFailure, "at" | "reason" | "detail">;

/** What speaks most clearly first. The records of other deployments say nothing about this one. */
function findReason(
  id: string,
  { refused, failed, reached, watchdog }: BootRecords,
  now: string,
): Reason {
  if (refused?.id === id) {
    const reason = refused.kind === "verity" ? "verity" : "initramfs";
    return { at: refused.at, reason, detail: refused.text };
  }
  if (failed?.id === id) return { at: failed.at, reason: "unit", detail: failed.detail };
  const last = reached.findLast((start) => start.id === id);
  if (watchdog) {
    const where = last !== undefined ? "after the system was mounted" : "in the initramfs";
    return { at: now, reason: "watchdog", detail: `The watchdog restarted the machine ${where}` };
  }
  if (last !== undefined) {
    const detail =
      "The system was mounted, and it ended without a word (panic, crash, hang or power cut)";
    return { at: last.at, reason: "unknown", detail };
  }
  const detail = "It ended in the kernel or the initramfs, before the system was mounted";
  return { at: now, reason: "initramfs", detail };
}
