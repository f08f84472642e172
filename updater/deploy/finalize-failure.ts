// A shutdown that did not apply what was staged: `state/bootc/finalize-failed.json` on the root disk, so that the
// next start can say why the update is not there. What is staged is forgotten by then (/run is empty). Written without
// a reason before finalizing changes anything, for whoever is killed can say nothing any more.
//
// A note only: nothing is decided by it, writing it may fail, and it says nothing any more once the deployment is in
// the boot menu or was cleaned away.

import { existsSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import type { System } from "../boot/system.ts";
import { recordEvent } from "../journal/events.ts";
import { makeDirectorySteps } from "./boot-record.ts";
import { isGivenUp } from "./trial.ts";
import type { World } from "./world.ts";

const FILE = "state/bootc/finalize-failed.json";
const SIZE_LIMIT_BYTES = 64 * 1024;
const REASON_LIMIT = 2000;
const CUT_OFF =
  'finalizing it began and was cut off: it was killed, ran out of its time, or the power went ("journalctl -u bootc-finalize-staged.service" may know more)';

/** `at`: RFC 3339. `reason`: null as long as finalizing has not ended. */
const schema = z.object({ id: z.string(), at: z.string(), reason: z.string().nullable() });
type FinalizeFailure = Readonly<z.infer<typeof schema>>;

/** In the journal, and on the disk if that can be written. */
export function noteFinalizeFailure(system: System, id: string, error: unknown, now: Date): void {
  const reason = describeError(error);
  const message = `Deployment ${id} was not applied: ${reason}`;
  recordEvent(system, "finalizeFailed", message, { DEPLOYMENT: id, REASON: reason });
  writeNote(system, { at: now.toISOString(), id, reason: reason.slice(0, REASON_LIMIT) });
}

/** Should this be the last that is heard of it: it was killed, or the power went. */
export function noteFinalizeBegun(system: System, id: string, now: Date): void {
  writeNote(system, { at: now.toISOString(), id, reason: null });
}

function writeNote({ physicalRoot }: System, { at, id, reason }: FinalizeFailure): void {
  try {
    applySteps([
      ...makeDirectorySteps(physicalRoot),
      writeText(join(physicalRoot, FILE), `${JSON.stringify({ at, id, reason })}\n`),
    ]);
  } catch {
    // The deployment can be applied without it; of an error, that one is to be reported.
  }
}

/** Something was applied. */
export function forgetFinalizeFailure({ physicalRoot }: System): void {
  const path = join(physicalRoot, FILE);
  if (existsSync(path)) applySteps([{ kind: "remove", path }]);
}

/** These were started, so they were applied, and only what came after that was cut off. */
export function forgetFinalizeFailuresOf(system: System, ids: readonly string[]): void {
  const failure = readFinalizeFailure(system);
  if (failure !== null && ids.includes(failure.id)) forgetFinalizeFailure(system);
}

export function readFinalizeFailure({ physicalRoot }: System): FinalizeFailure | null {
  try {
    const text = readSmallText(join(physicalRoot, FILE), SIZE_LIMIT_BYTES);
    const parsed = text === null ? null : schema.safeParse(JSON.parse(text));
    return parsed?.success === true ? parsed.data : null;
  } catch {
    return null;
  }
}

/** For `status`; null when it is no news any more. */
export function describeFinalizeFailure(
  world: World,
  failure: FinalizeFailure | null,
): string | null {
  if (failure === null) return null;
  const { id, at, reason } = failure;
  const isApplied = world.live.some((entry) => entry.deploymentId === id && !isGivenUp(entry));
  const isThere = world.states.some((state) => state.id === id);
  if (isApplied || id === world.booted?.id || !isThere) return null;
  const remedy =
    world.stagedFile?.id === id
      ? "it is staged, and the next shutdown tries again"
      : 'stage it again with "bootc upgrade" or "bootc switch"';
  return `Deployment ${shortId(id)} was not applied at ${at}: ${reason ?? CUT_OFF}; ${remedy}`;
}
