// The directories of a dump by path. Dumps mostly come depth-first: the directory of a line is that of
// the line before, or one of its ancestors, and is found by comparing bytes; only others are looked up.

import type { ByteString } from "./node.ts";

export interface DumpDirectories<D> {
  /** By path without trailing slash; the root is "". */
  readonly byPath: Map<ByteString, D>;
  /** Path of the directory at hand, and its ancestors: where each path ends in it, root first. */
  path: Buffer;
  readonly ends: number[];
  readonly open: D[];
}

export function createDumpDirectories<D>(): DumpDirectories<D> {
  return { byPath: new Map(), path: Buffer.alloc(4096), ends: [], open: [] };
}

/** The directory whose path is `bytes[start..end]`, which then is the one at hand. */
export function findDirectory<D>(
  directories: DumpDirectories<D>,
  bytes: Buffer,
  start: number,
  end: number,
): D | undefined {
  const { path, ends, open } = directories;
  const length = end - start;
  const limit = Math.min(length, ends[ends.length - 1]!);
  let common = 0;
  while (common < limit && path[common] === bytes[start + common]) common++;
  while (ends[ends.length - 1]! > common) {
    ends.pop();
    open.pop();
  }
  if (ends[ends.length - 1] === length) return open[open.length - 1];
  const found = directories.byPath.get(bytes.toString("latin1", start, end));
  if (found !== undefined) enterDirectory(directories, bytes, start, end, found);
  return found;
}

/** Adds a directory and makes it the one at hand; its parent has to be that (the root has none). */
export function addDirectory<D>(
  directories: DumpDirectories<D>,
  bytes: Buffer,
  start: number,
  end: number,
  directory: D,
): void {
  directories.byPath.set(bytes.toString("latin1", start, end), directory);
  enterDirectory(directories, bytes, start, end, directory);
}

/** What is between the directory at hand and this one is not looked at again: it is no loss. */
function enterDirectory<D>(
  directories: DumpDirectories<D>,
  bytes: Buffer,
  start: number,
  end: number,
  directory: D,
): void {
  const length = end - start;
  if (length > directories.path.length) {
    directories.path = Buffer.concat([directories.path, Buffer.alloc(length)]);
  }
  bytes.copy(directories.path, 0, start, end);
  directories.ends.push(length);
  directories.open.push(directory);
}
