// The layer that seals an image: what it hides, what it adds, and the tar of it.
//
// Nothing of /usr changes but that kernel and initramfs are gone: the directories above them are written again exactly
// as they are, since some storage makes its own when they are missing, and their times are part of the digest. The same
// files give the same tar.

import { statSync } from "node:fs";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { encodeTarHeader, TAR_END_BYTES, tarPaddingBytes } from "../../shared/format/tar/writer.ts";
import {
  type DirectoryNode,
  fromByteString,
  NO_XATTRS,
  sortedNames,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { lookupDirectory } from "../image/tree-lookup.ts";
import { readFileChunks } from "./file-chunks.ts";
import { RUNTIME_PREFIX } from "./runtime-addon.ts";
import { MODULES, type SealKernel } from "./seal-kernel.ts";

export const KERNELS = "boot/EFI/Linux";
export const GLOBAL_ADDONS = "boot/loader/addons";
const WHITEOUT = ".wh.";
const FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

/** One member of the layer. `file`: where its content is; null without content. */
export interface LayerMember {
  readonly entry: TarEntry;
  readonly file: string | null;
}

/** A file of this machine and where it goes. */
export interface PlacedFile {
  /** In the image, without a slash at the beginning. */
  readonly path: string;
  readonly file: string;
}

/** What disappears: paths of files and directories. */
export function listHidden(tree: DirectoryNode, kernel: SealKernel): readonly string[] {
  const { plain, previous, version } = kernel;
  const own = `${version}.efi`;
  const hidden: string[] = [];
  if (plain !== null) {
    hidden.push(`${MODULES}/${version}/vmlinuz`, `${MODULES}/${version}/initramfs.img`);
  }
  if (previous === null) return hidden;
  const before = previous.path.slice(1);
  const isReplaced = before === `${KERNELS}/${own}`;
  const companions = [".extra.d", ".dump"].map((suffix) => `${before}${suffix}`);
  const gone = isReplaced ? [] : [before, ...companions];
  const runtimes = namesIn(tree, GLOBAL_ADDONS).filter((name) => name.startsWith(RUNTIME_PREFIX));
  const addons = runtimes.map((name) => `${GLOBAL_ADDONS}/${name}`);
  return [...hidden, ...[...gone, ...addons].filter((path) => isThere(tree, path))];
}

/** Members in an order in which they can be applied: by path, a directory before what is in it. */
export function makeMembers(
  tree: DirectoryNode,
  change: {
    readonly hidden: readonly string[];
    readonly files: readonly PlacedFile[];
  },
): readonly LayerMember[] {
  const usr = lookupDirectory(tree, "usr")!;
  const time = { mtimeSec: usr.mtimeSec, mtimeNsec: usr.mtimeNsec };
  const members = new Map<string, LayerMember>();
  const addParents = (path: string) => {
    const names = path.split("/").slice(0, -1);
    for (const [index] of names.entries()) {
      const directory = names.slice(0, index + 1).join("/");
      members.set(directory, { entry: directoryEntry(tree, directory, time), file: null });
    }
  };
  const addFile = (path: string, file: string | null, sizeBytes: number) => {
    addParents(path);
    const entry = { ...emptyEntry(path), ...time, mode: FILE_MODE, sizeBytes };
    members.set(path, { entry, file });
  };
  const added = new Set(change.files.map(({ path }) => path));
  // What is replaced needs no whiteout, and with one readers would not agree.
  for (const path of change.hidden.filter((each) => !added.has(each))) {
    const slash = path.lastIndexOf("/") + 1;
    addFile(`${path.slice(0, slash)}${WHITEOUT}${path.slice(slash)}`, null, 0);
  }
  for (const { path, file } of change.files) addFile(path, file, statSync(file).size);
  // Whiteouts act on what the same layer added before: "." comes before everything they stand beside.
  return [...members.keys()].sort(comparePaths).map((path) => members.get(path)!);
}

/** Name by name, so that what is in a directory follows it. */
function comparePaths(a: string, b: string): number {
  const [x, y] = [a.split("/"), b.split("/")];
  for (let i = 0; i < Math.min(x.length, y.length); i++) {
    if (x[i] !== y[i]) return x[i]! < y[i]! ? -1 : 1;
  }
  return x.length - y.length;
}

/** The tar in pieces. */
export function* writeMembers(members: readonly LayerMember[]): Generator<Uint8Array> {
  for (const { entry, file } of members) {
    yield encodeTarHeader(entry);
    if (file === null) continue;
    yield* readFileChunks(file);
    yield new Uint8Array(tarPaddingBytes(entry.sizeBytes));
  }
  yield new Uint8Array(TAR_END_BYTES);
}

interface Time {
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
}

function emptyEntry(path: string): TarEntry {
  return {
    type: "file",
    path: toByteString(path),
    linkTarget: "",
    mode: 0,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    rdev: 0,
    sizeBytes: 0,
    xattrs: NO_XATTRS,
  };
}

/** As it is in the image, or a new one. */
function directoryEntry(tree: DirectoryNode, path: string, time: Time): TarEntry {
  const found = directoryAt(tree, path);
  const base = { ...emptyEntry(`${path}/`), type: "directory" } as const;
  if (found === null) return { ...base, ...time, mode: DIRECTORY_MODE };
  const { uid, gid, mtimeSec, mtimeNsec, xattrs } = found;
  return { ...base, mode: found.mode & 0o7777, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

/** Symlinks are not followed: a layer cannot write through them either. */
function directoryAt(tree: DirectoryNode, path: string): DirectoryNode | null {
  let node = tree;
  for (const name of path.split("/")) {
    const child = node.entries.get(toByteString(name));
    if (child?.kind !== "directory") return null;
    node = child;
  }
  return node;
}

function isThere(tree: DirectoryNode, path: string): boolean {
  const slash = path.lastIndexOf("/");
  const parent = directoryAt(tree, path.slice(0, slash));
  return parent?.entries.has(toByteString(path.slice(slash + 1))) === true;
}

function namesIn(tree: DirectoryNode, path: string): readonly string[] {
  const directory = directoryAt(tree, path);
  return directory === null ? [] : sortedNames(directory).map(fromByteString);
}
