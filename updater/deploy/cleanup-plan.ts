// What may be removed (bootc.md 4.17), the thinking part. Pure.
//
// Rooted in what the boot loader can boot: live and staged entries, and the booted image. Kernel
// directories live by the name entries use, states and repository tags by the deployment.

import { StateError } from "../../shared/error.ts";
import { deploymentTag } from "../image/boot-image.ts";
import { isDeploymentTag } from "./image-tag.ts";
import { referencedDeployments, type World } from "./world.ts";

export interface CleanupPlan {
  /** Names of kernel directories no entry boots from. */
  readonly kernels: readonly string[];
  /** Deployment ids whose state goes. */
  readonly states: readonly string[];
  /** Names in `state/deploy` left by interrupted work. */
  readonly leftovers: readonly string[];
  /** The staged file names a deployment that is going. */
  readonly stagedFile: boolean;
  /** Repository tags, decoded. */
  readonly tags: readonly string[];
  /** What the repository's garbage collection must keep beside the tags. */
  readonly roots: readonly string[];
}

export interface CleanupScope {
  /** Decoded tags of the repository. */
  readonly tags: readonly string[];
  /** Only kernels: at shutdown there is no time for more. */
  readonly kernelsOnly: boolean;
}

/** StateError("conflict") when the running deployment would be touched: something is badly wrong. */
export function planCleanup(world: World, scope: CleanupScope): CleanupPlan {
  const entries = [...world.live, ...(world.staged ?? [])];
  const artefacts = new Set(entries.map((entry) => entry.artefact));
  const referenced = referencedDeployments(world);
  const kernels = world.kernels.filter((name) => !artefacts.has(name));
  const bootedEntry = entries.some((entry) => entry.deploymentId === world.booted?.id);
  if (world.booted !== null && !bootedEntry) {
    throw new StateError(
      "conflict",
      `Nothing is cleaned up: the running deployment ${world.booted.id} has no boot entry`,
      { id: world.booted.id },
    );
  }
  if (scope.kernelsOnly) {
    return { kernels, states: [], leftovers: [], stagedFile: false, tags: [], roots: [] };
  }
  const states = world.states.filter((state) => !referenced.has(state.id));
  const liveTags = new Set(
    world.states
      .filter((state) => referenced.has(state.id))
      .map((state) => deploymentTag(state.origin?.manifestDigest ?? "")),
  );
  // Without its origin a deployment's tag is unknown, so no tag may go.
  const tagsKnown = [...referenced].every((id) =>
    world.states.some((state) => state.id === id && state.origin?.manifestDigest),
  );
  return {
    kernels,
    states: states.map((state) => state.id),
    leftovers: world.leftovers,
    stagedFile: states.some((state) => state.id === world.stagedFile?.id),
    tags: tagsKnown ? scope.tags.filter((tag) => isDeploymentTag(tag) && !liveTags.has(tag)) : [],
    roots: [...referenced].sort(),
  };
}
