// The symlinks of a repository: names for objects, and references to those names.
//
// Invariant: what a link is to stand for is on the disk (syncfs) before the link exists, and the link is
// on the disk when the function returns.

import { FormatError, isErrno } from "../error.ts";
import { objectPath } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import { mkdiratIfMissing, openDirectory, readDirectory } from "../sys/directory.ts";
import { fsync, openatIfExists, syncfs } from "../sys/file.ts";
import { readlinkat } from "../sys/link.ts";
import { replaceSymlink } from "../txn/symlink.ts";
import { checkDigest, type Repository } from "./repository.ts";

export type Category = "streams" | "images";

/** One name at the first level of a category; "refs" is taken by the references. */
export function checkEntryName(name: string): string {
  if (isComponent(name) && name !== "refs") return name;
  throw new FormatError("bad-value", `"${name}" cannot be the name of a stream or image`, {
    format: "repository name",
  });
}

/** A file name without surprises: no slash, not "." or "..", no control characters. */
export function isComponent(name: string): boolean {
  return name !== "." && name !== ".." && /^[^/\0-\x1f\x7f]{1,255}$/.test(name);
}

/** First-level names of a category, sorted, whatever is behind them. */
export function listNames(repo: Repository, category: Category): string[] {
  using fd = openatIfExists(repo.dir, category, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
  if (fd === null) return [];
  const names = readDirectory(fd).map(({ name }) => Buffer.from(name).toString("utf8"));
  return names.filter((name) => name !== "refs").sort();
}

/** `<category>/<name>` -> the object, after everything written so far is on the disk. */
export function linkEntry(
  repo: Repository,
  category: Category,
  name: string,
  digest: string,
): void {
  const target = `../objects/${objectPath(checkDigest(repo, digest))}`;
  syncfs(repo.dir);
  makeDirectories(repo, [category]);
  replaceSymlink(repo.dir, `${category}/${checkEntryName(name)}`, target, ".");
  syncDirectory(repo, category);
}

/** Makes the directory `components` below the repository, durably. */
export function makeDirectories(repo: Repository, components: readonly string[]): void {
  for (let depth = 1; depth <= components.length; depth++) {
    const made = mkdiratIfMissing(repo.dir, components.slice(0, depth).join("/"), 0o755);
    if (made) syncDirectory(repo, components.slice(0, depth - 1).join("/"));
  }
}

export function syncDirectory(repo: Repository, path: string): void {
  using fd = openDirectory(repo.dir, path === "" ? "." : path);
  fsync(fd);
}

/** Digest of the object an entry stands for, null when there is no such entry; FormatError for no link. */
export function linkedObject(repo: Repository, category: Category, name: string): string | null {
  let target: Uint8Array;
  try {
    target = readlinkat(repo.dir, `${category}/${checkEntryName(name)}`);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return null;
    if (!isErrno(error, "EINVAL")) throw error;
    throw notALink(`${category}/${name}`);
  }
  return parseObjectLink(repo, target);
}

/** Digest an entry "../objects/ab/cdef…" points to; FormatError when it is something else. */
export function parseObjectLink(repo: Repository, target: Uint8Array): string {
  const text = Buffer.from(target).toString("latin1");
  const match = /^\.\.\/objects\/([0-9a-f]{2})\/([0-9a-f]+)$/.exec(text);
  if (match === null) throw notALink(text);
  return checkDigest(repo, `${match[1]}${match[2]}`);
}

function notALink(text: string): FormatError {
  return new FormatError("bad-value", `"${text.slice(0, 200)}" is not a link to an object`, {
    format: "repository link",
  });
}
