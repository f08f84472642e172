// Leaves a trace on the root disk that a start on trial got past the initramfs' part: a line `<id> <seconds since
// 1970>` at the end of `state/bootc/boot-reached`, which the updater reads (docs/boot-assessment.md).
//
// Only while something is on trial, only where the disk is writable already, and never a reason to refuse: whatever
// goes wrong here is forgotten. Nothing of the disk is read but whether names are there; no link of it is followed,
// and nothing but a regular file of bounded size is written to.

import { S_IFMT, S_IFREG } from "../shared/format/tree/node.ts";
import { O } from "../shared/sys/constants.ts";
import type { Fd } from "../shared/sys/fd.ts";
import { fsync, openat, writeAll } from "../shared/sys/file.ts";
import { fstatatIfExists, fstatfs } from "../shared/sys/stat.ts";

const TRIAL = "boot-trial.json";
const NAME = "boot-reached";
/** Some sixty starts. A trial that goes on for longer begins a new file. */
const LIMIT_BYTES = 8 * 1024;

/** `disk`: the root disk, also one opened with O.PATH. */
export function markReached(disk: Fd, id: string, now = new Date()): void {
  try {
    if (fstatfs(disk).readOnly) return;
    const flags = O.RDONLY | O.DIRECTORY | O.NOFOLLOW;
    using state = openat(disk, "state", flags);
    using directory = openat(state, "bootc", flags);
    if (fstatatIfExists(directory, TRIAL) === null) return;
    const found = fstatatIfExists(directory, NAME);
    if (found !== null && (found.mode & S_IFMT) !== S_IFREG) return;
    const start = (found?.sizeBytes ?? 0) > LIMIT_BYTES ? O.TRUNC : O.APPEND;
    const create = O.WRONLY | O.CREAT | O.NOFOLLOW;
    using file = openat(directory, NAME, create | start, 0o644);
    writeAll(file, Buffer.from(`${id} ${Math.floor(now.getTime() / 1000)}\n`));
    fsync(file);
    if (found === null) fsync(directory);
  } catch {}
}
