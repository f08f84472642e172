// Rollback, the thinking part: swap the first two entries of the menu (bootc.md 4.13, Appendix A). Pure.
//
// Running it twice restores the order. Only entries are rewritten: no state, no /etc. Names and sort
// keys say "bootc" where staging says the distribution, as in bootc, whose updater reads them.

import { shortId } from "../../shared/bytes/hex.ts";
import { StateError } from "../../shared/error.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { planMenu } from "./menu-plan.ts";
import { findNextStart, isGivenUp } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

export interface RollbackPlan {
  /** What boots next. */
  readonly id: string;
  /** A queued rollback is taken back. */
  readonly isRevert: boolean;
  /** The staged deployment that is given up, if there is one. */
  readonly discardsStaged: string | null;
  readonly entries: readonly EntryFile[];
}

/** StateError("no-rollback") when the menu has no second deployment. */
export function planRollback(world: World): RollbackPlan {
  const booted = requireBooted(world);
  const [first, second, ...rest] = world.live.filter((entry) => entry.deploymentId !== null);
  if (first === undefined || second === undefined) {
    throw new StateError("no-rollback", "No rollback available");
  }
  const next = findNextStart(world);
  if (next !== undefined && next !== first) {
    throw new StateError(
      "no-rollback",
      `No rollback available: deployment ${shortId(first.deploymentId!)} has no try left, so the next start goes back to ${shortId(next.deploymentId!)} by itself`,
    );
  }
  if (isGivenUp(second)) {
    throw new StateError(
      "no-rollback",
      `No rollback available: deployment ${shortId(second.deploymentId!)} did not start when it was tried; "bootc upgrade --retry-failed" or "bootc switch --retry-failed" tries it again`,
    );
  }
  return {
    id: second.deploymentId!,
    isRevert: first.deploymentId !== booted.id,
    discardsStaged: world.stagedFile?.id ?? null,
    entries: planMenu(world, {
      names: "rollback",
      items: [second, first, ...rest].map((entry) => ({ kind: "kept", entry })),
    }),
  };
}
