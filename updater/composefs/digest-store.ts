// `--digest-store`: a plain directory of content files, XX/rest-of-digest, as C's mkcomposefs fills it.
//
// A file is complete before it has its name, and gets fs-verity where the file system has it. What is
// there already is taken as it is (C does the same); a repository (shared/store) is what checks. Several
// threads may fill one store, each through a DigestStore of its own.

import { isErrno, StateError, UnsupportedError } from "../../shared/error.ts";
import { objectPath } from "../../shared/format/verity/digest.ts";
import { fchmod } from "../../shared/sys/attributes.ts";
import { copyFileContents } from "../../shared/sys/copy.ts";
import { mkdiratIfMissing, openDirectory } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { syncfs } from "../../shared/sys/file.ts";
import { describeFd } from "../../shared/sys/path.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import { enableVerity, measureVerity } from "../../shared/sys/verity.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { TemporaryFile } from "../../shared/txn/temporary-file.ts";

const OBJECT_MODE = 0o644;
const DIRECTORY_MODE = 0o755;

export interface DigestStore {
  readonly dir: Fd;
  /** First digits whose directory is there. */
  readonly prefixes: Set<string>;
  hasVerity: boolean;
  hasNew: boolean;
}

/** Opens the store, making it and its parents when they are missing. */
export function openDigestStore(path: string): DigestStore & Disposable {
  for (let end = path.indexOf("/", 1); end > 0; end = path.indexOf("/", end + 1)) {
    mkdiratIfMissing(null, path.slice(0, end), DIRECTORY_MODE);
  }
  mkdiratIfMissing(null, path, DIRECTORY_MODE);
  const dir = openDirectory(null, `${path}/`);
  return { ...workOnDigestStore(dir), [Symbol.dispose]: () => dir.close() };
}

/** The store in an open directory. */
export function workOnDigestStore(dir: Fd): DigestStore {
  return { dir, prefixes: new Set(), hasVerity: true, hasNew: false };
}

/** Copies the whole content of `source`, whose digest (sha256) and size are known. */
export function storeFile(store: DigestStore, source: Fd, digest: string, sizeBytes: number): void {
  const path = objectPath(digest);
  if (fstatatIfExists(store.dir, path) !== null) return;
  try {
    copyFile(store, source, digest, sizeBytes);
  } catch (error) {
    throw explainNoSpace(error, `digest store "${describeFd(store.dir)}"`);
  }
  store.hasNew = true;
}

function copyFile(store: DigestStore, source: Fd, digest: string, sizeBytes: number): void {
  makePrefix(store, digest.slice(0, 2));
  using file = new TemporaryFile(store.dir, {
    parent: ".",
    prefix: ".tmp-",
    mode: OBJECT_MODE,
  });
  if (copyFileContents(source, file.fd).sizeBytes !== sizeBytes) {
    const path = describeFd(source);
    throw new StateError("conflict", `"${path}" was changed while it was copied; try again`);
  }
  fchmod(file.fd, OBJECT_MODE);
  seal(store, file, digest);
  file.link(objectPath(digest));
}

function makePrefix(store: DigestStore, prefix: string): void {
  if (store.prefixes.has(prefix)) return;
  mkdiratIfMissing(store.dir, prefix, DIRECTORY_MODE);
  store.prefixes.add(prefix);
}

/** Everything stored so far is on the disk afterwards. */
export function syncDigestStore(store: DigestStore): void {
  if (store.hasNew) syncfs(store.dir);
  store.hasNew = false;
}

function seal(store: DigestStore, file: TemporaryFile, digest: string): void {
  if (!store.hasVerity) return;
  file.makeReadOnly();
  const { fd } = file;
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
