// Removing files and directories so that a power cut leaves them, or nothing that could do harm.
//
// vfat keeps names in directories, and in a table which clusters are taken; nothing orders the writes of the two.
// A name may therefore outlive its clusters: the next file gets them, and whoever removes that name later takes
// them away from it. What somebody has open keeps its clusters (unlink(2)), so it is closed when the names are gone for
// certain. Cut off in between, clusters belong to nobody until fsck.vfat finds them: space, but no content, is lost.

import { basename, dirname } from "node:path";
import { S_IFDIR, S_IFMT } from "../format/tree/node.ts";
import { O } from "../sys/constants.ts";
import { openDirectory, readDirectory, removeTree } from "../sys/directory.ts";
import type { Fd, Path } from "../sys/fd.ts";
import { openatIfExists } from "../sys/file.ts";
import { removeFrozenTree } from "../sys/frozen-tree.ts";
import { fstat, fstatatIfExists } from "../sys/stat.ts";
import { isFat, syncDirectory } from "./durable.ts";

/** Of descriptors. No boot partition has so many files of ours; a heap of foreign ones must not stop us. */
const HOLD_LIMIT = 256;

/**
 * rm -r of each path, also of missing ones. On the disk when it returns. A directory, such as the menu before this one, is ours
 * as a whole, whatever flags a file in it got while it was in use.
 */
export function removeDurably(paths: readonly string[]): void {
  for (const [parent, siblings] of Map.groupBy(paths, dirname)) {
    using directory = openatIfExists(null, parent, O.RDONLY | O.DIRECTORY);
    if (directory !== null) removeFrom(directory, siblings);
  }
}

function removeFrom(directory: Fd, paths: readonly string[]): void {
  const names = paths.map((path) => basename(path));
  const fat = isFat(directory);
  const held: Fd[] = [];
  try {
    if (fat) for (const name of names) hold(directory, name, held);
    for (const name of names) removeName(directory, name);
    syncDirectory(directory);
  } finally {
    for (const fd of held) fd.close();
  }
  if (fat) syncDirectory(directory);
}

function removeName(directory: Fd, name: string): void {
  const stat = fstatatIfExists(directory, name);
  if (stat === null) return;
  if ((stat.mode & S_IFMT) === S_IFDIR) removeFrozenTree(directory, name);
  else removeTree(directory, name);
}

function hold(directory: Fd, name: Path, held: Fd[]): void {
  if (held.length >= HOLD_LIMIT) return;
  const fd = openatIfExists(directory, name, O.PATH | O.NOFOLLOW);
  if (fd === null) return;
  held.push(fd);
  if ((fstat(fd).mode & S_IFMT) !== S_IFDIR) return;
  using listing = openDirectory(directory, name);
  for (const entry of readDirectory(listing)) hold(listing, entry.name, held);
}
