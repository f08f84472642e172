// Which live entry is on trial in this boot, and which deployment has proved itself (docs/boot-assessment.md). Pure.

import type { BootEntry } from "../boot/boot-entry.ts";
import { GRUB_TRIES } from "../boot/grub-counter.ts";
import type { BootFailure } from "./boot-failure.ts";
import type { World } from "./world.ts";

/**
 * The entry this kernel was started from, as long as it is counted and not blessed. Null after a soft reboot
 * into another deployment, which the loader has not tried yet, and when the counter is no longer the one it
 * was started with: then somebody judged the boot already, or set the entry on trial anew.
 */
export function findTrialEntry(world: World): BootEntry | null {
  const { startedId, count } = world.assessment;
  if (count.kind !== "entry-name" || startedId === null || startedId !== world.booted?.id) {
    return null;
  }
  const { left, done } = count.counter;
  const candidates = world.live.filter(
    ({ deploymentId, name }) =>
      deploymentId === startedId && name.counter?.left === left && name.counter.done === done,
  );
  return candidates.find((entry) => entry.name.id === count.entryId) ?? candidates[0] ?? null;
}

/** Whether GRUB, which has one counter for the machine, still waits for this start to be called good. */
export function isGrubTrial(world: World): boolean {
  const { startedId, count } = world.assessment;
  return count.kind === "grubenv" && !count.blessed && startedId === world.booted?.id;
}

/**
 * Whether the deployment that runs was entered by a soft reboot, and is on trial from its first real start on:
 * its entry, or "grubenv" where GRUB's one counter is meant for it.
 */
export function findUntried(world: World): BootEntry | "grubenv" | null {
  const { startedId, count } = world.assessment;
  const id = world.booted?.id;
  if (id === undefined || startedId === null || startedId === id) return null;
  const first = world.live.find(({ deploymentId }) => deploymentId !== null);
  if (count.kind === "grubenv")
    return first?.deploymentId === id && !count.blessed ? "grubenv" : null;
  return (
    world.live.find(
      ({ deploymentId, name }) => deploymentId === id && (name.counter?.left ?? 0) > 0,
    ) ?? null
  );
}

/** Deployments of ours that the loader gave up; of GRUB's menu too the entry has no tries left then. */
export function findGivenUp(world: World): readonly BootEntry[] {
  const ours = world.live.filter(({ deploymentId }) => deploymentId !== null);
  return ours.filter(isGivenUp);
}

/**
 * GRUB keeps no counter with an entry: what is known to have failed has no tries left there, unless it runs (somebody
 * chose it by hand) or is being tried anew.
 */
export function markFailed(
  live: readonly BootEntry[],
  failures: readonly BootFailure[],
  { layout, booted, assessment }: Pick<World, "layout" | "booted" | "assessment">,
): readonly BootEntry[] {
  if (layout.counting !== "grubenv") return live;
  const { count } = assessment;
  const first = live.find(({ deploymentId }) => deploymentId !== null);
  const tried = count.kind === "grubenv" && !count.blessed ? first : undefined;
  const isFailed = ({ deploymentId }: BootEntry) =>
    deploymentId !== booted?.id &&
    failures.some(
      ({ id, retrying, isRetryStaged }) =>
        id === deploymentId && (!retrying || isRetryStaged === true),
    );
  return live.map((entry) =>
    entry !== tried && entry.name.counter === null && isFailed(entry)
      ? { ...entry, name: { ...entry.name, counter: { left: 0, done: GRUB_TRIES } } }
      : entry,
  );
}

/** The deployment of ours that starts next. GRUB passes over the first one when this start is its last try. */
export function findNextStart({ live, assessment }: World): BootEntry | undefined {
  const ours = live.filter(({ deploymentId }) => deploymentId !== null);
  const { count } = assessment;
  const lastTry = count.kind === "grubenv" ? count.lastTry : undefined;
  if (lastTry === undefined) return ours[0];
  const { fallbackId } = lastTry;
  const fallback = fallbackId === null ? ours[1] : ours.find(({ name }) => name.id === fallbackId);
  return fallback ?? ours[0];
}

/** Its tries ran out. */
export function isGivenUp({ name }: BootEntry): boolean {
  return name.counter?.left === 0;
}

/** Whether the deployment that runs has yet to prove itself. */
export function isOnTrial(world: World): boolean {
  const { count } = world.assessment;
  if (count.kind === "grubenv") return !count.blessed;
  return isCounted(world.live.find((entry) => entry.deploymentId === world.booted?.id));
}

/** What to fall back to behind a deployment on trial: the first other one that proved itself, else any. */
export function findLastGood(world: World): BootEntry | null {
  const others = world.live.filter(
    ({ deploymentId }) => deploymentId !== null && deploymentId !== world.booted?.id,
  );
  return others.find((entry) => !isCounted(entry)) ?? others[0] ?? null;
}

function isCounted(entry: BootEntry | undefined): boolean {
  return entry !== undefined && entry.name.counter !== null;
}
