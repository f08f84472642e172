// Checking single objects of an ostree repository, each once, and what makes a finding of a failure.

import { FormatError, IntegrityError, SyscallError } from "../../shared/error.ts";
import { decodeDictionary } from "../../shared/format/gvariant/dictionary.ts";
import type { Commit } from "../../shared/format/ostree/commit.ts";
import {
  computeChecksum,
  type LooseType,
  loosePath,
  parseLooseName,
} from "../../shared/format/ostree/object.ts";
import { bytesToByteString } from "../../shared/format/tree/node.ts";
import { checkContent, contentType } from "../../shared/ostree/content.ts";
import { readDetached, readDirmeta, readDirtree } from "../../shared/ostree/objects.ts";
import type { OstreeRepository } from "../../shared/ostree/repository.ts";
import type { Finding } from "../../shared/store/finding.ts";
import { O } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory } from "../../shared/sys/directory.ts";
import { openat, readAll } from "../../shared/sys/file.ts";

export type OstreeFindingKind =
  | "ref-malformed"
  | "ref-dangling"
  | "object-missing"
  | "object-corrupt"
  | "object-malformed"
  | "object-unreadable"
  | "commit-partial"
  | "commit-unsigned"
  | "commit-untrusted"
  | "image-mismatch";

export interface Check {
  readonly repo: OstreeRepository;
  readonly findings: Finding<OstreeFindingKind>[];
  /** Loose paths that were read or reported. */
  readonly seen: Set<string>;
  /** Directories (dirtree checksums) whose contents were followed. */
  readonly walked: Set<string>;
}

export const ADVICE = {
  ref: 'Delete the file, or set the ref again with "ostree refs --create"',
  object: 'Delete the object, then fetch the commit again with "ostree pull"',
  missing: 'Fetch the commit again with "ostree pull"',
  signature: "Do not deploy this commit, or sign it again",
  image: 'Do not boot this commit signed; commit it again with "--generate-composefs-metadata"',
} as const;
const DETACHED_LIMIT_BYTES = 128 << 20;

/** Iterative, because nobody promises that a tree is shallow. */
export async function checkTree(
  check: Check,
  root: Pick<Commit, "tree" | "meta">,
  isPartial: boolean,
): Promise<void> {
  const { repo, walked } = check;
  const pending = [{ tree: root.tree, meta: root.meta }];
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const { tree, meta } = next;
    if (!check.seen.has(loosePath(meta, "dirmeta"))) {
      await attempt(check, meta, "dirmeta", isPartial, () => readDirmeta(repo, meta));
    }
    if (walked.has(tree)) continue;
    const found = await attempt(check, tree, "dirtree", isPartial, () => readDirtree(repo, tree));
    if (found === null) continue;
    walked.add(tree);
    pending.push(...found.directories);
    for (const { checksum } of found.files) await checkFile(check, checksum, isPartial);
  }
}

async function checkFile(check: Check, checksum: string, isPartial: boolean): Promise<void> {
  const type = contentType(check.repo);
  if (check.seen.has(loosePath(checksum, type))) return;
  await attempt(check, checksum, type, isPartial, () => checkContent(check.repo, checksum));
}

/** Objects that nothing led to. */
export async function checkLoose(check: Check, checksum: string, type: LooseType): Promise<void> {
  if (check.seen.has(loosePath(checksum, type))) return;
  const { repo } = check;
  const readers: Partial<Record<LooseType, () => unknown>> = {
    dirtree: () => readDirtree(repo, checksum),
    dirmeta: () => readDirmeta(repo, checksum),
    commitmeta: () => readDetached(repo, checksum),
    "tombstone-commit": () => decodeDictionary(readFile(repo, checksum, type)),
    "file-xattrs": () => checkSum(repo, checksum, type),
    [contentType(repo)]: () => checkContent(repo, checksum),
  };
  const reader = readers[type];
  if (reader !== undefined) await attempt(check, checksum, type, false, reader);
}

function readFile(repo: OstreeRepository, checksum: string, type: LooseType): Uint8Array {
  const path = `objects/${loosePath(checksum, type)}`;
  using fd = openat(repo.dir, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  return readAll(fd, DETACHED_LIMIT_BYTES);
}

function checkSum(repo: OstreeRepository, checksum: string, type: LooseType): void {
  const found = computeChecksum(readFile(repo, checksum, type));
  if (found === checksum) return;
  throw new IntegrityError("digest-mismatch", `its checksum is "${found}"`);
}

/** What `read` gives; null, and a finding, when the object is missing or damaged. */
export async function attempt<T>(
  check: Check,
  checksum: string,
  type: LooseType,
  mayLack: boolean,
  read: () => T | Promise<T>,
): Promise<T | null> {
  const path = loosePath(checksum, type);
  try {
    const value = await read();
    check.seen.add(path);
    return value;
  } catch (error) {
    const kind = classify(error);
    if (kind === null) throw error;
    if (kind === "object-missing" && mayLack) return null;
    if (check.seen.has(path)) return null;
    check.seen.add(path);
    const advice = kind === "object-missing" ? ADVICE.missing : ADVICE.object;
    report(check, kind, `objects/${path}`, (error as Error).message, advice);
    return null;
  }
}

function classify(error: unknown): OstreeFindingKind | null {
  if (error instanceof IntegrityError) {
    return error.code === "missing-object" ? "object-missing" : "object-corrupt";
  }
  if (error instanceof FormatError) return "object-malformed";
  return error instanceof SyscallError ? "object-unreadable" : null;
}

export function report(
  { findings }: Check,
  kind: OstreeFindingKind,
  path: string,
  problem: string,
  advice: string,
): void {
  findings.push({ kind, path, problem, advice });
}

/** All object files, sorted. */
export function listLoose(
  repo: OstreeRepository,
): { readonly checksum: string; readonly type: LooseType }[] {
  using objects = openDirectory(repo.dir, "objects");
  const prefixes = readDirectory(objects)
    .filter(({ type }) => type === "directory" || type === "unknown")
    .map(({ name }) => bytesToByteString(name))
    .filter((name) => /^[0-9a-f]{2}$/.test(name))
    .sort();
  return prefixes.flatMap((prefix) => {
    using folder = openDirectory(objects, prefix);
    const names = readDirectory(folder).map(({ name }) => bytesToByteString(name));
    return names.sort().flatMap((name) => parseLooseName(prefix, name) ?? []);
  });
}
