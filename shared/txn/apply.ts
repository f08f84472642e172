// Carrying out a transaction.
//
// Durability: every step is on the disk before the next begins. An exchange: fsync of everything in the
// new directory, of itself, syncfs, fsync of both parents -> RENAME_EXCHANGE -> syncfs -> fsync of the parents (on vfat
// that order is what makes it durable and never shows a half-moved directory; durable.ts) -> and only
// then cleanup removes the old one.
// When a prepare step fails, what this run created is removed again: nothing half-done stays behind.

import { dirname } from "node:path";
import { isErrno, StateError, UnsupportedError } from "../error.ts";
import { S_IFDIR, S_IFMT, S_IFREG } from "../format/tree/node.ts";
import { fchmod } from "../sys/attributes.ts";
import { O, RENAME } from "../sys/constants.ts";
import { mkdiratIfMissing, openDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { fsync, openat, openatIfExists, read, readAll, syncfs } from "../sys/file.ts";
import { renameat2, unlinkat } from "../sys/link.ts";
import { fstat, fstatat, fstatatIfExists } from "../sys/stat.ts";
import { copyFileAtomic, writeFileAtomic } from "./atomic.ts";
import { isDirectory, isFat, syncPath, syncTree } from "./durable.ts";
import type { Step, Transaction } from "./plan.ts";
import { removeDurably } from "./removal.ts";
import { replaceSymlink } from "./symlink.ts";

const COMPARE_BYTES = 1 << 20;
/** 17 of vfat's directory entries; a boot entry takes 4 to 8, and as many under its temporary name. It is a temporary name, too. */
const ROOM_NAME = `.${"room".repeat(45)}.partial-000000000000`;

/** prepare, commit, cleanup; throws at the first step that fails. */
export function applyTransaction(transaction: Transaction): void {
  const created: string[] = [];
  try {
    for (const step of transaction.prepare) {
      const path = newPath(step);
      if (path !== null && fstatatIfExists(null, path) === null) created.push(path);
      applyStep(step);
    }
  } catch (error) {
    for (const path of created.reverse()) removeQuietly(path);
    throw error;
  }
  applyStep(transaction.commit);
  for (const step of transaction.cleanup) applyStep(step);
}

/** Steps of which the last one is the commit; none: nothing happens. */
export function applySteps(steps: readonly Step[]): void {
  const commit = steps.at(-1);
  if (commit !== undefined) applyTransaction({ prepare: steps.slice(0, -1), commit, cleanup: [] });
}

/** What the step makes when it is not there yet. */
function newPath(step: Step): string | null {
  switch (step.kind) {
    case "mkdir":
    case "write":
    case "symlink":
      return step.path;
    case "copy":
      return step.to;
    case "remove":
    case "exchange":
    case "sync":
      return null;
  }
}

/** The first error is the one to report. */
function removeQuietly(path: string): void {
  try {
    removeDurably([path]);
  } catch {}
}

function applyStep(step: Step): void {
  switch (step.kind) {
    case "mkdir":
      makeDirectory(step.path, step.mode);
      break;
    case "write":
      if (!isWritten(step.path, step.bytes, step.mode)) {
        writeFileAtomic(null, step.path, step.bytes, { mode: step.mode });
      }
      break;
    case "copy":
      if (!isCopied(step.from, step.to, step.mode)) {
        copyFileAtomic(step.from, null, step.to, { mode: step.mode });
      }
      break;
    case "symlink":
      replaceSymlink(null, step.path, step.target, dirname(step.path));
      syncPath(dirname(step.path));
      break;
    case "remove":
      if (fstatatIfExists(null, step.path) === null) break;
      removeDurably([step.path]);
      break;
    case "exchange":
      exchange(step.a, step.b);
      break;
    case "sync":
      syncPath(step.path);
      break;
  }
}

function makeDirectory(path: string, mode: number): void {
  if (!mkdiratIfMissing(null, path, mode)) {
    // A file in the way would only be noticed steps later, with a less clear error.
    if (leadsToDirectory(path)) return;
    throw new StateError("conflict", `"${path}" is not a directory`, { path });
  }
  using fd = openDirectory(null, path);
  if (!isFat(fd)) fchmod(fd, mode);
  fsync(fd);
  syncPath(dirname(path));
}

/** Also through a link; one that leads nowhere is none. */
function leadsToDirectory(path: string): boolean {
  try {
    return (fstatat(null, path, { follow: true }).mode & S_IFMT) === S_IFDIR;
  } catch (error) {
    if (isErrno(error, "ENOENT", "ELOOP")) return false;
    throw error;
  }
}

/** True when the file is there already, which is then made durable: it may be of a run that was cut. */
function isWritten(path: string, bytes: Uint8Array, mode: number): boolean {
  using fd = openSame(path, bytes.length, mode);
  if (fd === null || !Buffer.from(readAll(fd, bytes.length)).equals(bytes)) return false;
  fsync(fd);
  syncPath(dirname(path));
  return true;
}

function isCopied(from: string, to: string, mode: number): boolean {
  using source = openat(null, from, O.RDONLY);
  using fd = openSame(to, fstat(source).sizeBytes, mode);
  if (fd === null || !haveSameContent(source, fd)) return false;
  fsync(fd);
  syncPath(dirname(to));
  return true;
}

/** The regular file at `path` when its size and mode (where the file system keeps modes) agree. */
function openSame(path: string, sizeBytes: number, mode: number): Fd | null {
  const stat = fstatatIfExists(null, path);
  if (stat === null || (stat.mode & S_IFMT) !== S_IFREG || stat.sizeBytes !== sizeBytes) {
    return null;
  }
  const fd = openatIfExists(null, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  if (fd !== null && (stat.mode & 0o7777) !== mode && !isFat(fd)) {
    fd.close();
    return null;
  }
  return fd;
}

function haveSameContent(a: Fd, b: Fd): boolean {
  const [left, right] = [Buffer.alloc(COMPARE_BYTES), Buffer.alloc(COMPARE_BYTES)];
  for (;;) {
    const count = readFull(a, left);
    if (readFull(b, right) !== count) return false;
    if (count === 0) return true;
    if (left.compare(right, 0, count, 0, count) !== 0) return false;
  }
}

function readFull(fd: Fd, buffer: Uint8Array): number {
  let length = 0;
  while (length < buffer.length) {
    const count = read(fd, buffer.subarray(length));
    if (count === 0) break;
    length += count;
  }
  return length;
}

function exchange(a: string, b: string): void {
  const hasOld = fstatatIfExists(null, b) !== null;
  if (hasOld && fstatatIfExists(null, a) === null) return; // done by an earlier run
  const parents = [...new Set([dirname(a), dirname(b)])];
  makeRoom(a);
  syncTree(null, a);
  // In its place, not only in the journal: GRUB replays none, and after this one block changes.
  for (const parent of parents) syncFileSystem(parent);
  try {
    renameat2(null, a, null, b, hasOld ? RENAME.EXCHANGE : RENAME.NOREPLACE);
  } catch (cause) {
    if (!isErrno(cause, "EINVAL", "ENOSYS")) throw cause;
    throw new UnsupportedError(
      "feature",
      `Cannot exchange "${a}" and "${b}" in one step: the kernel or file system lacks RENAME_EXCHANGE`,
      {},
      { cause },
    );
  }
  for (const parent of parents) syncFileSystem(parent);
}

/**
 * vfat: a directory in use that grows is cut off at its old end when the power goes between two sectors. So it grows before:
 * by a long name, whose room the next names get. Without space for it, it may have to grow later.
 */
function makeRoom(path: string): void {
  using found = openat(null, path, O.PATH);
  if (!isFat(found) || !isDirectory(found)) return;
  try {
    using directory = openDirectory(null, path);
    openat(directory, ROOM_NAME, O.CREAT | O.WRONLY, 0o600).close();
    unlinkat(directory, ROOM_NAME);
  } catch (error) {
    if (!isErrno(error, "ENOSPC")) throw error;
  }
}

function syncFileSystem(path: string): void {
  using fd = openat(null, path, O.RDONLY | O.DIRECTORY);
  syncfs(fd);
  fsync(fd);
}
