// Replacing a file in one step: the name stands for the old content or the new, also after a power cut.
//
// Order: new content into a temporary file -> mode -> fsync it -> rename -> fsync the directory. On vfat
// the temporary file has a name; fsync of any directory writes the table of clusters, and that of a file its directory entry
// first, so the directory goes before the file (decision 0023); and between rename and the end come fsync of the file again (its
// entry moved) and syncfs; see durable.ts. This is the only place that writes files that matter.

import { fchmod } from "../sys/attributes.ts";
import { O } from "../sys/constants.ts";
import { copyFileContents } from "../sys/copy.ts";
import { openDirectory } from "../sys/directory.ts";
import type { Dir, Fd } from "../sys/fd.ts";
import { fsync, openat, openatIfExists, writeAll } from "../sys/file.ts";
import { isFat, syncDirectory } from "./durable.ts";
import { explainNoSpace } from "./no-space.ts";
import { TemporaryFile } from "./temporary-file.ts";

export interface WriteOptions {
  /** Exact, not subject to the umask; vfat has its own ideas and keeps them. */
  readonly mode: number;
  /** Default true. False only where losing the file in a power cut does not matter, as on /run. */
  readonly sync?: boolean;
}

/** Whether a file of this name is what a writer that died has left (where files need a name at once: vfat). */
export function isTemporaryName(name: string): boolean {
  return /^\..+\.partial-[0-9a-f]{12}$/.test(name);
}

/** What a temporary file was to be called. */
export function finalName(temporaryName: string): string {
  return temporaryName.replace(/^\.(.+)\.partial-[0-9a-f]{12}$/, "$1");
}

/** Writes `bytes` to `path`, creating or replacing it. StateError("no-space") when the disk is full. */
export function writeFileAtomic(
  dir: Dir,
  path: string,
  bytes: Uint8Array,
  options: WriteOptions,
): void {
  replaceFile(dir, path, options, (fd) => writeAll(fd, bytes));
}

/** As `writeFileAtomic`, for what does not fit into memory well. */
export function writeChunksAtomic(
  dir: Dir,
  path: string,
  chunks: Iterable<Uint8Array>,
  options: WriteOptions,
): void {
  replaceFile(dir, path, options, (fd) => {
    for (const chunk of chunks) writeAll(fd, chunk);
  });
}

/** As `writeFileAtomic`, with the content of the file `from` (absolute path). */
export function copyFileAtomic(from: string, dir: Dir, path: string, options: WriteOptions): void {
  using source = openat(null, from, O.RDONLY);
  replaceFile(dir, path, options, (fd) => copyFileContents(source, fd));
}

function replaceFile(
  dir: Dir,
  path: string,
  options: WriteOptions,
  fill: (fd: Fd) => unknown,
): void {
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  using parent = openDirectory(dir, slash < 0 ? "." : path.slice(0, slash + 1));
  const fat = isFat(parent);
  // Open until its name is another file's on the disk; removal.ts says why.
  using _replaced =
    fat && options.sync !== false ? openatIfExists(parent, name, O.PATH | O.NOFOLLOW) : null;
  try {
    using file = new TemporaryFile(parent, {
      parent: ".",
      prefix: `.${name.slice(0, 64)}.partial-`,
      mode: options.mode,
      named: fat,
    });
    fill(file.fd);
    if (!fat) fchmod(file.fd, options.mode);
    // Which clusters are taken, and not yet that they are this file's.
    if (fat && options.sync !== false) fsync(parent);
    if (options.sync !== false) fsync(file.fd);
    file.replace(name);
    if (options.sync === false) return;
    if (fat) fsync(file.fd);
    syncDirectory(parent);
  } catch (error) {
    throw explainNoSpace(error, `file "${path}"`);
  }
}
