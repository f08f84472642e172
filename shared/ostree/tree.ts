// Walking the tree of a commit by path. Directories are read when they are met, files only named.

import { FormatError, StateError } from "../error.ts";
import type { DirtreeFile } from "../format/ostree/dirtree.ts";
import { type ByteString, fromByteString, toByteString } from "../format/tree/node.ts";
import { readDirtree } from "./objects.ts";
import type { OstreeRepository } from "./repository.ts";

export interface DirectoryRef {
  readonly kind: "directory";
  readonly tree: string;
  readonly meta: string;
}
export interface FileRef {
  readonly kind: "file";
  readonly checksum: string;
}
export type TreeEntry = DirectoryRef | FileRef;

/** The entry at `path` (from the root, "/" or "" for the root itself); symlinks are not followed. */
export function findEntry(
  repo: OstreeRepository,
  root: Omit<DirectoryRef, "kind">,
  path: string,
): TreeEntry {
  let current: TreeEntry = { kind: "directory", tree: root.tree, meta: root.meta };
  let walked = "";
  for (const part of path.split("/").filter((name) => name !== "" && name !== ".")) {
    if (current.kind !== "directory") throw notFound(path, `"${walked}" is not a directory`);
    const found: TreeEntry | null = findChild(repo, current.tree, toByteString(part));
    walked += `/${part}`;
    if (found === null) throw notFound(path, `there is no "${walked}"`);
    current = found;
  }
  return current;
}

function findChild(repo: OstreeRepository, tree: string, name: ByteString): TreeEntry | null {
  const { files, directories } = readDirtree(repo, tree);
  const file = files.find((each) => each.name === name);
  if (file !== undefined) return { kind: "file", checksum: file.checksum };
  const directory = directories.find((each) => each.name === name);
  if (directory === undefined) return null;
  return { kind: "directory", tree: directory.tree, meta: directory.meta };
}

function notFound(path: string, reason: string): StateError {
  return new StateError("missing", `Cannot find "${path}" in the commit: ${reason}`);
}

export interface WalkedEntry {
  /** From the root, "/" in front. */
  readonly path: string;
  readonly entry: TreeEntry;
}

/** A directory and what is directly in it. */
export function* walkOnce(
  repo: OstreeRepository,
  path: string,
  directory: DirectoryRef,
): Generator<WalkedEntry> {
  yield { path: path === "" ? "/" : path, entry: directory };
  const { files, directories } = readDirtree(repo, directory.tree);
  yield* files.map((file) => walkedFile(path, file));
  for (const { name, tree, meta } of directories) {
    yield { path: `${path}/${fromByteString(name)}`, entry: { kind: "directory", tree, meta } };
  }
}

/** No path of Linux can be deeper. */
export const MAX_TREE_DEPTH = 2048;

/** A directory and everything below it: its files, then each of its directories with what is in it. */
export function* walkDirectory(
  repo: OstreeRepository,
  path: string,
  directory: DirectoryRef,
): Generator<WalkedEntry> {
  const pending = [{ path, directory, depth: 0 }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { path: at, depth } = next;
    if (depth > MAX_TREE_DEPTH) throw tooDeep();
    yield { path: at === "" ? "/" : at, entry: next.directory };
    const { files, directories } = readDirtree(repo, next.directory.tree);
    yield* files.map((file) => walkedFile(at, file));
    for (const { name, tree, meta } of directories.toReversed()) {
      const child: DirectoryRef = { kind: "directory", tree, meta };
      pending.push({ path: `${at}/${fromByteString(name)}`, directory: child, depth: depth + 1 });
    }
  }
}

export function tooDeep(): FormatError {
  return new FormatError("limit", `A commit has directories more than ${MAX_TREE_DEPTH} deep`, {
    format: "dirtree",
  });
}

function walkedFile(path: string, { name, checksum }: DirtreeFile): WalkedEntry {
  return { path: `${path}/${fromByteString(name)}`, entry: { kind: "file", checksum } };
}
