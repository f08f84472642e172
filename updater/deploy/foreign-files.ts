// Files among the boot entries that are nobody's we know and that we cannot understand: they go on, byte for
// byte, into every menu that is written anew. Broken entries that may be ours do not: what they started has
// no entry any more, and a check of the host side tells.
// What cannot be read at the moment stops every verb that would write the menu anew.

import { StateError } from "../../shared/error.ts";
import { parseEntryName } from "../../shared/format/bls/entry-name.ts";
import type { EntryFile } from "./entry-exchange.ts";
import type { World } from "./world.ts";

/**
 * Those whose name is not that of one of `files`. StateError("conflict") when the disk did not give an entry,
 * whosever: the new menu would be without it, and what it starts would be cleaned away.
 */
export function foreignFiles(world: World, files: readonly EntryFile[]): readonly EntryFile[] {
  const unread = world.brokenLive.find(({ isUnreadable }) => isUnreadable === true);
  if (unread !== undefined) {
    throw new StateError(
      "conflict",
      `The boot menu is not changed: "${unread.fileName}" cannot be read and would be lost (${unread.problem}); check the boot partition's file system and try again`,
    );
  }
  const idOf = (fileName: string) => (parseEntryName(fileName)?.id ?? fileName).toLowerCase();
  const taken = new Set(files.map(({ fileName }) => idOf(fileName)));
  return world.brokenLive.flatMap(({ fileName, bytes, isOurs }) =>
    isOurs || bytes === null || taken.has(idOf(fileName)) ? [] : [{ fileName, text: "", bytes }],
  );
}
