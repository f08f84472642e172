// What the boot entry of the running deployment gave its kernel, kept from the first change of its arguments on:
// /run/bootc/started-arguments, one line. With it a change that waits for a restart can be told, and one that was
// taken back.
//
// /proc/cmdline does not say that: firmware, hypervisors, boot loaders and people at the menu add to it, and a
// machine that is restarted for a difference which is there again afterwards never ends.

import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { System } from "../boot/system.ts";
import { argumentsOf, listOwnArguments } from "./soft-reboot-plan.ts";
import type { World } from "./world.ts";

const FILE = "bootc/started-arguments";
const SIZE_LIMIT_BYTES = 64 * 1024;

/** Before the arguments of what runs are changed; the first call of a boot counts. `world`: as it was then. */
export function noteStartedArguments({ runDirectory }: System, world: World): void {
  const path = join(runDirectory, FILE);
  const entry = findRunning(world);
  if (entry === undefined || readNote(path) !== null) return;
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const bytes = Buffer.from(`${argumentsOf(entry)}\n`);
  writeFileAtomic(null, path, bytes, { mode: 0o644, sync: false });
}

/** The deployment that runs boots next, and its kernel gets other arguments than this time. */
export function hasNewArguments({ runDirectory }: System, world: World): boolean {
  const started = readNote(join(runDirectory, FILE));
  const entry = findRunning(world);
  if (started === null || entry === undefined) return false;
  const [before, next] = [started, argumentsOf(entry)].map((line) =>
    listOwnArguments(line).join("\n"),
  );
  return before !== next;
}

function findRunning({ booted, live }: World): BootEntry | undefined {
  return live.find(({ deploymentId }) => deploymentId !== null && deploymentId === booted?.id);
}

function readNote(path: string): string | null {
  try {
    return readSmallText(path, SIZE_LIMIT_BYTES);
  } catch {
    return null; // not ours: then nothing is known
  }
}
