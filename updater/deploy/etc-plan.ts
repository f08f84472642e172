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
  fromByteString,
  type Leaf,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import { sameItself, sameMetadata, sameNode, sameTree } from "./etc-compare.ts";
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
  /** What was not changed here, but by the image, and stays because a rule says so. */
  readonly held: readonly ByteString[];
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
  readonly held: ByteString[];
  readonly conflicts: EtcConflict[];
  readonly local: Set<Leaf>;
  /** Entries that stay as they are here. */
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
    held: [],
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
  const { added, modified, removed, dropped, held, conflicts, local } = walk;
  const metadata = sameMetadata(pristine, current) ? next : current;
  const diff = { added, modified, removed, dropped, held, conflicts };
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
  if (touched) (pristine === undefined ? walk.added : walk.modified).push(path);
  const isOwn = touched
    ? staysLocal(walk, path, { pristine, current, next })
    : isHeld(walk, path, current, next);
  if (isOwn) walk.kept += 1;
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
  const touched = pristine === undefined || !sameNode(pristine, current);
  if (touched) (pristine === undefined ? walk.added : walk.modified).push(path);
  const isOwn = touched
    ? staysLocal(walk, path, { pristine, current, next })
    : isHeld(walk, path, current, next);
  if (!isOwn) return next;
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
  // In the place of a directory it hides all that the image changed in there.
  const same = current.kind === "directory" ? sameItself : sameTree;
  if (rule?.action === "fail" && !same(pristine, next) && !sameItself(current, next)) {
    refuseByRule(walk, path, rule, "was changed here, and the image changed it as well");
  }
  return true;
}

/** Whether a rule `keep` holds an unchanged entry that the image changed. */
function isHeld(
  walk: Walk,
  path: ByteString,
  current: TreeNode,
  next: TreeNode | undefined,
): boolean {
  if (sameItself(current, next) || walk.findRule(path)?.action !== "keep") return false;
  walk.held.push(path);
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
