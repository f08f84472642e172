// Checks a whole repository and changes nothing (composefs-rs.md 1.8): meta.json, every object's
// content, streams and what they refer to, images and the objects of their files, references.
//
// Damage is a finding and never stops the check, nor does what does not belong there. Objects are read
// in pieces; of streams and images one at a time is in memory. Where fs-verity protects an object its
// measured digest counts: that a block of it cannot be read any more shows only when somebody reads it,
// which the check of the layers does (updater/image/image-check.ts).

import { describeError, FormatError, IntegrityError, SyscallError } from "../error.ts";
import { collectObjects, readErofs } from "../format/erofs/reader.ts";
import { readSplitStreamRefs } from "../format/splitstream/reader.ts";
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from "../format/tree/node.ts";
import { objectPath } from "../format/verity/digest.ts";
import { O } from "../sys/constants.ts";
import { type DirEntry, readDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openatIfExists } from "../sys/file.ts";
import { readlinkat } from "../sys/link.ts";
import { fstatat, fstatatIfExists } from "../sys/stat.ts";
import { type Finding, isDamage, type RepositoryFindingKind } from "./finding.ts";
import { type Category, parseObjectLink } from "./links.ts";
import { TEMPORARY_PREFIX } from "./object-file.ts";
import { inspectObject } from "./object-inspection.ts";
import { readObject } from "./objects.ts";
import { checkDigest, META_FILE, type Repository, readMetadata } from "./repository.ts";

/** Bounds on what is read into memory, those of the collector. */
const ENTRY_LIMIT_BYTES = 1 << 30;
const MAX_REF_DEPTH = 64;

const PULL = 'let "fsck --repair" fetch it again, or pull its image again';
const DISK = "look for errors of the disk in the kernel log";
const ADVICE: Readonly<Record<RepositoryFindingKind, string>> = {
  "metadata-parse-failed": `restore ${META_FILE} from a repository made with the same settings`,
  "metadata-algorithm-mismatch": `restore ${META_FILE} with the algorithm of the objects`,
  "object-invalid-name": "remove it: nothing can refer to it",
  "object-open-failed": PULL,
  "object-digest-mismatch": PULL,
  "object-verity-failed": DISK,
  "object-verity-missing": PULL,
  "entry-not-symlink": "remove it: only links belong here",
  "broken-symlink": PULL,
  "stat-failed": DISK,
  "unexpected-file-type": PULL,
  "stream-open-failed": PULL,
  "stream-read-failed": PULL,
  "missing-object-ref": PULL,
  "missing-named-ref": PULL,
  "object-check-failed": DISK,
  "image-open-failed": PULL,
  "image-read-failed": PULL,
  "image-invalid": PULL,
  "image-missing-object": PULL,
};

export interface RepositoryReport {
  readonly findings: readonly Finding<RepositoryFindingKind>[];
  /** How many of each were looked at. */
  readonly checked: Readonly<Record<"objects" | "streams" | "images" | "refs", number>>;
}

interface Check {
  readonly repo: Repository;
  readonly findings: Finding<RepositoryFindingKind>[];
  readonly checked: Record<"objects" | "streams" | "images" | "refs", number>;
  /** Objects known to be there. */
  readonly present: Set<string>;
}

/** `metadataOnly` leaves out the content of objects that are neither stream nor image. */
export function checkRepository(
  repo: Repository,
  options: { readonly metadataOnly: boolean },
): RepositoryReport {
  const checked = { objects: 0, streams: 0, images: 0, refs: 0 };
  const check: Check = { repo, findings: [], checked, present: new Set() };
  checkMetadata(check);
  if (!options.metadataOnly) checkObjects(check);
  checkCategory(check, "streams", checkStream);
  checkCategory(check, "images", checkImage);
  for (const category of ["streams", "images"] as const) {
    checkRefs(check, category, `${category}/refs`, 1);
  }
  return { findings: check.findings, checked };
}

/** The finding that stands for an unreadable meta.json, because of which nothing else can be checked. */
export function metadataFinding(cause: FormatError): Finding<RepositoryFindingKind> {
  return makeFinding("metadata-parse-failed", META_FILE, describeError(cause));
}

function makeFinding(
  kind: RepositoryFindingKind,
  path: string,
  problem: string,
  object?: string,
): Finding<RepositoryFindingKind> {
  const finding = { kind, path, problem, advice: ADVICE[kind] };
  return object === undefined ? finding : { ...finding, object };
}

function report(
  check: Check,
  kind: RepositoryFindingKind,
  path: string,
  problem: unknown,
  object?: string,
): void {
  const text = problem instanceof Error ? describeError(problem) : String(problem);
  check.findings.push(makeFinding(kind, path, text, object));
}

