// Deleting a deployment, the thinking part (bootc.md 4.14). Pure.
//
// Only its boot entries go here; the cleanup that follows removes what they alone kept. The other entries
// keep their names and their places, and what is staged stays staged. Without its entry, a rollback that
// was queued to it is none any more: the running deployment is first again.

import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { assignSlots } from "./slots.ts";
import { isOnTrial } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

export interface DeletePlan {
  readonly id: string;
  readonly slot: "staged" | "rollback" | "other";
  /** It was to boot next. */
  readonly revertsRollback: boolean;
  /** All that is staged is given up. */
  readonly dropsStaged: boolean;
  /** The entries that stay; null: that menu does not change. */
  readonly live: readonly BootEntry[] | null;
  readonly staged: readonly BootEntry[] | null;
}

/** StateError("conflict") for a deployment that runs, is pinned, or is all there is to fall back to. */
export function planDelete(world: World, id: string): DeletePlan {
  const booted = requireBooted(world);
  const short = shortId(id);
  if (booted.id === id) {
    throw new StateError(
      "conflict",
      `Cannot delete currently booted deployment ${short}; boot another one first ("bootc rollback --apply")`,
      { id },
    );
  }
  if (world.pins.has(id)) {
    throw new StateError(
      "conflict",
      `Deployment ${short} is pinned; "bootc pin --unpin ${short}" first`,
      { id },
    );
  }
  if (world.unread.length > 0) {
    throw new StateError(
      "conflict",
      `Nothing is deleted: not all of this machine's boot entries and states can be read; see "problems" in "bootc status"`,
      { id },
    );
  }
  requireFallback(world, id);
  const slots = assignSlots(world);
  const isStaged = world.stagedFile?.id === id;
  return {
    id,
    slot: isStaged ? "staged" : slots.rollback?.deploymentId === id ? "rollback" : "other",
    revertsRollback: slots.rollbackQueued && firstOurs(world.live)?.deploymentId === id,
    dropsStaged: isStaged,
    live: without(world.live, id),
    staged: isStaged || world.staged === null ? null : without(world.staged, id),
  };
}

/** As long as the running deployment has not proved itself, another one must stay bootable. */
function requireFallback(world: World, id: string): void {
  if (!isOnTrial(world)) return;
  const others = world.live.filter(
    ({ deploymentId }) => deploymentId !== null && deploymentId !== world.booted?.id,
  );
  if (others.length === 0 || others.some(({ deploymentId }) => deploymentId !== id)) return;
  throw new StateError(
    "conflict",
    `Deployment ${shortId(id)} is what this machine falls back to until the running one has proved itself; wait for boot-complete.target`,
    { id },
  );
}

function firstOurs(entries: readonly BootEntry[]): BootEntry | undefined {
  return entries.find(({ deploymentId }) => deploymentId !== null);
}

/** Null when it has no entry there. */
function without(entries: readonly BootEntry[], id: string): readonly BootEntry[] | null {
  const kept = entries.filter(({ deploymentId }) => deploymentId !== id);
  return kept.length === entries.length ? null : kept;
}
