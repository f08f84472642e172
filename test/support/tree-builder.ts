// File trees for tests, from a table of paths.

import {
  type DirectoryNode,
  type Leaf,
  NO_XATTRS,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";

const METADATA = { uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, xattrs: NO_XATTRS };

export function makeDirectory(fields: Partial<DirectoryNode> = {}): DirectoryNode {
  return { kind: "directory", mode: S_IFDIR | 0o755, ...METADATA, entries: new Map(), ...fields };
}

export function makeFile(text: string, fields: Partial<Leaf> = {}): TreeNode {
  const content = { kind: "inline", bytes: Buffer.from(text) } as const;
  return { mode: S_IFREG | 0o644, nlink: 1, ...METADATA, ...fields, kind: "file", content };
}

function makeSymlink(target: string): TreeNode {
  return { kind: "symlink", mode: S_IFLNK | 0o777, nlink: 1, ...METADATA, target };
}

/** Text is a file, "-> target" a symlink, a node itself; missing parents are made. */
export function makeTree(paths: Readonly<Record<string, string | TreeNode>>): DirectoryNode {
  const root = makeDirectory();
  for (const [path, value] of Object.entries(paths)) {
    const names = path.split("/").map(toByteString);
    const last = names.pop()!;
    let parent = root;
    for (const name of names) {
      let child = parent.entries.get(name);
      if (child?.kind !== "directory") {
        child = makeDirectory();
        parent.entries.set(name, child);
      }
      parent = child;
    }
    const node =
      typeof value !== "string"
        ? value
        : value.startsWith("-> ")
          ? makeSymlink(value.slice(3))
          : makeFile(value);
    parent.entries.set(last, node);
  }
  return root;
}