/** Runs a step; damage becomes a finding and null. */
function attempt<T>(
  check: Check,
  step: () => T,
  path: string,
  kindOf: (error: Error) => RepositoryFindingKind,
  object?: string,
): T | null {
  try {
    return step();
  } catch (error) {
    if (!isDamage(error)) throw error;
    report(check, kindOf(error), path, error, object);
    return null;
  }
}

/** Again, because it may have changed since the repository was opened. */
function checkMetadata(check: Check): void {
  const { repo } = check;
  const read = () => ({ found: readMetadata(repo.dir, repo.path) });
  const result = attempt(check, read, META_FILE, () => "metadata-parse-failed");
  if (result === null) return;
  const algorithm = result.found?.metadata.algorithm;
  if (algorithm === undefined) {
    report(check, "metadata-parse-failed", META_FILE, "It is missing");
  } else if (algorithm !== repo.algorithm) {
    const problem = `It says ${algorithm}, the repository was opened with ${repo.algorithm}`;
    report(check, "metadata-algorithm-mismatch", META_FILE, problem);
  }
}

function checkObjects(check: Check): void {
  for (const { name } of listDirectory(check, "objects")) {
    const text = Buffer.from(name).toString("utf8");
    if (/^[0-9a-f]{2}$/.test(text) || text.startsWith(TEMPORARY_PREFIX)) continue;
    report(check, "object-invalid-name", `objects/${text}`, "It is no directory of objects");
  }
  for (let index = 0; index < 256; index++) {
    const prefix = index.toString(16).padStart(2, "0");
    for (const entry of listDirectory(check, `objects/${prefix}`)) {
      check.checked.objects += 1;
      checkObject(check, prefix, entry);
    }
  }
}

function checkObject(check: Check, prefix: string, { name, type }: DirEntry): void {
  const { repo } = check;
  const rest = Buffer.from(name).toString("latin1");
  const path = `objects/${prefix}/${rest}`;
  const digest = `${prefix}${rest}`;
  try {
    checkDigest(repo, digest);
  } catch (error) {
    report(check, "object-invalid-name", path, error);
    return;
  }
  // Opening a link says what is wrong with it.
  if (type !== "file" && type !== "symlink" && type !== "unknown") {
    report(check, "unexpected-file-type", path, `It is a ${type} instead of a file`, digest);
    return;
  }
  const state = attempt(
    check,
    () => inspectObject(repo, digest),
    path,
    (error) =>
      error instanceof SyscallError && error.call === "openat"
        ? "object-open-failed"
        : "object-verity-failed",
    digest,
  );
  if (state === "digest-mismatch") {
    const problem = "Its content is not what its name says";
    report(check, "object-digest-mismatch", path, problem, digest);
  } else if (state === "verity-missing") {
    const problem = "It has no fs-verity, as this repository requires";
    report(check, "object-verity-missing", path, problem, digest);
  }
}

/** A stream or image and the object behind it. */
interface Entry {
  readonly name: string;
  readonly path: string;
  readonly digest: string;
}

function checkCategory(
  check: Check,
  category: Category,
  checkEntry: (check: Check, entry: Entry, bytes: Uint8Array) => void,
): void {
  for (const { name, type } of listDirectory(check, category)) {
    const text = Buffer.from(name).toString("utf8");
    if (text === "refs") continue;
    check.checked[category] += 1;
    const entry = resolveEntry(check, category, { name, type });
    const bytes = entry && readEntry(check, category, entry);
    if (entry !== null && bytes !== null) checkEntry(check, entry, bytes);
  }
}

function resolveEntry(check: Check, category: Category, { name }: DirEntry): Entry | null {
  const { repo } = check;
  const text = Buffer.from(name).toString("utf8");
  const path = `${category}/${text}`;
  const resolve = (): Entry | null => {
    const raw = Buffer.concat([Buffer.from(`${category}/`), name]);
    if ((fstatat(repo.dir, raw).mode & S_IFMT) !== S_IFLNK) {
      report(check, "entry-not-symlink", path, "It is no symbolic link");
      return null;
    }
    const digest = parseObjectLink(repo, readlinkat(repo.dir, raw));
    return isReadableObject(check, category, path, digest) ? { name: text, path, digest } : null;
  };
  return attempt(check, resolve, path, (error) =>
    error instanceof FormatError ? "broken-symlink" : "stat-failed",
  );
}

function isReadableObject(check: Check, category: Category, path: string, digest: string): boolean {
  const stat = fstatatIfExists(check.repo.dir, `objects/${objectPath(digest)}`);
  if (stat === null) {
    const problem = `Object "${digest}", which it points to, is missing`;
    report(check, "broken-symlink", path, problem, digest);
  } else if ((stat.mode & S_IFMT) !== S_IFREG) {
    const problem = `Object "${digest}" is not a regular file`;
    report(check, "unexpected-file-type", path, problem, digest);
  } else if (stat.sizeBytes > ENTRY_LIMIT_BYTES) {
    const kind = category === "streams" ? "stream-read-failed" : "image-read-failed";
    report(check, kind, path, `Object "${digest}" has ${stat.sizeBytes} bytes: too many`, digest);
  } else {
    return true;
  }
  return false;
}

