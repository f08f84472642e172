// Writing a tree into a fresh directory: every type, owner, mode, time, extended attribute and hard
// link of its nodes. The target is made here, so every name below it is ours and no link can lead
// elsewhere. Nothing is synced; the caller syncs the file system once.

import {
  type ByteString,
  byteStringToBytes,
  bytesToByteString,
  type DirectoryNode,
  type FileNode,
  type Leaf,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import { fchmod, fchmodat, fchownat, utimensat } from "../../shared/sys/attributes.ts";
import { O } from "../../shared/sys/constants.ts";
import { mkdirat, openDirectory } from "../../shared/sys/directory.ts";
import type { Dir, Fd, Path } from "../../shared/sys/fd.ts";
import { openat } from "../../shared/sys/file.ts";
import { linkat, mknodat, symlinkat } from "../../shared/sys/link.ts";
import { lsetxattr } from "../../shared/sys/xattr.ts";
import { entryPath } from "./etc-read.ts";

const PERMISSIONS = 0o7777;

/** Fills `output` with the content of `file`, which is at `path` below the tree's root. */
export type ContentWriter = (file: FileNode, path: ByteString, output: Fd) => void;

interface Writing {
  readonly root: Fd;
  readonly writeContent: ContentWriter;
  /** Where each leaf was written first. */
  readonly written: Map<Leaf, ByteString>;
}

/** Makes the directory `target`, which must not exist, with everything in `tree`. */
export function writeTree(
  tree: DirectoryNode,
  dir: Dir,
  target: Path,
  writeContent: ContentWriter,
): void {
  mkdirat(dir, target, 0o700);
  using root = openDirectory(dir, target);
  fillDirectory({ root, writeContent, written: new Map() }, tree, root, "");
  utimensat(dir, target, tree.mtimeSec, tree.mtimeNsec);
}

/** Makes one entry, which must not exist, with everything below it. */
export function writeEntry(
  node: TreeNode,
  dir: Fd,
  name: Uint8Array,
  writeContent: ContentWriter,
): void {
  writeNode(
    { root: dir, writeContent, written: new Map() },
    node,
    dir,
    name,
    bytesToByteString(name),
  );
}

/** Everything but the time, which is set last and by name. */
function fillDirectory(writing: Writing, node: DirectoryNode, fd: Fd, path: ByteString): void {
  for (const [name, child] of node.entries) {
    const childPath = path === "" ? name : `${path}/${name}`;
    writeNode(writing, child, fd, byteStringToBytes(name), childPath);
  }
  fchownat(null, `/proc/self/fd/${fd.number}/.`, node.uid, node.gid);
  fchmod(fd, node.mode & PERMISSIONS);
  setXattrs(node, entryPath(fd, Buffer.from(".")));
}

function writeNode(
  writing: Writing,
  node: TreeNode,
  dir: Fd,
  name: Uint8Array,
  path: ByteString,
): void {
  if (node.kind === "directory") {
    mkdirat(dir, name, 0o700);
    using fd = openDirectory(dir, name);
    fillDirectory(writing, node, fd, path);
  } else {
    const earlier = writing.written.get(node);
    if (earlier !== undefined) {
      linkBeneath(writing.root, earlier, dir, name);
      return;
    }
    writing.written.set(node, path);
    writeLeaf(writing, node, dir, name, path);
  }
  utimensat(dir, name, node.mtimeSec, node.mtimeNsec);
}

/** Name by name: all of them together may be longer than a path can be. */
function linkBeneath(root: Fd, path: ByteString, dir: Fd, name: Uint8Array): void {
  const slash = path.indexOf("/");
  if (slash < 0) {
    linkat(root, byteStringToBytes(path), dir, name);
    return;
  }
  using directory = openDirectory(root, byteStringToBytes(path.slice(0, slash)));
  linkBeneath(directory, path.slice(slash + 1), dir, name);
}

function writeLeaf(
  writing: Writing,
  node: Leaf,
  dir: Fd,
  name: Uint8Array,
  path: ByteString,
): void {
  if (node.kind === "file") {
    using fd = openat(dir, name, O.WRONLY | O.CREAT | O.EXCL | O.NOFOLLOW, 0o600);
    writing.writeContent(node, path, fd);
  } else if (node.kind === "symlink") {
    symlinkat(byteStringToBytes(node.target), dir, name);
  } else {
    mknodat(dir, name, node.mode & ~PERMISSIONS, node.rdev);
  }
  // A change of owner clears set-id bits and capabilities, so it comes first.
  fchownat(dir, name, node.uid, node.gid);
  if (node.kind !== "symlink") fchmodat(dir, name, node.mode & PERMISSIONS);
  setXattrs(node, entryPath(dir, name));
}

function setXattrs(node: TreeNode, path: Uint8Array): void {
  for (const [name, value] of node.xattrs) lsetxattr(path, name, value);
}
