// Adding objects to a bare repository (ostree.md 4.1). New objects lie in a directory of their own below `tmp/` until
// all of them are on the disk; only then they get their names, and a ref last. So after a power cut
// no name stands for half an object, and a commit that is there is whole.
//
// Regular files get their owner, attributes and mode as the commit has them, and the time 0; several
// names of one content are one object. An object that is there already is left alone.

import { randomBytes } from "node:crypto";
import { isErrno, UnsupportedError } from "../error.ts";
import { type FileHeader, startContentChecksum } from "../format/ostree/file-header.ts";
import {
  computeChecksum,
  type LooseType,
  loosePath,
  type MetadataType,
} from "../format/ostree/object.ts";
import { byteStringToBytes } from "../format/tree/node.ts";
import { fchmodat, fchownat, utimensat } from "../sys/attributes.ts";
import { O, RENAME } from "../sys/constants.ts";
import { mkdiratIfMissing, removeTree } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { fsync, openat, syncfs, writeAll } from "../sys/file.ts";
import { renameat2, symlinkat, unlinkat } from "../sys/link.ts";
import { lsetxattr } from "../sys/xattr.ts";
import { hasLoose } from "./objects.ts";
import { lockForWriting, makeStagingDirectory, type OstreeRepository } from "./repository.ts";

const METADATA_MODE = 0o644;
const PERMISSIONS = 0o7777;

export interface Transaction extends Disposable {
  readonly repo: OstreeRepository;
  /** Below the repository. */
  readonly staging: string;
  /** Loose paths of the objects in it. */
  readonly staged: Set<string>;
  /** Names in `staging` that are not objects yet are numbered. */
  count: number;
}

/** Takes the writers' lock. Disposing of it removes what was not published. */
export function beginTransaction(repo: OstreeRepository): Transaction {
  const { mode, requiresVerity } = repo.config;
  if (mode !== "bare") {
    throw cannotWrite(repo, `its mode is "${mode}", and only "bare" can be written`);
  }
  if (requiresVerity) throw cannotWrite(repo, "it requires fs-verity, which is not enabled here");
  const lock = lockForWriting(repo);
  try {
    const staging = makeStagingDirectory(repo, `bootc-${randomBytes(6).toString("hex")}`);
    return {
      repo,
      staging,
      staged: new Set(),
      count: 0,
      [Symbol.dispose]: () => {
        using _ = lock;
        removeTree(repo.dir, staging);
      },
    };
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

function cannotWrite(repo: OstreeRepository, reason: string): UnsupportedError {
  return new UnsupportedError("feature", `Cannot write to "${repo.path}": ${reason}`);
}

/** Returns the object's checksum. */
export function addMetadata(t: Transaction, type: MetadataType, bytes: Uint8Array): string {
  const checksum = computeChecksum(bytes);
  if (isPresent(t, checksum, type)) return checksum;
  const name = temporaryName(t);
  using fd = createFile(t, name);
  writeAll(fd, bytes);
  fchmodat(t.repo.dir, name, METADATA_MODE);
  stage(t, name, checksum, type);
  return checksum;
}

/** Adds a file whose bytes come from `chunks`, or a symlink; returns the object's checksum. */
export function addContent(
  t: Transaction,
  header: FileHeader,
  chunks: Iterable<Uint8Array>,
): string {
  const hash = startContentChecksum(header);
  const name = temporaryName(t);
  const { dir } = t.repo;
  if (header.target !== null) symlinkat(byteStringToBytes(header.target), dir, name);
  else {
    using fd = createFile(t, name);
    for (const chunk of chunks) {
      hash.update(chunk);
      writeAll(fd, chunk);
    }
  }
  const checksum = hash.digest("hex");
  if (isPresent(t, checksum, "file")) {
    unlinkat(dir, name);
    return checksum;
  }
  dress(t, name, header);
  stage(t, name, checksum, "file");
  return checksum;
}

/** The owner first: changing it takes set-id bits and capabilities away. */
function dress({ repo }: Transaction, name: string, header: FileHeader): void {
  const { dir } = repo;
  fchownat(dir, name, header.uid, header.gid);
  const path = `/proc/self/fd/${dir.number}/${name}`;
  for (const [xattr, value] of header.xattrs) lsetxattr(path, xattr, value);
  if (header.target === null) fchmodat(dir, name, header.mode & PERMISSIONS);
  utimensat(dir, name, 0, 0);
}

/** Everything gets its name, once it is on the disk. The transaction may go on. */
export function publishObjects(t: Transaction): void {
  const { dir } = t.repo;
  syncfs(dir);
  const folders = new Set([...t.staged].map((path) => path.slice(0, 2)));
  for (const folder of folders) mkdiratIfMissing(dir, `objects/${folder}`, 0o755);
  // Commits last, so that one that can be seen is whole.
  const isCommit = (path: string) => Number(path.endsWith(".commit"));
  for (const path of [...t.staged].sort((a, b) => isCommit(a) - isCommit(b))) {
    publish(t, path);
  }
  t.staged.clear();
  for (const path of ["objects", ...[...folders].map((folder) => `objects/${folder}`)]) {
    using fd = openat(dir, path, O.RDONLY | O.DIRECTORY);
    fsync(fd);
  }
}

function publish({ repo, staging }: Transaction, path: string): void {
  const from = `${staging}/${path}`;
  try {
    renameat2(repo.dir, from, repo.dir, `objects/${path}`, RENAME.NOREPLACE);
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    unlinkat(repo.dir, from);
  }
}

function isPresent(t: Transaction, checksum: string, type: LooseType): boolean {
  return t.staged.has(loosePath(checksum, type)) || hasLoose(t.repo, checksum, type);
}

function stage(t: Transaction, name: string, checksum: string, type: LooseType): void {
  const path = loosePath(checksum, type);
  mkdiratIfMissing(t.repo.dir, `${t.staging}/${path.slice(0, 2)}`, 0o700);
  renameat2(t.repo.dir, name, t.repo.dir, `${t.staging}/${path}`);
  t.staged.add(path);
}

function temporaryName(t: Transaction): string {
  return `${t.staging}/new-${t.count++}`;
}

function createFile(t: Transaction, name: string): Fd {
  return openat(t.repo.dir, name, O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW, 0o600);
}
