// The /etc three-way merge as a pure function over trees (bootc.md section 6; docs/decisions/0003).
//
// Inputs: what the running image shipped (pristine), what the machine has now (current), what the
// new image ships (next). A local change wins, an unchanged entry follows the image, a local deletion
// stays deleted. Only one thing is refused: a changed entry that the *image* turned from file to
// directory or back. Rules (etc-policy.ts) decide otherwise for single paths. Nothing here reads or
// writes files or changes its inputs.

import {
  type ByteString,
  type DirectoryNode,
  type FileContent,
  fromByteString,
  type Leaf,
  S_IFLNK,
  type TreeNode,
  type Xattrs,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { type EtcRule, makeRuleFinder, type RuleFinder } from "./etc-policy.ts";

/**
 * One /etc. Files are `external` with their fs-verity digest, or `inline` (small files of an EROFS
 * image); the digests of all three trees must be of one algorithm. Hard links are one shared Leaf.
 */
export type EtcTree = DirectoryNode;

/** A path that cannot be merged; `reason` is one sentence for a person. */
interface EtcConflict {
  readonly path: ByteString;
  readonly reason: string;
}

/**
 * What was changed locally since the pristine /etc; paths relative to it, parents first. A removed
 * directory is listed without its content, an added one with it; a type change is a modification.
 */
export interface EtcDiff {
  readonly added: readonly ByteString[];
  readonly modified: readonly ByteString[];
  readonly removed: readonly ByteString[];
  /** Those of the above that a rule gives up for what the image has. */
  readonly dropped: readonly ByteString[];
  readonly conflicts: readonly EtcConflict[];
}

export interface EtcMerge {
  readonly diff: EtcDiff;
  /** The merged /etc, made of nodes of `current` and `next`; of no use while there are conflicts. */
  readonly root: EtcTree;
  /** Those leaves of `root` that come from `current`, each at the path that it has there. */
  readonly local: ReadonlySet<Leaf>;
}

/** systemd's time stamp: its absence makes ConditionNeedsUpdate=/etc fire at the next boot. */
const UPDATE_STAMP = ".updated";

interface Walk {
  readonly findRule: RuleFinder;
  readonly added: ByteString[];
  readonly modified: ByteString[];
  readonly removed: ByteString[];
  readonly dropped: ByteString[];
  readonly conflicts: EtcConflict[];
  readonly local: Set<Leaf>;
  /** Local additions and modifications that stay. */
  kept: number;
  /** Unchanged names of hard-linked local files whose image version is equal. */
  readonly equal: { leaf: Leaf; entries: Map<ByteString, TreeNode>; name: ByteString }[];
}

/** What the three sides have at one path. */
interface Sides<Current extends TreeNode = TreeNode> {
  readonly pristine: TreeNode | undefined;
  readonly current: Current;
  readonly next: TreeNode | undefined;
}

/** Merges `current`'s changes relative to `pristine` into `next`; the last rule for a path counts. */
export function planEtcMerge(
  pristine: EtcTree,
  current: EtcTree,
  next: EtcTree,
  rules: readonly EtcRule[] = [],
): EtcMerge {
  const walk: Walk = {
    findRule: makeRuleFinder(rules),
    added: [],
    modified: [],
    removed: [],
    dropped: [],
    conflicts: [],
    local: new Set(),
    kept: 0,
    equal: [],
  };
  const entries = mergeEntries(walk, "", pristine, current, next);
  // A name added locally as a hard link to a shipped file stays one while that file is unchanged.
  for (const { leaf, entries, name } of walk.equal) {
    if (walk.local.has(leaf)) entries.set(name, leaf);
  }
  const { added, modified, removed, dropped, conflicts, local } = walk;
  const metadata = sameMetadata(pristine, current) ? next : current;
  const diff = { added, modified, removed, dropped, conflicts };
  return { diff, root: { ...metadata, entries }, local };
}

/** The local changes, and which of them cannot be merged into `next`. */
export function computeEtcDiff(
  pristine: EtcTree,
  current: EtcTree,
  next: EtcTree,
  rules: readonly EtcRule[] = [],
): EtcDiff {
  return planEtcMerge(pristine, current, next, rules).diff;
}

function mergeEntries(
  walk: Walk,
  path: ByteString,
  pristine: TreeNode | undefined,
  current: DirectoryNode,
  next: TreeNode | undefined,
): Map<ByteString, TreeNode> {
  const [before, after] = [entriesOf(pristine), entriesOf(next)];
  const names = new Set([...before.keys(), ...current.entries.keys(), ...after.keys()]);
  if (path === "") names.delete(UPDATE_STAMP);
  const entries = new Map<ByteString, TreeNode>();
  for (const name of [...names].sort()) {
    const [local, image] = [current.entries.get(name), after.get(name)];
    const child = path === "" ? name : `${path}/${name}`;
    const merged = mergeEntry(walk, child, before.get(name), local, image);
    if (merged === undefined) continue;
    entries.set(name, merged);
    if (merged === image && isLinked(local) && sameNode(image, local)) {
      walk.equal.push({ leaf: local, entries, name });
    }
  }
  return entries;
}

function mergeEntry(
  walk: Walk,
  path: ByteString,
  pristine: TreeNode | undefined,
  current: TreeNode | undefined,
  next: TreeNode | undefined,
): TreeNode | undefined {
  if (current === undefined) {
    if (pristine === undefined) return next;
    walk.removed.push(path);
    return mergeRemoved(walk, path, pristine, next);
  }
  return current.kind === "directory"
    ? mergeDirectory(walk, path, { pristine, current, next })
    : mergeLeaf(walk, path, { pristine, current, next });
}

function mergeDirectory(
  walk: Walk,
  path: ByteString,
  { pristine, current, next }: Sides<DirectoryNode>,
): TreeNode | undefined {
  const keptBefore = walk.kept;
  const touched = pristine?.kind !== "directory" || !sameMetadata(pristine, current);
  let isOwn = touched;
  if (touched) {
    (pristine === undefined ? walk.added : walk.modified).push(path);
    isOwn = staysLocal(walk, path, { pristine, current, next });
    if (isOwn) walk.kept += 1;
  }
  // A directory in the place of the image's file goes as a whole.
  if (touched && !isOwn && next !== undefined && next.kind !== "directory") return next;
  const entries = mergeEntries(walk, path, pristine, current, next);
  const changed = walk.kept > keptBefore;

  if (next?.kind === "directory") return { ...(isOwn ? current : next), entries };
  if (!changed) return next;
  const isImagesTurn =
    next !== undefined && (pristine === undefined || pristine.kind === "directory");
  if (isImagesTurn && refuseTurn(walk, path, "directory", "file") === "image") return next;
  return { ...current, entries };
}

function mergeLeaf(
  walk: Walk,
  path: ByteString,
  { pristine, current, next }: Sides<Leaf>,
): TreeNode | undefined {
  if (pristine !== undefined && sameNode(pristine, current)) return next;
  (pristine === undefined ? walk.added : walk.modified).push(path);
  if (!staysLocal(walk, path, { pristine, current, next })) return next;
  walk.kept += 1;
  if (next?.kind === "directory" && pristine?.kind !== "directory") {
    refuseTurn(walk, path, "file", "directory");
  }
  walk.local.add(current);
  return current;
}

/**
 * Whether a changed entry stays as it is. A rule `image` gives it up where the image ever had a say,
 * `fail` refuses when both sides changed it and not to the same.
 */
function staysLocal(walk: Walk, path: ByteString, { pristine, current, next }: Sides): boolean {
  const rule = walk.findRule(path);
  if (rule?.action === "image" && (pristine !== undefined || next !== undefined)) {
    walk.dropped.push(path);
    return false;
  }
  if (rule?.action === "fail" && !sameItself(pristine, next) && !sameItself(current, next)) {
    refuseByRule(walk, path, rule, "was changed here, and the image changed it as well");
  }
  return true;
}

/** The image turned a locally changed entry from file to directory or back. */
function refuseTurn(
  walk: Walk,
  path: ByteString,
  was: string,
  becomes: string,
): EtcRule["action"] | null {
  const action = walk.findRule(path)?.action ?? null;
  const isRefused = walk.conflicts.some((conflict) => conflict.path === path);
  if (action === "image") walk.dropped.push(path);
  else if (action !== "keep" && !isRefused) {
    const reason = `Modified ${was} "${fromByteString(path)}" newly defaults to ${becomes}`;
    walk.conflicts.push({ path, reason });
  }
  return action;
}

function refuseByRule(walk: Walk, path: ByteString, rule: EtcRule, what: string): void {
  walk.conflicts.push({ path, reason: `"${fromByteString(path)}" ${what} (rule ${rule.source})` });
}

/**
 * Of a locally removed entry only what the image has newly added below it comes back, and what rules
 * want from the image.
 */
function mergeRemoved(
  walk: Walk,
  path: ByteString,
  pristine: TreeNode,
  next: TreeNode | undefined,
): TreeNode | undefined {
  const rule = walk.findRule(path);
  if (rule?.action === "image" && next !== undefined && next.kind !== "directory") {
    walk.dropped.push(path);
    return next;
  }
  if (rule?.action === "fail" && next !== undefined && !sameItself(pristine, next)) {
    refuseByRule(walk, path, rule, "was removed here, and the image changed it");
  }
  if (next?.kind !== "directory") return undefined;
  const before = entriesOf(pristine);
  const entries = new Map<ByteString, TreeNode>();
  for (const [name, child] of next.entries) {
    const known = before.get(name);
    const node = known === undefined ? child : mergeRemoved(walk, `${path}/${name}`, known, child);
    if (node !== undefined) entries.set(name, node);
  }
  const isImages = rule?.action === "image";
  if (isImages) walk.dropped.push(path);
  return entries.size === 0 && !isImages ? undefined : { ...next, entries };
}

function entriesOf(node: TreeNode | undefined): ReadonlyMap<ByteString, TreeNode> {
  return node?.kind === "directory" ? node.entries : NO_ENTRIES;
}
const NO_ENTRIES: ReadonlyMap<ByteString, TreeNode> = new Map();

function isLinked(node: TreeNode | undefined): node is Leaf {
  return node !== undefined && node.kind !== "directory" && node.nlink > 1;
}

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
  if (a.size !== b.size) return false;
  for (const [name, value] of a) {
    const other = b.get(name);
    if (other === undefined || Buffer.compare(value, other) !== 0) return false;
  }
  return true;
}

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
