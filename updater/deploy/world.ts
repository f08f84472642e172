// Everything the verbs decide upon, read once (design.md, habit 1). Plain data: the planners and
// `status` take it and touch nothing else.

import { join } from "node:path";
import { describeError, StateError } from "../../shared/error.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { type Bootloader, detectBootloader } from "../boot/efi-variable.ts";
import { LIVE_ENTRIES, readEntryDirectory, STAGED_ENTRIES } from "../boot/entry-directory.ts";
import { listKernelDirectories } from "../boot/kernel-directory.ts";
import type { System } from "../boot/system.ts";
import type { BootedImage } from "./environment.ts";
import type { StagedFile } from "./staged-file.ts";
import { type DeploymentState, readStagedFile, readStates } from "./state-directory.ts";

export interface World {
  /** Null at install, and when looking at a disk that is not running. */
  readonly booted: BootedImage | null;
  readonly bootloader: Bootloader;
  /** Both in menu order; `staged` is null when there is no such directory. */
  readonly live: readonly BootEntry[];
  readonly staged: readonly BootEntry[] | null;
  readonly stagedFile: StagedFile | null;
  readonly states: readonly DeploymentState[];
  /** Names in `state/deploy` left by interrupted work. */
  readonly leftovers: readonly string[];
  /** Names of the kernel directories on the boot partition. */
  readonly kernels: readonly string[];
  /** What was found broken and skipped, one sentence each. */
  readonly problems: readonly string[];
}

export function observeWorld(system: System, bootPath: string, booted: BootedImage | null): World {
  const problems: string[] = [];
  const live = readEntryDirectory(join(bootPath, LIVE_ENTRIES));
  const staged = readEntryDirectory(join(bootPath, STAGED_ENTRIES));
  const listing = readStates(system.physicalRoot);
  let stagedFile: StagedFile | null = null;
  try {
    stagedFile = readStagedFile(system);
  } catch (error) {
    problems.push(`The staged deployment is ignored: ${describeError(error)}`);
  }
  problems.push(...(live?.problems ?? []), ...(staged?.problems ?? []), ...listing.problems);
  return {
    booted,
    bootloader: detectBootloader(system),
    live: live?.entries ?? [],
    staged: staged?.entries ?? null,
    stagedFile,
    states: listing.states,
    leftovers: listing.leftovers,
    kernels: listKernelDirectories(bootPath),
    problems,
  };
}

/** The booted image; StateError when the machine did not boot through us. */
export function requireBooted(world: World): BootedImage {
  if (world.booted !== null) return world.booted;
  throw new StateError("not-booted", "System not booted via bootc");
}

/** Deployments a boot entry leads to, live or staged: these are never cleaned away. */
export function referencedDeployments(world: World): ReadonlySet<string> {
  const ids = [...world.live, ...(world.staged ?? [])].map((entry) => entry.deploymentId);
  return new Set([...ids.filter((id) => id !== null), ...(world.booted ? [world.booted.id] : [])]);
}
