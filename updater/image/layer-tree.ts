// Applies the entries of layers, in order, to one file tree (composefs-rs.md 4.1, 4.2).
//
// Paths never leave the tree: "..", missing parents and parents that are not directories (symlinks
// included) are errors, so links cannot redirect a later entry. Whiteouts act at once, in tar order,
// also on what the same layer added before.

import { FormatError } from "../../shared/error.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import {
  type ByteString,
  type DirectoryNode,
  type FileContent,
  fromByteString,
  type Leaf,
  NO_XATTRS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
} from "../../shared/format/tree/node.ts";

const OPAQUE_WHITEOUT = ".wh..wh..opq";
const WHITEOUT_PREFIX = ".wh.";
const NAME_MAX_BYTES = 255;

/** A root without attributes; `transformForOci` gives it those of /usr. */
export function createRoot(): DirectoryNode {
  return {
    kind: "directory",
    mode: S_IFDIR,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    xattrs: NO_XATTRS,
    entries: new Map(),
  };
}

/** `content` for files. FormatError when the path or a link escapes or has no parent. */
export function applyEntry(root: DirectoryNode, entry: TarEntry, content: FileContent): void {
  const names = splitPath(entry.path);
  const name = names.pop();
  if (name === undefined) {
    if (entry.type !== "directory") {
      throw new FormatError("bad-value", `"${fromByteString(entry.path)}" is not a file name`);
    }
    copyMetadata(root, entry);
    return;
  }
  const parent = resolveDirectory(root, names);
  if (name === OPAQUE_WHITEOUT) {
    parent.entries.clear();
  } else if (name.startsWith(WHITEOUT_PREFIX)) {
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (hidden === "" || hidden === "." || hidden === "..") {
      throw new FormatError("bad-value", `whiteout "${fromByteString(name)}" names no file`);
    }
    parent.entries.delete(hidden);
  } else {
    addNode(root, parent, name, entry, content);
  }
}

function addNode(
  root: DirectoryNode,
  parent: DirectoryNode,
  name: ByteString,
  entry: TarEntry,
  content: FileContent,
): void {
  if (entry.type === "directory") {
    const existing = parent.entries.get(name);
    if (existing?.kind === "directory") {
      copyMetadata(existing, entry);
    } else {
      const directory = createRoot();
      copyMetadata(directory, entry);
      parent.entries.set(name, directory);
    }
    return;
  }
  const leaf =
    entry.type === "hardlink" ? resolveLeaf(root, entry.linkTarget) : makeLeaf(entry, content);
  parent.entries.set(name, leaf);
}

export function copyMetadata(directory: DirectoryNode, entry: TarEntry): void {
  directory.mode = S_IFDIR | entry.mode;
  directory.uid = entry.uid;
  directory.gid = entry.gid;
  directory.mtimeSec = entry.mtimeSec;
  directory.mtimeNsec = entry.mtimeNsec;
  directory.xattrs = entry.xattrs;
}

/** Anything but a directory and a hard link. */
export function makeLeaf(entry: TarEntry, content: FileContent): Leaf {
  const { mode, uid, gid, mtimeSec, mtimeNsec, xattrs } = entry;
  const common = { uid, gid, mtimeSec, mtimeNsec, xattrs, nlink: 1 };
  switch (entry.type) {
    case "symlink":
      return { kind: "symlink", mode: S_IFLNK | mode, ...common, target: entry.linkTarget };
    case "char":
      return { kind: "special", mode: S_IFCHR | mode, ...common, rdev: entry.rdev };
    case "block":
      return { kind: "special", mode: S_IFBLK | mode, ...common, rdev: entry.rdev };
    case "fifo":
      return { kind: "special", mode: S_IFIFO | mode, ...common, rdev: 0 };
    default:
      return { kind: "file", mode: S_IFREG | mode, ...common, content };
  }
}

/** What a hard link shares: any leaf that is in the tree now, from this or a lower layer. */
function resolveLeaf(root: DirectoryNode, target: ByteString): Leaf {
  const names = splitPath(target);
  const name = names.pop();
  const node = name === undefined ? root : resolveDirectory(root, names).entries.get(name);
  if (node === undefined || node.kind === "directory") {
    const problem = node === undefined ? "is missing" : "is a directory";
    throw new FormatError("bad-value", `hard link target "${fromByteString(target)}" ${problem}`);
  }
  return node;
}

function resolveDirectory(root: DirectoryNode, names: readonly ByteString[]): DirectoryNode {
  let directory = root;
  for (const [depth, name] of names.entries()) {
    const child = directory.entries.get(name);
    if (child?.kind !== "directory") {
      const path = fromByteString(names.slice(0, depth + 1).join("/"));
      const problem = child === undefined ? "does not exist" : `is a ${child.kind}`;
      throw new FormatError("bad-value", `parent directory "/${path}" ${problem}`);
    }
    directory = child;
  }
  return directory;
}

/** Names of a path in a layer, "." and leading "/" dropped; FormatError when it could escape. */
export function splitPath(path: ByteString): ByteString[] {
  const names: ByteString[] = [];
  for (const name of path.split("/")) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      throw new FormatError("bad-value", `path "${fromByteString(path)}" contains ".."`);
    }
    if (name.length > NAME_MAX_BYTES) {
      throw new FormatError("limit", `a file name is longer than ${NAME_MAX_BYTES} bytes`);
    }
    names.push(name);
  }
  return names;
}
