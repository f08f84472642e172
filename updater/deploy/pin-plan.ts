// Pinning, the thinking part: a pinned deployment keeps its boot entry in every menu and is never cleaned
// away (docs/cleanup.md). Pure.
//
// The pin is an empty file in the deployment's state directory, so it goes with it. bootc knows no pins
// on composefs and ignores the file.

import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import type { World } from "./world.ts";

export interface PinPlan {
  readonly id: string;
  readonly pinned: boolean;
  /** False: it is so already. */
  readonly changes: boolean;
}

/** StateError("missing") for a deployment that has no boot entry or no state: there is nothing to keep. */
export function planPin(world: World, id: string, pinned: boolean): PinPlan {
  const short = shortId(id);
  const changes = world.pins.has(id) !== pinned;
  if (!pinned) return { id, pinned, changes };
  const entries = [...world.live, ...(world.staged ?? [])];
  if (!entries.some(({ deploymentId }) => deploymentId === id)) {
    throw new StateError(
      "missing",
      `Deployment ${short} cannot be pinned: no boot entry starts it any more`,
      { id },
    );
  }
  if (!world.states.some((state) => state.id === id && state.complete)) {
    throw new StateError(
      "missing",
      `Deployment ${short} cannot be pinned: its state is not complete; "bootc internals fsck" says more`,
      { id },
    );
  }
  return { id, pinned, changes };
}
