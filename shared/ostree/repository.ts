// An ostree repository on disk: opening one, making an empty one, locking it (ostree.md 4.1).
//
// Reading takes no lock: objects never change, and refs are replaced by rename. Writers hold `.lock`
// as ostree's own do, shared with each other and excluded by its garbage collection.

import { isErrno, StateError } from "../error.ts";
import {
  formatRepositoryConfig,
  parseRepositoryConfig,
  type RepositoryConfig,
} from "../format/ostree/config.ts";
import { O } from "../sys/constants.ts";
import { mkdirat, mkdiratIfMissing, openDirectory } from "../sys/directory.ts";
import type { Fd } from "../sys/fd.ts";
import { openat, openatIfExists, readAll } from "../sys/file.ts";
import { lockFile } from "../sys/range-lock.ts";
import { writeFileAtomic } from "../txn/atomic.ts";

export interface OstreeRepository extends Disposable {
  /** As given, for messages. */
  readonly path: string;
  readonly dir: Fd;
  readonly config: RepositoryConfig;
  /** Has the objects that this one lacks. */
  readonly parent: OstreeRepository | null;
}

const CONFIG_LIMIT_BYTES = 1 << 20;
const MAX_PARENTS = 8;
const DIRECTORIES = ["objects", "tmp", "tmp/cache", "extensions", "state", "refs"] as const;
const REF_DIRECTORIES = ["refs/heads", "refs/mirrors", "refs/remotes"] as const;

/** StateError("missing") when there is no repository; FormatError when its settings are malformed. */
export function openOstreeRepository(path: string): OstreeRepository {
  return openChain(path, 0);
}

function openChain(path: string, depth: number): OstreeRepository {
  if (depth > MAX_PARENTS) {
    throw new StateError("conflict", `Repository "${path}" is its own parent: see its "config"`);
  }
  const dir = openRoot(path);
  try {
    const config = parseRepositoryConfig(readConfig(dir, path), `${path}/config`);
    const parent = config.parent === null ? null : openChain(config.parent, depth + 1);
    return {
      path,
      dir,
      config,
      parent,
      [Symbol.dispose]: () => {
        dir.close();
        parent?.[Symbol.dispose]();
      },
    };
  } catch (error) {
    dir.close();
    throw error;
  }
}

function openRoot(path: string): Fd {
  try {
    return openat(null, path, O.RDONLY | O.DIRECTORY);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR")) throw cause;
    throw new StateError("missing", `There is no ostree repository at "${path}"`, { path });
  }
}

function readConfig(dir: Fd, path: string): string {
  using fd = openatIfExists(dir, "config", O.RDONLY | O.NONBLOCK);
  if (fd !== null) return Buffer.from(readAll(fd, CONFIG_LIMIT_BYTES)).toString("utf8");
  throw new StateError("missing", `"${path}" is no ostree repository: it has no file "config"`, {
    path,
  });
}

/** Makes an empty bare repository; StateError("exists") when there is one. */
export function createOstreeRepository(path: string): void {
  mkdiratIfMissing(null, path, 0o755);
  using dir = openDirectory(null, path);
  using config = openatIfExists(dir, "config", O.RDONLY);
  if (config !== null) {
    throw new StateError("exists", `"${path}" is an ostree repository already`, { path });
  }
  for (const name of [...DIRECTORIES, ...REF_DIRECTORIES]) mkdiratIfMissing(dir, name, 0o755);
  writeFileAtomic(dir, "config", Buffer.from(formatRepositoryConfig("bare")), { mode: 0o644 });
}

/** Holds the writers' lock; waits while somebody collects garbage. */
export function lockForWriting(repo: OstreeRepository): Disposable {
  const fd = openat(repo.dir, ".lock", O.RDWR | O.CREAT | O.NOFOLLOW, 0o660);
  try {
    lockFile(fd, "shared", { wait: true });
  } catch (error) {
    fd.close();
    throw error;
  }
  return { [Symbol.dispose]: () => fd.close() };
}

/** A fresh directory below `tmp/`, on the same file system as the objects. */
export function makeStagingDirectory(repo: OstreeRepository, name: string): string {
  mkdiratIfMissing(repo.dir, "tmp", 0o755);
  const path = `tmp/${name}`;
  mkdirat(repo.dir, path, 0o700);
  return path;
}
