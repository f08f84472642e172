// References: names people and bootc give to streams and images, {streams,images}/refs/<path>. What
// they point to, and everything that refers to, survives garbage collection.

import { FormatError, IntegrityError, isErrno } from "../error.ts";
import { S_IFDIR, S_IFLNK, S_IFMT } from "../format/tree/node.ts";
import { openDirectory, readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { readlinkat, unlinkatIfExists } from "../sys/link.ts";
import { fstatatIfExists } from "../sys/stat.ts";
import { replaceSymlink } from "../txn/symlink.ts";
import {
  type Category,
  checkEntryName,
  isComponent,
  makeDirectories,
  syncDirectory,
} from "./links.ts";
import { type Repository, requireWritable } from "./repository.ts";

export interface Ref {
  /** Path below refs/, e.g. "oci/localhost%2Fbootc-sha256:…". */
  readonly name: string;
  /** First-level name in the category. */
  readonly target: string;
}

/**
 * Makes (or moves) the reference `refName`, already encoded, to the stream or image `targetName`, which
 * must exist. Durable when it returns.
 */
export function setRef(
  repo: Repository,
  category: Category,
  refName: string,
  targetName: string,
): void {
  requireWritable(repo);
  const components = splitRefName(refName);
  if (fstatatIfExists(repo.dir, `${category}/${checkEntryName(targetName)}`) === null) {
    throw new IntegrityError(
      "missing-object",
      `${category}/${targetName} is not in "${repo.path}"`,
    );
  }
  const parents = [category, "refs", ...components.slice(0, -1)];
  makeDirectories(repo, parents);
  // The link's parent is `parents` deep; one ".." for each of them below the category.
  const target = `${"../".repeat(parents.length - 1)}${targetName}`;
  replaceSymlink(repo.dir, `${category}/refs/${refName}`, target, ".");
  syncDirectory(repo, parents.join("/"));
}

/** A missing reference is fine. Durable when it returns. */
export function removeRef(repo: Repository, category: Category, refName: string): void {
  requireWritable(repo);
  const parent = [category, "refs", ...splitRefName(refName).slice(0, -1)].join("/");
  try {
    if (unlinkatIfExists(repo.dir, `${category}/refs/${refName}`)) syncDirectory(repo, parent);
  } catch (error) {
    if (!isErrno(error, "ENOTDIR")) throw error;
  }
}

/** All references of a category, in byte order of their names. */
export function listRefs(repo: Repository, category: Category): Ref[] {
  const root = `${category}/refs`;
  if (fstatatIfExists(repo.dir, root) === null) return [];
  using fd = openDirectory(repo.dir, root);
  const refs = [...walkRefs(fd, "")];
  return refs.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
}

function* walkRefs(fd: Fd, prefix: string): Generator<Ref> {
  for (const entry of readDirectory(fd)) {
    const name = `${prefix}${Buffer.from(entry.name).toString("utf8")}`;
    const type = entry.type === "unknown" ? typeOf(fd, entry.name) : entry.type;
    if (type === "symlink") {
      // As upstream: only the last component of what the link says counts.
      const target = Buffer.from(readlinkat(fd, entry.name)).toString("utf8");
      yield { name, target: target.slice(target.lastIndexOf("/") + 1) };
    } else if (type === "directory") {
      using child = openDirectory(fd, entry.name);
      yield* walkRefs(child, `${name}/`);
    }
  }
}

/** For file systems that do not say the type in their directories. */
function typeOf(fd: Fd, name: Uint8Array): "symlink" | "directory" | "other" {
  const type = (fstatatIfExists(fd, name)?.mode ?? 0) & S_IFMT;
  return type === S_IFLNK ? "symlink" : type === S_IFDIR ? "directory" : "other";
}

/** False for names that no program gives; such a link is left alone. */
export function isRefName(refName: string): boolean {
  return refName.split("/").every(isComponent);
}

function splitRefName(refName: string): string[] {
  if (isRefName(refName)) return refName.split("/");
  throw new FormatError("bad-value", `"${refName}" cannot be the name of a reference`, {
    format: "reference name",
  });
}
