// The boot menu of a disk that is not running, as its ESP has it: entries in systemd-boot's order, and what
// each of them starts.

import { listEsp, type RawDisk, readEsp, removeEsp, writeEsp } from "./disk-edit.ts";

export type DiskEntry = {
  /** Paths on the ESP. */
  readonly path: string;
  readonly uki: string | null;
  readonly text: string;
  /** The deployment's id: 128 digits. */
  readonly id: string;
};

/**
 * First the one that systemd-boot starts. An entry with a sealed kernel names its deployment by that file's name;
 * the directory of a plain kernel may be the one of another deployment with the same kernel.
 */
export async function readMenu(disk: RawDisk): Promise<DiskEntry[]> {
  const paths = (await listEsp(disk)).filter((path) => /^\/loader\/entries\/.*\.conf$/.test(path));
  const entries = await Promise.all(paths.map((path) => readEntry(disk, path)));
  const key = ({ text }: DiskEntry) => /^sort-key (.*)$/m.exec(text)?.[1] ?? "";
  return entries.sort((a, b) => (key(a) < key(b) ? -1 : 1));
}

async function readEntry(disk: RawDisk, path: string): Promise<DiskEntry> {
  const text = (await readEsp(disk, path)).toString();
  const uki = /^(?:efi|uki) (.*)$/m.exec(text)?.[1] ?? null;
  const id = (/composefs=\??([0-9a-f]{128})/.exec(text) ?? /([0-9a-f]{128})/.exec(text))?.[1];
  if (id === undefined) throw new Error(`${path} names no deployment:\n${text}`);
  return { path, uki, text, id };
}

/** Puts the first entry on its last try, as after failed starts: when it does not start, the next one does. */
export async function putOnTrial(disk: RawDisk): Promise<void> {
  const [first] = await readMenu(disk);
  const counted = first!.path.replace(/(?:\+[0-9-]+)?\.conf$/, "+1.conf");
  if (counted === first!.path) return;
  await writeEsp(disk, counted, first!.text);
  await removeEsp(disk, first!.path);
}

/** Writes the entry anew under the name it has now. */
export async function rewriteEntry(
  disk: RawDisk,
  index: number,
  change: (text: string) => string,
): Promise<void> {
  const entry = (await readMenu(disk))[index]!;
  await writeEsp(disk, entry.path, change(entry.text));
}
