// Taking the image's default back for paths of /etc, on real files.
//
// Each entry is made beside the one it replaces, written out, and renamed over it, so that a path is the
// old or the new at any time; interrupted, it leaves names that begin with PARTIAL_NAME, which no merge
// carries along and the next reset removes. What is mounted over a path is never touched: EBUSY.

import { isErrno, StateError } from "../../shared/error.ts";
import {
  type ByteString,
  byteStringToBytes,
  type DirectoryNode,
  fromByteString,
} from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { fchmod, fchownat } from "../../shared/sys/attributes.ts";
import { RENAME } from "../../shared/sys/constants.ts";
import { openDirectory, readDirectory, removeTree } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { fsync } from "../../shared/sys/file.ts";
import { renameat2 } from "../../shared/sys/link.ts";
import { llistxattr, lremovexattr, lsetxattr } from "../../shared/sys/xattr.ts";
import { syncTree } from "../../shared/txn/durable.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { writeImageContent } from "./etc-merge.ts";
import { entryPath, isPartial, openEtc, PARTIAL_NAME } from "./etc-read.ts";
import type { ResetStep } from "./etc-reset-plan.ts";
import { writeEntry } from "./etc-write.ts";

/** Does what was planned, one step after the other; an error names the path that was not reset. */
export function applyEtcReset(etc: string, repo: Repository, steps: readonly ResetStep[]): void {
  using root = openEtc(etc);
  removeLeftovers(root);
  for (const step of steps) {
    try {
      applyStep(root, repo, step);
    } catch (error) {
      throw explain(error, step.path);
    }
  }
}

function applyStep(root: Fd, repo: Repository, step: ResetStep): void {
  const names = step.path.split("/");
  using parent = openParent(root, names.slice(0, -1));
  const name = byteStringToBytes(names.at(-1)!);
  if (step.kind === "attributes") {
    using directory = openDirectory(parent, name);
    setAttributes(directory, step.node);
    return;
  }
  if (step.kind === "remove") removeTree(parent, name);
  else replaceEntry(parent, name, repo, step);
  fsync(parent);
}

/** A symlink that took a directory's place meanwhile is not followed: ELOOP. */
function openParent(root: Fd, names: readonly ByteString[]): Fd {
  let directory = openDirectory(root, ".");
  for (const name of names) {
    using outer = directory;
    directory = openDirectory(outer, byteStringToBytes(name));
  }
  return directory;
}

function replaceEntry(
  parent: Fd,
  name: Uint8Array,
  repo: Repository,
  { node, replaces }: Extract<ResetStep, { kind: "write" }>,
): void {
  const partial = Buffer.from(`${PARTIAL_NAME}new`);
  try {
    writeEntry(node, parent, partial, (file, _path, output) =>
      writeImageContent(repo, file, output),
    );
    if (node.kind === "file" || node.kind === "directory") syncTree(parent, partial);
    if (replaces === "other") exchange(parent, partial, name);
    else renameat2(parent, partial, parent, name, replaces === "same" ? 0 : RENAME.NOREPLACE);
  } catch (error) {
    removeQuietly(parent, partial);
    throw error;
  }
}

/** On an overlay a directory of the image cannot be moved: there it is removed first. */
function exchange(parent: Fd, partial: Uint8Array, name: Uint8Array): void {
  try {
    renameat2(parent, partial, parent, name, RENAME.EXCHANGE);
    fsync(parent);
  } catch (error) {
    if (!isErrno(error, "EXDEV", "EINVAL")) throw error;
    removeTree(parent, name);
    renameat2(parent, partial, parent, name, RENAME.NOREPLACE);
    return;
  }
  removeTree(parent, partial);
}

function setAttributes(directory: Fd, node: DirectoryNode): void {
  const path = entryPath(directory, Buffer.from("."));
  fchownat(null, path, node.uid, node.gid);
  fchmod(directory, node.mode & 0o7777);
  for (const name of llistxattr(path)) {
    // Without a label of the image's the one that is there is right; the others are the kernel's own.
    const isKernels = name.startsWith("security.") || /^(trusted|user)\.overlay\./.test(name);
    if (!node.xattrs.has(name) && !isKernels) lremovexattr(path, name);
  }
  for (const [name, value] of node.xattrs) lsetxattr(path, name, value);
  fsync(directory);
}

/** What a reset that was interrupted left, anywhere. */
function removeLeftovers(directory: Fd): void {
  for (const { name, type } of readDirectory(directory)) {
    if (isPartial(name)) {
      removeTree(directory, name);
    } else if (type === "directory") {
      using child = openDirectory(directory, name);
      removeLeftovers(child);
    }
  }
}

function removeQuietly(parent: Fd, name: Uint8Array): void {
  try {
    removeTree(parent, name);
  } catch {}
}

function explain(error: unknown, path: ByteString): unknown {
  const name = `/etc/${fromByteString(path)}`;
  const why = explainErrno(error);
  return new StateError(
    "conflict",
    `Cannot reset "${name}"${why}`,
    { path: name },
    {
      cause: explainNoSpace(error, `image's version of "${name}"`),
    },
  );
}

function explainErrno(error: unknown): string {
  if (isErrno(error, "EBUSY")) return ": something is mounted there; unmount it first";
  if (isErrno(error, "EROFS")) return ": /etc is read-only on this machine";
  if (isErrno(error, "EPERM")) return ': it may be immutable, see "lsattr" and "chattr -i"';
  if (isErrno(error, "EEXIST", "ENOENT", "ENOTDIR", "ELOOP")) {
    return ": it changed meanwhile; try again";
  }
  return "";
}
