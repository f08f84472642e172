// Rollback, the thinking part: swap the first two entries of the menu (bootc.md 4.13, Appendix A). Pure.
//
// Running it twice restores the order. Only entries are rewritten: no state, no /etc. Names and sort
// keys say "bootc" where staging says the distribution, as in bootc, whose updater reads them.

import { StateError } from "../../shared/error.ts";
import { formatEntry } from "../../shared/format/bls/entry.ts";
import { formatEntryName, makeEntryId, makeSortKey } from "../../shared/format/bls/entry-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { copyEntry } from "./stage-plan.ts";
import { requireBooted, type World } from "./world.ts";

const ROLLBACK_OS_ID = "bootc";

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
  const reordered = [second, first, ...rest];
  const names = new Set<string>();
  return {
    id: second.deploymentId!,
    isRevert: first.deploymentId !== booted.id,
    discardsStaged: world.stagedFile?.id ?? null,
    entries: [
      ...reordered.map((entry, position) => renameEntry(entry, position, names)),
      ...world.live.filter((entry) => entry.deploymentId === null).map(copyEntry),
    ],
  };
}

function renameEntry(entry: BootEntry, position: number, taken: Set<string>): EntryFile {
  const version = entry.entry.version ?? entry.deploymentId ?? "";
  let id = makeEntryId(ROLLBACK_OS_ID, version, position === 0 ? 1 : 0);
  // bootc knows two deployments only; a third of the same version needs a name of its own.
  if (taken.has(id)) id = makeEntryId(ROLLBACK_OS_ID, `${version}.${position}`, 0);
  taken.add(id);
  return {
    fileName: formatEntryName({ id, counter: entry.name.counter }),
    text: formatEntry({ ...entry.entry, sortKey: makeSortKey(ROLLBACK_OS_ID, position) }),
  };
}
