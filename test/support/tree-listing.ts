// File trees as short text, for tests.

import type { DirectoryNode, TreeNode } from "../../shared/format/tree/node.ts";

/** One line per node: "/path kind details", sorted; "=N" marks names of the same leaf. */
export function listTree(root: DirectoryNode): string[] {
  const lines: string[] = [];
  const numbers = new Map<TreeNode, number>();
  const seen = new Set<TreeNode>();
  walk(root, "", (_path, node) => {
    if (seen.has(node) && !numbers.has(node)) numbers.set(node, numbers.size + 1);
    seen.add(node);
  });
  walk(root, "", (path, node) => {
    const link = numbers.get(node);
    lines.push(`${path} ${describe(node)}${link === undefined ? "" : ` =${link}`}`);
  });
  return lines;
}

function walk(
  directory: DirectoryNode,
  path: string,
  visit: (path: string, node: TreeNode) => void,
): void {
  for (const name of [...directory.entries.keys()].sort()) {
    const node = directory.entries.get(name)!;
    visit(`${path}/${name}`, node);
    if (node.kind === "directory") walk(node, `${path}/${name}`, visit);
  }
}

function describe(node: TreeNode): string {
  switch (node.kind) {
    case "directory":
      return "dir";
    case "symlink":
      return `-> ${node.target}`;
    case "special":
      return `${(node.mode & 0o170000).toString(8)} ${node.rdev}`;
    case "file":
      return node.content.kind === "inline"
        ? `"${Buffer.from(node.content.bytes).toString("latin1")}"`
        : `${node.content.sizeBytes} bytes`;
  }
}
