// Refs of a repository (ostree.md 4.3): `refs/heads/<ref>`, `refs/remotes/<remote>/<ref>` and
// `refs/mirrors/<collection>/<ref>`, files with a checksum; a symlink is an alias. And from what a person types
// to a commit.

import { StateError } from "../error.ts";
import { isChecksum, parseLooseName } from "../format/ostree/object.ts";
import { isRefName, parseRefFile, parseRefspec } from "../format/ostree/ref.ts";
import { parseSummary, type Summary } from "../format/ostree/summary.ts";
import { bytesToByteString, fromByteString } from "../format/tree/node.ts";
import { O } from "../sys/constants.ts";
import { mkdiratIfMissing, openDirectory, readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists, readAll } from "../sys/file.ts";
import { readlinkat } from "../sys/link.ts";
import { fstat, fstatatIfExists } from "../sys/stat.ts";
import { writeFileAtomic } from "../txn/atomic.ts";
import { readCommit } from "./objects.ts";
import type { OstreeRepository } from "./repository.ts";

export interface Ref {
  /** `ref`, `remote:ref`, or for mirrors `collection/ref`: unique within its kind. */
  readonly name: string;
  readonly kind: "local" | "remote" | "mirror";
  /** The ref without remote or collection. */
  readonly ref: string;
  /** Below the repository. */
  readonly path: string;
  /** Null when the file holds none. */
  readonly checksum: string | null;
  /** Target of a symlink. */
  readonly alias: string | null;
}

const REF_LIMIT_BYTES = 4096;
const SUMMARY_LIMIT_BYTES = 128 << 20;
const MAX_DEPTH = 64;
/** Shorter ones are words. */
const ABBREVIATION = /^[0-9a-f]{6,63}$/;

/** All refs, sorted; files whose names can be no refs are left out. */
export function listRefs(repo: OstreeRepository): readonly Ref[] {
  return [
    ...listBelow(repo, "refs/heads", "local"),
    ...listOwners(repo, "refs/remotes").flatMap((remote) =>
      listBelow(repo, `refs/remotes/${remote}`, "remote", remote),
    ),
    ...listOwners(repo, "refs/mirrors").flatMap((collection) =>
      listBelow(repo, `refs/mirrors/${collection}`, "mirror", collection),
    ),
  ];
}

function listOwners(repo: OstreeRepository, path: string): string[] {
  return listEntries(repo.dir, path).filter(isRefName);
}

function listBelow(
  repo: OstreeRepository,
  folder: string,
  kind: Ref["kind"],
  owner = "",
): readonly Ref[] {
  const names: string[] = [];
  collectNames(repo.dir, folder, "", names);
  return names.sort().map((ref): Ref => {
    const prefix = { local: "", remote: `${owner}:`, mirror: `${owner}/` }[kind];
    const path = `${folder}/${ref}`;
    return { name: prefix + ref, kind, ref, path, ...readRef(repo, path) };
  });
}

function collectNames(dir: Fd, folder: string, prefix: string, names: string[]): void {
  if (prefix.split("/").length > MAX_DEPTH) return;
  for (const name of listEntries(dir, folder)) {
    const ref = `${prefix}${name}`;
    if (!isRefName(ref)) continue;
    const type = (fstatatIfExists(dir, `${folder}/${name}`)?.mode ?? 0) >> 12;
    if (type === 0o04) collectNames(dir, `${folder}/${name}`, `${ref}/`, names);
    else if (type === 0o10 || type === 0o12) names.push(ref);
  }
}

/** Names in a directory that need not be there. */
function listEntries(dir: Fd, path: string): string[] {
  if (fstatatIfExists(dir, path) === null) return [];
  using fd = openDirectory(dir, path);
  return readDirectory(fd)
    .map(({ name }) => fromByteString(bytesToByteString(name)))
    .sort();
}

function readRef(repo: OstreeRepository, path: string): Pick<Ref, "checksum" | "alias"> {
  const isLink = (fstatatIfExists(repo.dir, path)?.mode ?? 0) >> 12 === 0o12;
  const target = isLink ? readlinkat(repo.dir, path) : null;
  const alias = target === null ? null : Buffer.from(target).toString("utf8");
  using fd = openatIfExists(repo.dir, path, O.RDONLY | O.NONBLOCK);
  // A symlink may lead anywhere.
  if (fd === null || fstat(fd).mode >> 12 !== 0o10) return { checksum: null, alias };
  const text = Buffer.from(readAll(fd, REF_LIMIT_BYTES)).toString("latin1");
  return { checksum: parseRefFile(text), alias };
}

