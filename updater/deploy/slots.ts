// Which boot entry is what (bootc.md 4.15): booted = the image that is mounted; staged = what the staged
// file names; of the other live entries the first in the menu is the rollback, the rest are others. A
// rollback is queued when what starts next is not the booted one. Pure.

import type { BootEntry } from "../boot/boot-entry.ts";
import { findNextStart, isGivenUp } from "./trial.ts";
import type { World } from "./world.ts";

interface Slots {
  readonly staged: BootEntry | undefined;
  readonly rollback: BootEntry | undefined;
  readonly others: readonly BootEntry[];
  readonly rollbackQueued: boolean;
}

/** Entries that boot nothing of ours are left out. */
export function assignSlots(world: World): Slots {
  const ours = world.live.filter((entry) => entry.deploymentId !== null);
  const stagedId = world.stagedFile?.id;
  const staged =
    stagedId === undefined
      ? undefined
      : [...(world.staged ?? []), ...ours].find((entry) => entry.deploymentId === stagedId);
  const rest = ours.filter(
    (entry) => entry.deploymentId !== world.booted?.id && entry.deploymentId !== stagedId,
  );
  const next = findNextStart(world);
  // What ran out of tries is there to be looked at, not to go back to.
  const rollback = rest.find((entry) => !isGivenUp(entry));
  return {
    staged,
    rollback,
    others: rest.filter((entry) => entry !== rollback),
    rollbackQueued:
      world.booted !== null && next !== undefined && next.deploymentId !== world.booted.id,
  };
}
