// What changed between two commits, as `ostree diff` sees it: an entry whose type, owner, mode, attributes or content
// changed is modified; of what is new every entry is listed, of what is gone only the topmost. Trees
// with the same checksum are not looked into.

import type { Dirtree, DirtreeDirectory } from "../../shared/format/ostree/dirtree.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";
import { readDirtree } from "../../shared/ostree/objects.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";
import { MAX_TREE_DEPTH, tooDeep, walkDirectory } from "../../shared/ostree/tree.ts";

/** Paths from the root, "/" in front, in the order in which they were met. */
export interface TreeDifference {
  readonly modified: readonly string[];
  readonly removed: readonly string[];
  readonly added: readonly string[];
}

interface Found {
  readonly modified: string[];
  readonly removed: string[];
  readonly added: string[];
}

/** Both trees by the checksum of their dirtree object. */
export function diffTrees(repo: OstreeRepository, before: string, after: string): TreeDifference {
  const found: Found = { modified: [], removed: [], added: [] };
  diffDirectories(repo, found, "", before, after, 0);
  return found;
}

function diffDirectories(
  repo: OstreeRepository,
  found: Found,
  path: string,
  before: string,
  after: string,
  depth: number,
): void {
  if (before === after) return;
  if (depth > MAX_TREE_DEPTH) throw tooDeep();
  const old = readDirtree(repo, before);
  const now = readDirtree(repo, after);
  diffFiles(found, path, old, now);
  const newDirectories = new Map(now.directories.map((each) => [each.name, each]));
  const newFiles = new Set(now.files.map(({ name }) => name));
  for (const directory of old.directories) {
    const below = `${path}/${fromByteString(directory.name)}`;
    const same = newDirectories.get(directory.name);
    if (same !== undefined) {
      if (same.meta !== directory.meta) found.modified.push(below);
      diffDirectories(repo, found, below, directory.tree, same.tree, depth + 1);
    } else if (newFiles.has(directory.name)) found.modified.push(below);
    else found.removed.push(below);
  }
  listAdded(repo, found, path, old, now);
}

function diffFiles(found: Found, path: string, old: Dirtree, now: Dirtree): void {
  const newFiles = new Map(now.files.map(({ name, checksum }) => [name, checksum]));
  const newDirectories = new Set(now.directories.map(({ name }) => name));
  for (const { name, checksum } of old.files) {
    const below = `${path}/${fromByteString(name)}`;
    const same = newFiles.get(name);
    if (same === undefined && !newDirectories.has(name)) found.removed.push(below);
    else if (same !== checksum) found.modified.push(below);
  }
}

function listAdded(
  repo: OstreeRepository,
  found: Found,
  path: string,
  old: Dirtree,
  now: Dirtree,
): void {
  const known = new Set([...old.files, ...old.directories].map(({ name }) => name));
  for (const { name } of now.files) {
    if (!known.has(name)) found.added.push(`${path}/${fromByteString(name)}`);
  }
  for (const directory of now.directories) {
    if (!known.has(directory.name)) found.added.push(...pathsBelow(repo, path, directory));
  }
}

function pathsBelow(
  repo: OstreeRepository,
  path: string,
  { name, tree, meta }: DirtreeDirectory,
): string[] {
  const directory = { kind: "directory", tree, meta } as const;
  return Array.from(
    walkDirectory(repo, `${path}/${fromByteString(name)}`, directory),
    (each) => each.path,
  );
}
