// What composefs-info prints about the tree of an image. All text is byte strings.
//
// A file with several names is shown in full under the first one, depth-first; C's tool knows the others
// as links only, so `ls` gives just their names.

import { formatDump } from "../../shared/format/tree/dump-format.ts";
import {
  type ByteString,
  type DirectoryNode,
  type Leaf,
  sortedNames,
  type TreeNode,
} from "../../shared/format/tree/node.ts";

/** The tree without the root's entries that `names` leaves out; an empty list leaves out none. */
export function filterTree(root: DirectoryNode, names: readonly ByteString[]): DirectoryNode {
  if (names.length === 0) return root;
  const entries = new Map([...root.entries].filter(([name]) => names.includes(name)));
  return { ...root, entries };
}

/** Dump lines of the filtered tree; the root's own line is that of the whole. */
export function* formatFilteredDump(
  root: DirectoryNode,
  names: readonly ByteString[],
): Generator<ByteString> {
  const lines = formatDump(filterTree(root, names));
  if (names.length > 0) {
    lines.next();
    yield formatDump({ ...root, kind: "directory" }).next().value!;
  }
  yield* lines;
}

/** One line for each name but the root, with the link's target or the object's path. */
export function* formatListing(root: DirectoryNode): Generator<ByteString> {
  const seen = new Set<Leaf>();
  for (const [path, node] of walkTree(root)) {
    if (node.kind === "directory") yield `${path}/\t\n`;
    else if (seen.has(node)) yield `${path}\n`;
    else {
      seen.add(node);
      yield `${path}${describeLeaf(node)}\n`;
    }
  }
}

function describeLeaf(leaf: Leaf): ByteString {
  if (leaf.kind === "symlink") return `\t-> ${escapeListed(leaf.target, "")}`;
  const payload = payloadOf(leaf);
  return payload === null ? "" : `\t@ ${escapeListed(payload, "")}`;
}

function payloadOf(node: TreeNode): ByteString | null {
  if (node.kind !== "file" || node.content.kind !== "external") return null;
  return node.content.payload ?? null;
}

/** Adds the paths of the objects that the tree's files need. */
export function collectPayloads(root: DirectoryNode, found: Set<ByteString>): void {
  const directories = [root];
  for (let directory = directories.pop(); directory !== undefined; directory = directories.pop()) {
    for (const node of directory.entries.values()) {
      if (node.kind === "directory") directories.push(node);
      const payload = payloadOf(node);
      if (payload !== null) found.add(payload);
    }
  }
}

/** Escaped paths, depth-first, names in byte order, a directory before its content. */
function* walkTree(root: DirectoryNode): Generator<readonly [string, TreeNode]> {
  const stack = [{ path: "", node: root, names: sortedNames(root), next: 0 }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const name = top.names[top.next++];
    if (name === undefined) {
      stack.pop();
      continue;
    }
    const path = `${top.path}/${escapeListed(name, " ")}`;
    const node = top.node.entries.get(name)!;
    yield [path, node];
    if (node.kind === "directory") stack.push({ path, node, names: sortedNames(node), next: 0 });
  }
}

const SHORT: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

/** As in dumps, except for bytes that `plain` names and a lone "-". */
function escapeListed(text: ByteString, plain: string): ByteString {
  return text.replace(/[^\x21-\x5b\x5d-\x7e]/g, (char) =>
    plain.includes(char)
      ? char
      : (SHORT[char] ?? `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`),
  );
}