function readEntry(check: Check, category: Category, entry: Entry): Uint8Array | null {
  const kind = category === "streams" ? "stream" : "image";
  return attempt(
    check,
    () => readObject(check.repo, entry.digest, ENTRY_LIMIT_BYTES),
    entry.path,
    (error) => (error instanceof IntegrityError ? `${kind}-open-failed` : `${kind}-read-failed`),
    entry.digest,
  );
}

function checkStream(check: Check, { path }: Entry, bytes: Uint8Array): void {
  const read = () => readSplitStreamRefs(bytes);
  const refs = attempt(check, read, path, () => "stream-read-failed");
  for (const digest of refs?.objectRefs ?? []) {
    if (hasFile(check, path, digest)) continue;
    report(check, "missing-object-ref", path, `Object "${digest}" is missing`, digest);
  }
  for (const [name, digest] of refs?.namedRefs ?? []) {
    if (hasFile(check, path, digest)) continue;
    const problem = `Object "${digest}" of "${name}" is missing`;
    report(check, "missing-named-ref", path, problem, digest);
  }
}

/** Name and type only; contents are the objects' own affair. True as well when it cannot be told. */
function hasFile(check: Check, path: string, digest: string): boolean {
  const { repo, present } = check;
  if (present.has(digest)) return true;
  const look = () => fstatatIfExists(repo.dir, `objects/${objectPath(checkDigest(repo, digest))}`);
  const result = attempt(
    check,
    () => ({ stat: look() }),
    path,
    () => "object-check-failed",
  );
  if (result === null) return true;
  const isFile = ((result.stat?.mode ?? 0) & S_IFMT) === S_IFREG;
  if (isFile) present.add(digest);
  return isFile;
}

function checkImage(check: Check, { name, path, digest }: Entry, bytes: Uint8Array): void {
  if (name !== digest) {
    report(check, "image-invalid", path, `It points to another image, "${digest}"`);
  }
  const read = () => {
    readErofs(bytes);
    return collectObjects(bytes);
  };
  const objects = attempt(check, read, path, () => "image-invalid");
  for (const object of objects ?? []) {
    if (hasFile(check, path, object)) continue;
    const problem = `Object "${object}" of one of its files is missing`;
    report(check, "image-missing-object", path, problem, object);
  }
}

/** `depth`: how many directories below the category. */
function checkRefs(check: Check, category: Category, directory: string, depth: number): void {
  const { repo } = check;
  for (const { name } of listDirectory(check, directory)) {
    const path = `${directory}/${Buffer.from(name).toString("utf8")}`;
    const stat = attempt(
      check,
      () => fstatat(repo.dir, path),
      path,
      () => "stat-failed",
    );
    if (stat === null) continue;
    const type = stat.mode & S_IFMT;
    if (type === S_IFDIR && depth < MAX_REF_DEPTH) {
      checkRefs(check, category, path, depth + 1);
      continue;
    }
    check.checked.refs += 1;
    if (type === S_IFLNK) checkRef(check, category, path, depth);
    else report(check, "entry-not-symlink", path, "It is no symbolic link");
  }
}

function checkRef(check: Check, category: Category, path: string, depth: number): void {
  const { repo } = check;
  attempt(
    check,
    () => {
      const target = Buffer.from(readlinkat(repo.dir, path)).toString("utf8");
      const name = target.slice(target.lastIndexOf("/") + 1);
      const isNamed = target === `${"../".repeat(depth)}${name}` && !["", ".", ".."].includes(name);
      if (!isNamed || fstatatIfExists(repo.dir, `${category}/${name}`) === null) {
        report(check, "broken-symlink", path, `"${target}", which it points to, is missing`);
      }
    },
    path,
    () => "stat-failed",
  );
}

/** Nothing when it does not exist; a finding when it is no directory or cannot be read. */
function listDirectory(check: Check, path: string): readonly DirEntry[] {
  const { repo } = check;
  const list = (): readonly DirEntry[] => {
    using fd: Fd | null = openatIfExists(repo.dir, path, O.RDONLY | O.DIRECTORY | O.NOFOLLOW);
    return fd === null ? [] : readDirectory(fd);
  };
  const isWrongType = (error: Error) =>
    error instanceof SyscallError && ["ENOTDIR", "ELOOP"].includes(error.code);
  return (
    attempt(check, list, path, (error) =>
      isWrongType(error) ? "unexpected-file-type" : "stat-failed",
    ) ?? []
  );
}
