// `--digest-store`: a plain directory of content files, XX/rest-of-digest, as C's mkcomposefs fills it.
//
// A file is complete before it has its name, and gets fs-verity where the file system has it. What is
// there already is taken as it is (C does the same); a repository (shared/store) is what checks.

import { isErrno, StateError, UnsupportedError } from "../../shared/error.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { fchmod } from "../../shared/sys/attributes.ts";
import { mkdiratIfMissing, openDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { copyFileRange, reopenReadOnly, syncfs } from "../../shared/sys/file.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { enableVerity, measureVerity } from "../../shared/sys/verity.ts";
import { TemporaryFile } from "../../shared/txn/temporary-file.ts";

const OBJECT_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

export interface DigestStore extends Disposable {
  readonly dir: Fd;
  hasVerity: boolean;
  hasNew: boolean;
}

/** Opens the store, making it and its parents when they are missing. */
export function openDigestStore(path: string): DigestStore {
  for (let end = path.indexOf("/", 1); end > 0; end = path.indexOf("/", end + 1)) {
    mkdiratIfMissing(null, path.slice(0, end), DIRECTORY_MODE);
  }
  mkdiratIfMissing(null, path, DIRECTORY_MODE);
  const dir = openDirectory(null, `${path}/`);
  return { dir, hasVerity: true, hasNew: false, [Symbol.dispose]: () => dir.close() };
}

/** Copies the whole content of `source`, whose digest (sha256) and size are known. */
export function storeFile(store: DigestStore, source: Fd, digest: string, sizeBytes: number): void {
  const path = objectPath(digest);
  if (fstatatIfExists(store.dir, path) !== null) return;
  mkdiratIfMissing(store.dir, digest.slice(0, 2), DIRECTORY_MODE);
  using file = new TemporaryFile(store.dir, {
    parent: ".",
    prefix: ".tmp-",
    mode: OBJECT_MODE,
  });
  // The position of `source` may be in use: copy through a description of our own.
  using input = reopenReadOnly(source);
  if (copyFileRange(input, file.fd, sizeBytes) !== sizeBytes) {
    throw new StateError("conflict", "A file became smaller while it was copied; try again");
  }
  fchmod(file.fd, OBJECT_MODE);
  file.makeReadOnly();
  seal(store, file.fd, digest);
  file.link(path);
  store.hasNew = true;
}

/** Everything stored so far is on the disk afterwards. */
export function syncDigestStore(store: DigestStore): void {
  if (store.hasNew) syncfs(store.dir);
  store.hasNew = false;
}

function seal(store: DigestStore, fd: Fd, digest: string): void {
  if (!store.hasVerity) return;
  try {
    enableVerity(fd, "sha256");
  } catch (error) {
    if (!(error instanceof UnsupportedError) && !isErrno(error, "EINVAL", "EPERM")) throw error;
    store.hasVerity = false;
    return;
  }
  const found = measureVerity(fd)?.digest;
  if (found === digest) return;
  throw new StateError(
    "conflict",
    `A file was changed while it was copied: "${digest}"; try again`,
  );
}
