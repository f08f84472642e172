// Images whose /etc is an overlay (`[etc] mount = "overlay"` in setup-root-conf.toml; bootc.md 5.2): the
// image's own /etc below, state/deploy/<id>/etc/upper above. There a merge has to leave its result as well,
// as what is different from the image: the files in etc itself are not seen. bootc leaves them only there, so
// local changes are gone after an update.

import { parse } from "@iarna/toml";
import {
  type DirectoryNode,
  type Leaf,
  NO_XATTRS,
  S_IFCHR,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { readFileContent } from "../image/file-content.ts";
import { lookupFile } from "../image/tree-lookup.ts";
import { sameMetadata, sameNode } from "./etc-compare.ts";

/** Below a deployment's `etc`; overlayfs calls it the upper directory. */
export const UPPER = "upper";
/** As dracut copies it into the initramfs. */
const SETTINGS = "usr/lib/composefs/setup-root-conf.toml";
const LIMIT_BYTES = 1 << 20;

/** Whether this image mounts an overlay on /etc, as far as its settings can be read. */
export function hasEtcOverlay(repo: Repository, image: DirectoryNode): boolean {
  const file = lookupFile(image, SETTINGS);
  if (file === null) return false;
  try {
    const text = Buffer.from(readFileContent(repo, file, LIMIT_BYTES)).toString("utf8");
    const { etc } = parse(text);
    return (etc as { mount?: unknown } | undefined)?.mount === "overlay";
  } catch {
    return false; // the initramfs refuses such an image, or has another file
  }
}

export interface UpperTree {
  readonly tree: DirectoryNode;
  /** Each leaf of `tree` that has content, and what it is a copy of. */
  readonly copies: ReadonlyMap<Leaf, Leaf>;
}

/** What makes `merged` of the image's /etc; whiteouts stand for what is gone. */
export function makeUpperTree(image: DirectoryNode, merged: DirectoryNode): UpperTree {
  const originals = new Map<Leaf, Leaf>();
  const tree = { ...merged, entries: diffEntries(image, merged, originals) };
  const copies = new Map([...originals].map(([original, copy]) => [copy, original]));
  return { tree, copies };
}

function diffEntries(
  image: DirectoryNode,
  merged: DirectoryNode,
  copies: Map<Leaf, Leaf>,
): Map<string, TreeNode> {
  const entries = new Map<string, TreeNode>();
  for (const name of [...new Set([...image.entries.keys(), ...merged.entries.keys()])].sort()) {
    const [below, node] = [image.entries.get(name), merged.entries.get(name)];
    const upper = node === undefined ? WHITEOUT : diffNode(below, node, copies);
    if (upper !== null) entries.set(name, upper);
  }
  return entries;
}

/** Null where the image's is right. */
function diffNode(
  below: TreeNode | undefined,
  node: TreeNode,
  copies: Map<Leaf, Leaf>,
): TreeNode | null {
  if (node.kind !== "directory") {
    return below !== undefined && sameNode(below, node) ? null : copyLeaf(node, copies);
  }
  if (below?.kind !== "directory") {
    return { ...node, entries: diffEntries({ ...node, entries: new Map() }, node, copies) };
  }
  const entries = diffEntries(below, node, copies);
  return entries.size === 0 && sameMetadata(below, node) ? null : { ...node, entries };
}

/** Not the leaf itself: the name in `etc` would be a hard link to it. */
function copyLeaf(leaf: Leaf, copies: Map<Leaf, Leaf>): Leaf {
  const copy = copies.get(leaf) ?? { ...leaf };
  copies.set(leaf, copy);
  return copy;
}

/** A character device 0:0 (kernel docs: overlayfs.rst). */
const WHITEOUT: TreeNode = {
  ...{ kind: "special", mode: S_IFCHR, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 },
  ...{ xattrs: NO_XATTRS, nlink: 1, rdev: 0 },
};
