// Small /etc trees written as flat records, for the tests of the merge.
//
// "a.conf": "text" is a file, "d/": "" a directory, "l": "-> target" a symlink, "p": "|" a FIFO.
// A trailing " @600:5:6" gives mode, uid and gid. Missing parents are made. Names are byte strings.

import type { DirectoryNode, Leaf, TreeNode } from "../../shared/format/tree/node.ts";
import { NO_XATTRS, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from "../../shared/format/tree/node.ts";

export type FlatTree = Readonly<Record<string, string>>;

export function buildTree(flat: FlatTree): DirectoryNode {
  const root = makeDirectory("");
  for (const key of Object.keys(flat).sort()) {
    const parts = key.replace(/\/$/, "").split("/");
    let directory = root;
    for (const name of parts.slice(0, -1)) {
      const child = directory.entries.get(name) ?? makeDirectory("");
      directory.entries.set(name, child);
      directory = child as DirectoryNode;
    }
    const text = flat[key]!;
    directory.entries.set(parts.at(-1)!, key.endsWith("/") ? makeDirectory(text) : makeLeaf(text));
  }
  return root;
}

function attributes(text: string, type: number, defaultMode: number) {
  const [, body = "", mode, uid = "0", gid = "0"] =
    /^(.*?)(?: ?@(\d+)(?::(\d+):(\d+))?)?$/s.exec(text) ?? [];
  const permissions = mode === undefined ? defaultMode : Number.parseInt(mode, 8);
  const metadata = { uid: Number(uid), gid: Number(gid), mtimeSec: 0, mtimeNsec: 0 };
  return { body, metadata: { ...metadata, mode: type | permissions, xattrs: NO_XATTRS } };
}

function makeDirectory(text: string): DirectoryNode {
  const { metadata } = attributes(text, S_IFDIR, 0o755);
  return { kind: "directory", ...metadata, entries: new Map() };
}

function makeLeaf(text: string): Leaf {
  if (text.startsWith("->")) {
    const { body, metadata } = attributes(text, S_IFLNK, 0o777);
    return { kind: "symlink", ...metadata, nlink: 1, target: body.slice(3) };
  }
  if (text.startsWith("|")) {
    const { metadata } = attributes(text, S_IFIFO, 0o644);
    return { kind: "special", ...metadata, nlink: 1, rdev: 0 };
  }
  const { body, metadata } = attributes(text, S_IFREG, 0o644);
  const content = { kind: "inline" as const, bytes: Buffer.from(body, "latin1") };
  return { kind: "file", ...metadata, nlink: 1, content };
}

/** One node in the notation above; default attributes are left out. */
function describeNode(node: TreeNode): string {
  const mode = node.mode & 0o7777;
  const owner = node.uid === 0 && node.gid === 0 ? "" : `:${node.uid}:${node.gid}`;
  const usual = { directory: 0o755, file: 0o644, symlink: 0o777, special: 0o644 }[node.kind];
  const suffix = mode === usual && owner === "" ? "" : ` @${mode.toString(8)}${owner}`;
  switch (node.kind) {
    case "directory":
      return suffix.trim();
    case "symlink":
      return `-> ${node.target}${suffix}`;
    case "special":
      return `|${suffix}`;
    case "file":
      return `${contentText(node)}${suffix}`;
  }
}

function contentText(node: Extract<Leaf, { kind: "file" }>): string {
  return node.content.kind === "inline"
    ? Buffer.from(node.content.bytes).toString("latin1")
    : `<${node.content.digest?.slice(0, 8)}>`;
}

/** Back to the flat form, every directory spelled out. */
export function flatten(root: DirectoryNode, prefix = ""): Record<string, string> {
  const flat: Record<string, string> = {};
  for (const [name, node] of root.entries) {
    const path = `${prefix}${name}`;
    flat[node.kind === "directory" ? `${path}/` : path] = describeNode(node);
    if (node.kind === "directory") Object.assign(flat, flatten(node, `${path}/`));
  }
  return flat;
}
