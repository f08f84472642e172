// Replacing a symlink in one step.

import { randomBytes } from "node:crypto";
import { isErrno } from "../error.ts";
import type { Dir } from "../sys/fd.ts";
import { readlinkat, renameat2, symlinkat, unlinkatIfExists } from "../sys/link.ts";

export const SYMLINK_PREFIX = ".symlink-";

/**
 * Makes `path` a symlink saying `target`, whatever had that name (but a directory) before. A link that
 * says so already stays as it is. The temporary name is in `parent`, relative to `dir`. Not synced.
 */
export function replaceSymlink(dir: Dir, path: string, target: string, parent: string): void {
  try {
    symlinkat(target, dir, path);
    return;
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
  if (saysAlready(dir, path, target)) return;
  const temporary = `${parent}/${SYMLINK_PREFIX}${randomBytes(6).toString("hex")}`;
  symlinkat(target, dir, temporary);
  try {
    renameat2(dir, temporary, dir, path);
  } catch (error) {
    unlinkatIfExists(dir, temporary);
    throw error;
  }
}

function saysAlready(dir: Dir, path: string, target: string): boolean {
  try {
    return Buffer.from(readlinkat(dir, path)).toString("utf8") === target;
  } catch (error) {
    if (isErrno(error, "EINVAL")) return false; // not a symlink
    throw error;
  }
}
