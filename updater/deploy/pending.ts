// Telling others that the machine has to restart, or need not any more (bootc.md 2.6):
//
//   /run/reboot-required   there while something else than the running deployment boots next, or that with other
//                          kernel arguments; kured, Debian's motd and others look for it. First line as bootc's
//                          ostree backend has it
//   ostree/bootc           its modification time; bootc-status-updated.path watches it
//
// Both are notes: what boots is decided by the boot entries alone.

import { existsSync, mkdirSync, rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { isErrno } from "../../shared/error.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { writeFileAtomic } from "../../shared/txn/atomic.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import { hostProgram } from "../boot/own-program.ts";
import type { System } from "../boot/system.ts";
import type { BootedImage } from "./environment.ts";
import { dropStaleNextRoot } from "./next-root.ts";
import { assignSlots } from "./slots.ts";
import { hasNewArguments } from "./started-arguments.ts";
import { observeWorld, type World } from "./world.ts";

/** Other programs write this file, too; only what begins so is ours. */
const OURS = "bootc: Reboot required for ";
const SIZE_LIMIT_BYTES = 64 * 1024;
/** Where `ostree/bootc` leads to (decided when the disk was installed; bootc.md 4.1). */
const STATUS_DIRECTORY = "composefs/bootc";
const STATUS_LINK = "ostree/bootc";

export interface PendingDeployment {
  readonly id: string;
  /** Null when its origin does not say. */
  readonly manifestDigest: string | null;
}

/** What boots next, if that is not what runs. Download-only deployments are not pending. */
export function findPending(world: World): PendingDeployment | null {
  const { stagedFile } = world;
  const slots = assignSlots(world);
  const isStaged = stagedFile !== null && !stagedFile.locked && slots.staged !== undefined;
  const queued = slots.rollbackQueued ? slots.rollback : undefined;
  const id = isStaged ? stagedFile.id : queued?.deploymentId;
  return id === undefined || id === null ? null : findImage(world, id);
}

function findImage({ states }: World, id: string): PendingDeployment {
  const state = states.find((candidate) => candidate.id === id);
  return { id, manifestDigest: state?.origin?.manifestDigest ?? null };
}

/** Whether a restart is still called for, as far as this machine's notes say. */
export function isRebootNoted(system: System): boolean {
  return existsSync(rebootRequiredPath(system));
}

/** Brings both notes up to date, and drops a soft reboot prepared for something else; for the end of every verb that changes what boots next. */
export function notePending(
  system: System,
  boot: BootDirectory,
  booted: BootedImage,
): PendingDeployment | null {
  const world = observeWorld(system, boot, booted);
  const pending = findPending(world);
  dropStaleNextRoot(system, hostProgram(), pending?.id ?? null);
  writeRebootRequired(system, describeRestart(system, world, pending));
  touchStatus(system);
  return pending;
}

/** What a restart is for; null when it would change nothing. */
function describeRestart(
  system: System,
  world: World,
  pending: PendingDeployment | null,
): string | null {
  if (pending !== null) return `image: ${nameImage(pending)}`;
  if (world.booted === null || !hasNewArguments(system, world)) return null;
  return `kernel arguments of image: ${nameImage(findImage(world, world.booted.id))}`;
}

function nameImage({ id, manifestDigest }: PendingDeployment): string {
  return manifestDigest ?? id;
}

function writeRebootRequired(system: System, reason: string | null): void {
  const path = rebootRequiredPath(system);
  const present = readNote(path);
  const isForeign = present !== null && !present.startsWith(OURS);
  if (isForeign) return;
  if (reason !== null) {
    const bytes = Buffer.from(`${OURS}${reason}\n`);
    writeFileAtomic(null, path, bytes, { mode: 0o644, sync: false });
  } else if (present !== null) {
    rmSync(path, { force: true });
  }
}

function rebootRequiredPath(system: System): string {
  return join(system.runDirectory, "reboot-required");
}

function readNote(path: string): string | null {
  try {
    return readSmallText(path, SIZE_LIMIT_BYTES);
  } catch {
    return ""; // whatever it is, it is not ours
  }
}

/** Never fails: what it is about is done already. */
function touchStatus({ physicalRoot }: System): void {
  const now = new Date();
  try {
    utimesSync(join(physicalRoot, STATUS_LINK), now, now);
  } catch (error) {
    if (isErrno(error, "ENOENT")) makeStatusDirectory(physicalRoot);
  }
}

/** Installations before this program's first release have the link and not the directory. */
function makeStatusDirectory(physicalRoot: string): void {
  try {
    mkdirSync(join(physicalRoot, STATUS_DIRECTORY), { recursive: true, mode: 0o755 });
  } catch {
    // Something else is in its place: nobody can watch it.
  }
}
