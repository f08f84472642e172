// From a complete file without a name to an object: seal it, measure it, link it.
//
// A name never stands for half a file. What has the name already counts only when its digest agrees; a
// damaged one is replaced by rename, after fsync of the new file: a power cut leaves one or the other,
// and readers that have the old one open keep it.

import { isErrno, StateError } from "../error.ts";
import { objectPath } from "../format/verity/digest.ts";
import { copyFileContents } from "../sys/copy.ts";
import { mkdiratIfMissing } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { fsync } from "../sys/file.ts";
import { enableVerity, measureVerity } from "../sys/verity.ts";
import { explainNoSpace } from "../txn/no-space.ts";
import { TemporaryFile } from "../txn/temporary-file.ts";
import { isGoodObject, mismatch, verityMissing } from "./object-inspection.ts";
import type { Repository } from "./repository.ts";

const OBJECT_MODE = 0o644;
/** Rounds of copying to a fresh file when somebody holds the old one open for writing. */
const BUSY_COPIES = 8;
export const TEMPORARY_PREFIX = ".tmp-object-";

export interface StoreOptions {
  /** Put the new file in the place of an old one even when that seems to be good. */
  readonly replaces?: boolean;
}

/** Runs a write; a full disk becomes a StateError that names the repository. */
export function explainFull<T>(repo: Repository, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw explainNoSpace(error, `repository "${repo.path}"`);
  }
}

const TEMPORARY = { parent: "objects", prefix: TEMPORARY_PREFIX, mode: OBJECT_MODE } as const;

export function createTemporary(repo: Repository): TemporaryFile {
  const open = () => new TemporaryFile(repo.dir, { ...TEMPORARY, named: !repo.hasTmpfile });
  let file: TemporaryFile;
  try {
    file = open();
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
    mkdiratIfMissing(repo.dir, "objects", 0o755);
    file = open();
  }
  if (file.isNamed) repo.hasTmpfile = false;
  return file;
}

/** The file without a name that another thread has made and written; not to be disposed of here. */
export function adoptTemporary(repo: Repository, fd: Fd): TemporaryFile {
  return new TemporaryFile(repo.dir, TEMPORARY, fd);
}

/** Seals a complete file and gives it its name. `digest` is null when only the kernel can know it. */
export function publishFile(
  repo: Repository,
  file: TemporaryFile,
  digest: string | null,
  options: StoreOptions = {},
): string {
  if (!repo.secure) {
    linkObject(repo, file, digest!, options);
    return digest!;
  }
  using sealed = sealFile(repo, file);
  const measured = measureVerity((sealed ?? file).fd);
  if (measured === null) throw verityMissing(repo, digest ?? "(new object)");
  if (digest !== null && measured.digest !== digest) throw mismatch(repo, digest, measured.digest);
  linkObject(repo, sealed ?? file, measured.digest, options);
  return measured.digest;
}

/**
 * Enables fs-verity. Usually returns null; when some process (a child forked meanwhile) keeps `file` open
 * for writing, returns a sealed copy instead.
 */
function sealFile(repo: Repository, file: TemporaryFile): TemporaryFile | null {
  let current: TemporaryFile | null = null;
  for (let copies = 0; ; copies++) {
    const target = current ?? file;
    target.makeReadOnly();
    try {
      enableVerity(target.fd, repo.algorithm);
      return current;
    } catch (error) {
      if (!isErrno(error, "ETXTBSY") || copies === BUSY_COPIES) {
        current?.[Symbol.dispose]();
        throw error;
      }
    }
    const copy = createTemporary(repo);
    copyFileContents(target.fd, copy.fd);
    current?.[Symbol.dispose]();
    current = copy;
  }
}

function linkObject(
  repo: Repository,
  file: TemporaryFile,
  digest: string,
  options: StoreOptions,
): void {
  const prefix = digest.slice(0, 2);
  if (!repo.objectDirectories.has(prefix)) {
    mkdiratIfMissing(repo.dir, `objects/${prefix}`, 0o755);
    repo.objectDirectories.add(prefix);
  }
  const path = `objects/${objectPath(digest)}`;
  if (file.link(path)) return;
  if (options.replaces !== true && isGoodObject(repo, digest)) return;
  fsync(file.fd);
  try {
    file.replace(path);
  } catch (cause) {
    if (!isErrno(cause, "EISDIR", "ENOTEMPTY")) throw cause;
    throw new StateError(
      "conflict",
      `"${repo.path}/${path}" is a directory in the place of an object; move it away`,
      { path },
      { cause },
    );
  }
}
