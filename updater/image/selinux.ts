// Labels every file of a tree by the SELinux policy inside it; without a policy labels are removed
// (composefs-rs.md 4.4). Changes the tree in place.
//
// Hard links: the first name in depth-first order decides. A name that wants another label gets its
// own copy of the file, as composefs-rs does; the digest depends on it.

import {
  type ByteString,
  type DirectoryNode,
  type Leaf,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  sortedNames,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import type { FileReader } from "./file-content.ts";
import { type LabelPolicy, type LabelRule, readPolicy } from "./selinux-policy.ts";

const XATTR: ByteString = "security.selinux";

export function relabelTree(root: DirectoryNode, readFile: FileReader): void {
  const policy = readPolicy(root, readFile) ?? { rules: [], aliases: new Map() };
  const walk: Walk = { policy, labelled: new Map(), shared: new Map() };
  setLabel(walk, root, findLabel(policy.rules, "/", "d"));
  labelChildren(walk, root, "", policy.rules);
}

interface Walk {
  readonly policy: LabelPolicy;
  /** Leaves seen under a first name, and the label they got. */
  readonly labelled: Map<Leaf, Uint8Array | null>;
  /** One map for all files that have nothing but this label. */
  readonly shared: Map<Uint8Array, Xattrs>;
}

/** `path` of the directory as the policy names it; `rules` are those that may match below it. */
function labelChildren(
  walk: Walk,
  directory: DirectoryNode,
  path: ByteString,
  rules: readonly LabelRule[],
): void {
  for (const name of sortedNames(directory)) {
    const node = directory.entries.get(name)!;
    const ownPath = `${path}/${name}`;
    const alias = walk.policy.aliases.get(ownPath);
    const childPath = alias ?? ownPath;
    const childRules = alias === undefined ? rules : walk.policy.rules;
    const label = findLabel(childRules, childPath, typeCharacter(node));
    if (node.kind === "directory") {
      setLabel(walk, node, label);
      labelChildren(walk, node, childPath, narrowRules(childRules, `${childPath}/`));
    } else {
      labelLeaf(walk, directory, name, node, label);
    }
  }
}

function labelLeaf(
  walk: Walk,
  directory: DirectoryNode,
  name: ByteString,
  leaf: Leaf,
  label: Uint8Array | null,
): void {
  const first = walk.labelled.get(leaf);
  if (first === undefined) {
    walk.labelled.set(leaf, label);
    setLabel(walk, leaf, label);
  } else if (!isSameLabel(first, label)) {
    const copy = { ...leaf };
    setLabel(walk, copy, label);
    directory.entries.set(name, copy);
  }
}

function narrowRules(rules: readonly LabelRule[], below: ByteString): readonly LabelRule[] {
  return rules.filter(({ prefix }) => prefix.startsWith(below) || below.startsWith(prefix));
}

function findLabel(rules: readonly LabelRule[], path: ByteString, type: string): Uint8Array | null {
  const pathAndType = path + type;
  const rule = rules.find((r) => path.startsWith(r.prefix) && r.matches(pathAndType));
  return rule?.context ?? null;
}

function setLabel(walk: Walk, node: TreeNode, label: Uint8Array | null): void {
  const others = [...node.xattrs].filter(([name]) => name !== XATTR);
  if (label === null) {
    if (others.length !== node.xattrs.size) node.xattrs = new Map(others);
    return;
  }
  if (others.length > 0) {
    node.xattrs = new Map([...others, [XATTR, label]]);
    return;
  }
  let xattrs = walk.shared.get(label);
  if (xattrs === undefined) {
    xattrs = new Map([[XATTR, label]]);
    walk.shared.set(label, xattrs);
  }
  node.xattrs = xattrs;
}

function isSameLabel(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === b || (a !== null && b !== null && Buffer.compare(a, b) === 0);
}

/** As in file_contexts: "-" regular, d, l, b, c, p, s. */
function typeCharacter(node: TreeNode): string {
  switch (node.kind) {
    case "directory":
      return "d";
    case "file":
      return "-";
    case "symlink":
      return "l";
    case "special":
      switch (node.mode & S_IFMT) {
        case S_IFBLK:
          return "b";
        case S_IFCHR:
          return "c";
        case S_IFIFO:
          return "p";
        default:
          return "s";
      }
  }
}
