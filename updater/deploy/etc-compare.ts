// When two entries of /etc are the same: type, owner, mode, extended attributes, content or target. Time
// stamps and the permission bits of symlinks do not count (docs/decisions/0003). Pure.

import {
  type FileContent,
  type Leaf,
  S_IFLNK,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";

/** Whether a leaf is the same as `a`; time stamps do not count. */
export function sameNode(a: TreeNode, b: Leaf): boolean {
  if (!sameMetadata(a, b)) return false;
  if (a.kind === "file") return b.kind === "file" && sameContent(a.content, b.content);
  if (a.kind === "symlink") return b.kind === "symlink" && a.target === b.target;
  return a.kind === "special" && b.kind === "special" && a.rdev === b.rdev;
}

/** Whether both sides have the same there; of directories only what they are themselves. */
export function sameItself(a: TreeNode | undefined, b: TreeNode | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (b.kind !== "directory") return a.kind === b.kind && sameNode(a, b);
  return a.kind === "directory" && sameMetadata(a, b);
}

/** Whether both sides have the same there and everywhere below. */
export function sameTree(a: TreeNode | undefined, b: TreeNode | undefined): boolean {
  if (a?.kind !== "directory" || b?.kind !== "directory") return sameItself(a, b);
  if (a.entries.size !== b.entries.size || !sameMetadata(a, b)) return false;
  return [...a.entries].every(([name, child]) => sameTree(child, b.entries.get(name)));
}

/** Everything but the time stamps; the mode includes the type. */
export function sameMetadata(a: TreeNode, b: TreeNode): boolean {
  return (
    comparableMode(a) === comparableMode(b) &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    sameXattrs(a.xattrs, b.xattrs)
  );
}

/** Images carry any permission bits on symlinks, file systems always say 0777: they mean nothing. */
function comparableMode(node: TreeNode): number {
  return node.kind === "symlink" ? S_IFLNK : node.mode;
}

export function sameXattrs(a: Xattrs, b: Xattrs): boolean {
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [left, right] = [a.get(name), b.get(name)];
    // Kernels with SELinux make up a label for files that have none, which an image's tree does not show.
    if (name === SELINUX_LABEL && (left === undefined || right === undefined)) continue;
    if (left === undefined || right === undefined || Buffer.compare(left, right) !== 0)
      return false;
  }
  return true;
}
const SELINUX_LABEL = "security.selinux";

export function sameContent(a: FileContent, b: FileContent): boolean {
  if (a.kind === "inline" && b.kind === "inline") return Buffer.compare(a.bytes, b.bytes) === 0;
  if (a.kind === "inline") return sameContent(b, a);
  // Without a digest nothing proves equality; a difference only means that the local file is kept.
  if (a.digest === undefined) return false;
  if (b.kind === "external") return a.sizeBytes === b.sizeBytes && a.digest === b.digest;
  if (a.sizeBytes !== b.bytes.length) return false;
  const algorithm = a.digest.length === 128 ? "sha512" : "sha256";
  return a.digest === computeVerityDigest(b.bytes, algorithm);
}
