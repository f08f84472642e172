// A file that is complete before it has its name: O_TMPFILE where the file system has it (nothing is
// left of it after a crash), else a named temporary file beside the target.
//
// Invariant: disposing of it removes everything unless `link` or `replace` succeeded.

import { toHex } from "../bytes/hex.ts";
import { isErrno } from "../error.ts";
import { O, RENAME } from "../sys/constants.ts";
import type { Dir, Fd } from "../sys/fd.ts";
import { openat, reopenReadOnly, replaceDescription } from "../sys/file.ts";
import { linkat, linkFd, linkFdIfFree, renameat2, unlinkatIfExists } from "../sys/link.ts";

const NAME_ATTEMPTS = 16;

export interface TemporaryFileOptions {
  /** Directory of the temporary file, relative to `dir`; on the same file system as the target. */
  readonly parent: string;
  /** Start of the name where it needs one; 12 random characters follow. */
  readonly prefix: string;
  /** Subject to the umask. */
  readonly mode: number;
  /** Do not try O_TMPFILE. */
  readonly named?: boolean;
}

export class TemporaryFile implements Disposable {
  readonly #fd: Fd;
  readonly #dir: Dir;
  readonly #options: TemporaryFileOptions;
  /** Path relative to `#dir`; null while it has no name (or has its final one). */
  #name: string | null = null;

  /** `nameless` is one that another thread has made without a name. */
  constructor(dir: Dir, options: TemporaryFileOptions, nameless: Fd | null = null) {
    this.#dir = dir;
    this.#options = options;
    if (nameless !== null) {
      this.#fd = nameless;
      return;
    }
    if (options.named !== true) {
      const fd = openNameless(dir, options);
      if (fd !== null) {
        this.#fd = fd;
        return;
      }
    }
    [this.#fd, this.#name] = createNamed(dir, options);
  }

  get fd(): Fd {
    return this.#fd;
  }

  /** True when the file system has no O_TMPFILE (or it was not wanted). */
  get isNamed(): boolean {
    return this.#name !== null;
  }

  /** Makes the descriptor a read-only one of the same number; nobody has the file open for writing then. */
  makeReadOnly(): void {
    using readOnly = reopenReadOnly(this.#fd);
    replaceDescription(this.#fd, readOnly);
  }

  /** Gives the file its final name; false (and nothing changed) when that is taken. */
  link(path: string): boolean {
    if (this.#name === null) return linkFdIfFree(this.#fd, this.#dir, path);
    try {
      renameat2(this.#dir, this.#name, this.#dir, path, RENAME.NOREPLACE);
    } catch (error) {
      if (isErrno(error, "EEXIST")) return false;
      if (!isErrno(error, "EINVAL")) throw error;
      return this.#linkWithoutFlags(path);
    }
    this.#name = null;
    return true;
  }

  /** As `link`, but whatever has the name is replaced atomically. */
  replace(path: string): void {
    if (this.#name === null) {
      if (linkFdIfFree(this.#fd, this.#dir, path)) return;
      this.#name = temporaryName(this.#options);
      linkFd(this.#fd, this.#dir, this.#name);
    }
    renameat2(this.#dir, this.#name, this.#dir, path);
    this.#name = null;
  }

  /** For file systems that do not know RENAME_NOREPLACE. */
  #linkWithoutFlags(path: string): boolean {
    try {
      linkat(this.#dir, this.#name!, this.#dir, path);
      return true; // the temporary name goes when this is disposed of
    } catch (error) {
      if (isErrno(error, "EEXIST")) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#fd.close();
    if (this.#name !== null) unlinkatIfExists(this.#dir, this.#name);
    this.#name = null;
  }
}

function openNameless(dir: Dir, options: TemporaryFileOptions): Fd | null {
  try {
    return openat(dir, options.parent, O.TMPFILE | O.RDWR, options.mode);
  } catch (error) {
    // EISDIR: file systems and kernels that see an ordinary open of a directory.
    if (isErrno(error, "EOPNOTSUPP", "EISDIR", "ENOSYS")) return null;
    throw error;
  }
}

function createNamed(dir: Dir, options: TemporaryFileOptions): [Fd, string] {
  for (let attempts = 1; ; attempts++) {
    const name = temporaryName(options);
    try {
      return [openat(dir, name, O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW, options.mode), name];
    } catch (error) {
      if (!isErrno(error, "EEXIST") || attempts === NAME_ATTEMPTS) throw error;
    }
  }
}

function temporaryName(options: TemporaryFileOptions): string {
  // Not node:crypto: loading it takes longer than some of the programs do.
  const random = crypto.getRandomValues(new Uint8Array(6));
  return `${options.parent}/${options.prefix}${toHex(random)}`;
}