/** The commit of a ref, a checksum or the unique beginning of one; each "^" behind it goes to its parent. */
export function resolveRevision(repo: OstreeRepository, text: string): string {
  if (!text.endsWith("^")) return resolveName(repo, text);
  const child = resolveRevision(repo, text.slice(0, -1));
  const { parent } = readCommit(repo, child);
  if (parent !== null) return parent;
  throw new StateError("missing", `Commit "${child}" has no parent`);
}

function resolveName(repo: OstreeRepository, text: string): string {
  if (isChecksum(text)) return text;
  const { remote, ref } = parseRefspec(text);
  const folders = remote === null ? ["heads", "remotes"] : [`remotes/${remote}`];
  for (const folder of folders) {
    const path = `refs/${folder}/${ref}`;
    if ((fstatatIfExists(repo.dir, path)?.mode ?? 0) >> 12 === 0o04) continue;
    const { checksum } = readRef(repo, path);
    if (checksum !== null) return checksum;
  }
  const commit =
    (ABBREVIATION.test(text) ? findAbbreviated(repo, text) : null) ??
    (remote === null ? findRemote(repo, ref) : null);
  if (commit !== null) return commit;
  if (repo.parent !== null) return resolveName(repo.parent, text);
  throw new StateError("missing", `Repository "${repo.path}" has no ref "${text}"; see "refs"`);
}

/** The first remote that has such a ref. */
function findRemote(repo: OstreeRepository, ref: string): string | null {
  const path = (remote: string) => `refs/remotes/${remote}/${ref}`;
  const checksums = listOwners(repo, "refs/remotes").map((remote) => readRef(repo, path(remote)));
  return checksums.find(({ checksum }) => checksum !== null)?.checksum ?? null;
}

/** The commit whose checksum begins so; null when there is none. */
function findAbbreviated(repo: OstreeRepository, digits: string): string | null {
  const folder = digits.slice(0, 2);
  const found = listEntries(repo.dir, `objects/${folder}`)
    .flatMap((name) => parseLooseName(folder, name) ?? [])
    .filter(({ checksum, type }) => type === "commit" && checksum.startsWith(digits));
  if (found.length < 2) return found[0]?.checksum ?? null;
  throw new StateError("conflict", `"${digits}" is the beginning of ${found.length} commits`);
}

/** What the repository says it offers to those who fetch from it; null when it has no summary. */
export function readSummary(repo: OstreeRepository): Summary | null {
  using fd = openatIfExists(repo.dir, "summary", O.RDONLY | O.NONBLOCK);
  return fd === null ? null : parseSummary(readAll(fd, SUMMARY_LIMIT_BYTES));
}

/** StateError("conflict") when the name goes through another ref, or others go through it. */
export function requireRefPlace(repo: OstreeRepository, ref: string): void {
  const parts = ref.split("/");
  for (let i = 1; i <= parts.length; i++) {
    const name = parts.slice(0, i).join("/");
    const type = (fstatatIfExists(repo.dir, `refs/heads/${name}`)?.mode ?? 0) >> 12;
    const isLast = i === parts.length;
    if (type === 0 || (type === 0o04) !== isLast) continue;
    const problem = isLast ? `there are refs below "${ref}/"` : `there is a ref "${name}"`;
    throw new StateError("conflict", `Cannot have a ref "${ref}": ${problem}`);
  }
}

/** Creates or replaces a local ref. */
export function writeRef(repo: OstreeRepository, ref: string, checksum: string): void {
  const folders = ["refs", "heads", ...ref.split("/").slice(0, -1)];
  for (let i = 1; i <= folders.length; i++) {
    mkdiratIfMissing(repo.dir, folders.slice(0, i).join("/"), 0o755);
  }
  writeFileAtomic(repo.dir, `refs/heads/${ref}`, Buffer.from(`${checksum}\n`), { mode: 0o644 });
}
