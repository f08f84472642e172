// Finalizing a staged deployment at shutdown, the thinking part (bootc.md 4.12). Pure.
//
// The order is: merge /etc into a fresh directory and swap it in, then exchange the entry directories:
// that exchange is the commit. Interrupted anywhere, the next run finds out from the world where it is:
// before the exchange everything is done again, after it only the cleaning is left.

import { StateError } from "../../shared/error.ts";
import { requireBooted, type World } from "./world.ts";

export type FinalizePlan =
  | { readonly kind: "nothing"; readonly reason: string }
  /** The exchange happened already. */
  | { readonly kind: "cleanup"; readonly id: string }
  | { readonly kind: "merge-and-exchange"; readonly id: string };

/** StateError("missing") when the staged deployment could not start: nothing may be exchanged then. */
export function planFinalize(world: World): FinalizePlan {
  const { stagedFile } = world;
  if (stagedFile === null) return { kind: "nothing", reason: "No deployment is staged" };
  if (stagedFile.locked) {
    return { kind: "nothing", reason: "The staged deployment is download-only" };
  }
  requireBooted(world);
  const { id } = stagedFile;
  const isStaged = world.staged?.some((entry) => entry.deploymentId === id) ?? false;
  if (!isStaged) {
    if (world.live.some((entry) => entry.deploymentId === id)) return { kind: "cleanup", id };
    throw new StateError(
      "missing",
      `The staged deployment ${id} has no boot entry; stage it again`,
      {
        id,
      },
    );
  }
  const first = world.staged?.find((entry) => entry.deploymentId !== null);
  if (first?.deploymentId !== id) {
    throw new StateError(
      "conflict",
      `The staged boot entries do not start deployment ${id} first; stage it again`,
      { id },
    );
  }
  const state = world.states.find((candidate) => candidate.id === id);
  if (state === undefined || !state.complete) {
    throw new StateError(
      "missing",
      `The staged deployment ${id} has no complete state directory; stage it again`,
      { id },
    );
  }
  if (first.artefact !== null && !world.kernels.includes(first.artefact)) {
    throw new StateError(
      "missing",
      `The staged deployment ${id} has no kernel in "${first.artefact}"; stage it again`,
      { id },
    );
  }
  return { kind: "merge-and-exchange", id };
}
