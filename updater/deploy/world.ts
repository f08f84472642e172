// Everything the verbs decide upon, read once (design.md, habit 1). Plain data: the planners and
// `status` take it and touch nothing else.

import { join } from "node:path";
import { shortId } from "../../shared/bytes/hex.ts";
import { describeError, StateError } from "../../shared/error.ts";
import { type BootAssessment, readAssessment } from "../boot/assessment.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { BootDirectory, BootLayout } from "../boot/boot-layout.ts";
import { readMenu } from "../boot/boot-menu.ts";
import { type Bootloader, detectBootloader } from "../boot/efi-variable.ts";
import { type BrokenEntry, LIVE_ENTRIES } from "../boot/entry-directory.ts";
import {
  ADDONS_PARENT,
  listAddons,
  listKernelDirectories,
  listStrayFiles,
  listUnifiedKernels,
} from "../boot/kernel-directory.ts";
import { findFixedDefault } from "../boot/loader-default.ts";
import type { System } from "../boot/system.ts";
import { isOurAddon } from "../image/boot-kernel.ts";
import {
  type BootFailure,
  dropLostRetries,
  type FailedImage,
  readFailures,
} from "./boot-failure.ts";
import { findRecordObstacle } from "./boot-record.ts";
import type { BootedImage } from "./environment.ts";
import type { StagedFile } from "./staged-file.ts";
import { type DeploymentState, readStagedFile, readStates } from "./state-directory.ts";
import { markFailed } from "./trial.ts";

/** A part that could not be read at all: nothing may be concluded from what it does not show. */
export type WorldPart = "live" | "staged" | "staged-file" | "states" | "kernels";

export interface World {
  /** Null at install, and when looking at a disk that is not running. */
  readonly booted: BootedImage | null;
  readonly bootloader: Bootloader;
  readonly layout: BootLayout;
  /** Whether the loader counted this start. */
  readonly assessment: BootAssessment;
  /** Deployments that did not start. */
  readonly failures: readonly BootFailure[];
  /** Both in menu order; `staged` is null when there is no such directory. */
  readonly live: readonly BootEntry[];
  readonly staged: readonly BootEntry[] | null;
  /** Files of `loader/entries` that could not be understood; the boot loader may see more in them. */
  readonly brokenLive: readonly BrokenEntry[];
  readonly brokenStaged: readonly BrokenEntry[];
  readonly stagedFile: StagedFile | null;
  readonly states: readonly DeploymentState[];
  /** Deployments that somebody wants to keep. */
  readonly pins: ReadonlySet<string>;
  /** Names in `state/deploy` left by interrupted work. */
  readonly leftovers: readonly string[];
  /** Names of the kernel directories on the boot partition. */
  readonly kernels: readonly string[];
  /** Names of the unified kernels in `EFI/Linux/bootc`, and of the directories with their addons. */
  readonly ukis: readonly string[];
  /** Names of the addons for every unified kernel that are of ours. */
  readonly globalAddons: readonly string[];
  /** Below the boot directory: files of writers that died. */
  readonly strays: readonly string[];
  readonly unread: readonly WorldPart[];
  /** What was found broken and skipped, one sentence each. */
  readonly problems: readonly string[];
}

/** What throws is noted, and the fallback taken. */
function makePartReader() {
  const problems: string[] = [];
  const unread: WorldPart[] = [];
  const readPart = <T>(part: WorldPart, what: string, read: () => T, fallback: T): T => {
    try {
      return read();
    } catch (error) {
      unread.push(part);
      problems.push(`${what}: ${describeError(error)}`);
      return fallback;
    }
  };
  return { problems, unread, readPart };
}

export function observeWorld(
  system: System,
  boot: BootDirectory,
  booted: BootedImage | null,
): World {
  const { problems, unread, readPart } = makePartReader();
  const readEntries = (part: "live" | "staged") =>
    readPart(part, "Boot entries are unknown", () => readMenu(boot, part), null);
  const live = readEntries("live");
  const staged = readEntries("staged");
  const listing = readPart(
    "states",
    "The deployments' state cannot be listed",
    () => readStates(system.physicalRoot),
    { states: [], leftovers: [], problems: [] },
  );
  const stagedFile = readPart(
    "staged-file",
    "The staged deployment is ignored",
    () => readStagedFile(system),
    null,
  );
  const kernels = readPart(
    "kernels",
    "Kernels cannot be listed",
    () => listKernelDirectories(boot),
    [],
  );
  const readUkis = () => listUnifiedKernels(boot);
  const ukis = readPart("kernels", "Unified kernels cannot be listed", readUkis, []);
  const listed = readFailures(system.physicalRoot);
  const failures = dropLostRetries(listed.failures, describeStaged(stagedFile, listing.states));
  const { layout } = boot;
  const assessment = readAssessment(system, boot);
  for (const part of [listed, live, staged, listing]) problems.push(...(part?.problems ?? []));
  if (!unread.includes("states")) problems.push(...findDead(live?.entries ?? [], listing.states));
  problems.push(...findFixedDefault(system, boot));
  problems.push(...describeObstacle(system));
  if (boot.layout.countingProblem !== null) problems.push(boot.layout.countingProblem);
  return {
    booted,
    bootloader: detectBootloader(system),
    layout,
    assessment,
    failures,
    live: markFailed(live?.entries ?? [], failures, { layout, booted, assessment }),
    staged: staged?.entries ?? null,
    brokenLive: live?.broken ?? [],
    brokenStaged: staged?.broken ?? [],
    stagedFile,
    states: listing.states,
    pins: new Set(listing.states.filter((state) => state.isPinned).map((state) => state.id)),
    leftovers: listing.leftovers,
    kernels,
    ukis,
    globalAddons: readPart(
      "kernels",
      "Addons cannot be listed",
      () => listAddons(boot.layout, ADDONS_PARENT).filter(isOurAddon),
      [],
    ),
    strays: [
      ...(live?.leftovers ?? []).map((name) => join(LIVE_ENTRIES, name)),
      ...listStrayFiles(boot, kernels),
    ],
    unread,
    problems,
  };
}

function describeObstacle({ physicalRoot }: System): readonly string[] {
  const path = findRecordObstacle(physicalRoot);
  if (path === null) return [];
  return [
    `Records of starts cannot be kept, and no update applied: "${path}" is not a directory; "bootc internals fsck --repair" removes it`,
  ];
}

/** A failure may be known by the image's manifest alone. */
export function describeStaged(
  staged: StagedFile | null,
  states: readonly DeploymentState[],
): FailedImage | null {
  if (staged === null) return null;
  const manifestDigest = states.find(({ id }) => id === staged.id)?.origin?.manifestDigest;
  return { id: staged.id, ...(manifestDigest == null ? {} : { manifestDigest }) };
}

/** Entries of deployments that are not here: they cannot start. */
function findDead(live: readonly BootEntry[], states: readonly DeploymentState[]): string[] {
  const known = new Set<string | null>([null, ...states.map(({ id }) => id)]);
  return live
    .filter(({ deploymentId }) => !known.has(deploymentId))
    .map(
      ({ fileName, deploymentId }) =>
        `Boot entry "${fileName}" starts deployment ${shortId(deploymentId!)}, of which there is no state`,
    );
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
