// Finding things in an image's file tree by path, as a process inside it would: symlinks are
// followed and never leave the tree (".." at the root stays there, as the kernel does).

import {
  type DirectoryNode,
  type FileNode,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";

/** The kernel's MAXSYMLINKS. */
const MAX_SYMLINKS = 40;

/** The node at a text path, null when missing; symlinks are followed, also the last. */
export function lookup(root: DirectoryNode, path: string): TreeNode | null {
  const pending = toByteString(path).split("/").reverse();
  const trail: DirectoryNode[] = [];
  let node: TreeNode = root;
  let symlinks = 0;
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    if (node.kind !== "directory") return null;
    if (name === "..") {
      node = trail.pop() ?? root;
      continue;
    }
    const child = node.entries.get(name);
    if (child === undefined) return null;
    if (child.kind !== "symlink") {
      trail.push(node);
      node = child;
      continue;
    }
    if (++symlinks > MAX_SYMLINKS) return null;
    if (child.target.startsWith("/")) {
      trail.length = 0;
      node = root;
    }
    pending.push(...child.target.split("/").reverse());
  }
  return node;
}

export function lookupDirectory(root: DirectoryNode, path: string): DirectoryNode | null {
  const node = lookup(root, path);
  return node?.kind === "directory" ? node : null;
}

export function lookupFile(root: DirectoryNode, path: string): FileNode | null {
  const node = lookup(root, path);
  return node?.kind === "file" ? node : null;
}
