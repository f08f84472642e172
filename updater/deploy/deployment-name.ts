// How verbs are told which deployment they are about: "booted", "staged", "rollback", an id (bootc's
// `composefs.verity` in `status`), or enough of its beginning to be the only one. Pure.

import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import { assignSlots } from "./slots.ts";
import type { World } from "./world.ts";

/** Ids of everything that boots, is staged or has state. */
export function listDeployments(world: World): readonly string[] {
  const entries = [...world.live, ...(world.staged ?? [])].map(({ deploymentId }) => deploymentId);
  const states = world.states.map(({ id }) => id);
  const single = [world.booted?.id, world.stagedFile?.id];
  return [...new Set([...entries, ...states, ...single])].filter(
    (id) => id !== null && id !== undefined,
  );
}

/** Its id. StateError("missing") when there is none, ("conflict") when there are several. */
export function resolveDeployment(world: World, name: string): string {
  const slots = assignSlots(world);
  const bySlot: Readonly<Record<string, string | null | undefined>> = {
    booted: world.booted?.id,
    staged: world.stagedFile?.id,
    rollback: slots.rollback?.deploymentId,
  };
  if (Object.hasOwn(bySlot, name)) {
    const id = bySlot[name];
    if (id !== null && id !== undefined) return id;
    throw new StateError("missing", `There is no ${name} deployment`, { name });
  }
  const all = listDeployments(world);
  const found = all.filter((id) => name !== "" && id.startsWith(name.toLowerCase()));
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    const known = all.map(shortId).join(", ");
    throw new StateError("missing", `Deployment ${name} not found; there are ${known}`, { name });
  }
  const lengths = found.map((id) => id.slice(0, distinctLength(found)));
  throw new StateError(
    "conflict",
    `"${name}" is the beginning of several deployments: ${lengths.join(", ")}`,
    { name },
  );
}

/** How much of these ids it takes to tell them apart. */
function distinctLength(ids: readonly string[]): number {
  let length = 12;
  while (new Set(ids.map((id) => id.slice(0, length))).size < ids.length) length += 1;
  return length;
}
