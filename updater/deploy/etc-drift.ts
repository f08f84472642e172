// What is different in /etc, seen from three sides: the image that runs, the machine, and the image that is
// staged (docs/etc.md). Pure; for `bootc etc status`.

import {
  type ByteString,
  type DirectoryNode,
  fromByteString,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
  S_IFMT,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest, type VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import { sameContent, sameItself, sameXattrs } from "./etc-compare.ts";
import { planEtcMerge } from "./etc-plan.ts";
import { type EtcRule, makeRuleFinder } from "./etc-policy.ts";

/** One side of an entry. */
export interface EtcEntry {
  readonly type: "file" | "directory" | "symlink" | "fifo" | "char" | "block";
  /** Four octal digits. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly size?: number;
  /** fs-verity digest of a file's content, hex. */
  readonly verity?: string;
  readonly target?: string;
  /** "major:minor" */
  readonly device?: string;
  /** Name -> value, base64. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

export interface EtcDrift {
  /** Absolute. */
  readonly path: string;
  /** "kept": not changed here, but by the staged image, and a rule keeps it. */
  readonly change: "added" | "modified" | "removed" | "kept";
  /** In what a modified entry differs from the image's. */
  readonly differs: readonly EtcDifference[];
  readonly image: EtcEntry | null;
  readonly local: EtcEntry | null;
  /** Absent when nothing is staged. */
  readonly staged?: EtcEntry | null;
  /** Whether the staged image has something else there than the running one. */
  readonly imageChanged: boolean;
  /** Which side the next deployment gets. */
  readonly outcome: "local" | "image" | "conflict";
  /** Why a conflict is one. */
  readonly reason: string | null;
  readonly rule: { readonly action: EtcRule["action"]; readonly source: string } | null;
}
type EtcDifference = "type" | "content" | "target" | "device" | "mode" | "owner" | "xattrs";

export interface EtcSides {
  readonly pristine: DirectoryNode;
  readonly current: DirectoryNode;
  /** Null when nothing is staged. */
  readonly next: DirectoryNode | null;
}

/** Local changes in the order of their paths; a removed directory stands for all that was in it. */
export function computeDrift(
  { pristine, current, next }: EtcSides,
  rules: readonly EtcRule[],
  algorithm: VerityAlgorithm,
): readonly EtcDrift[] {
  const { diff } = planEtcMerge(pristine, current, next ?? pristine, rules);
  const findRule = makeRuleFinder(rules);
  const dropped = new Set(diff.dropped);
  const conflicts = new Map(diff.conflicts.map(({ path, reason }) => [path, reason]));
  const describe = (path: ByteString, change: EtcDrift["change"]): EtcDrift => {
    const [image, local] = [findNode(pristine, path), findNode(current, path)];
    const staged = next === null ? image : findNode(next, path);
    const rule = findRule(path);
    const reason = conflicts.get(path) ?? null;
    return {
      path: `/etc/${fromByteString(path)}`,
      change,
      differs: change === "modified" ? listDifferences(image!, local!) : [],
      image: describeNode(image, algorithm),
      local: describeNode(local, algorithm),
      ...(next === null ? {} : { staged: describeNode(staged, algorithm) }),
      imageChanged: !sameItself(image, staged),
      outcome: reason === null ? (dropped.has(path) ? "image" : "local") : "conflict",
      reason,
      rule: rule && { action: rule.action, source: rule.source },
    };
  };
  const paths = [
    ...diff.added.map((path) => [path, "added"] as const),
    ...diff.modified.map((path) => [path, "modified"] as const),
    ...diff.removed.map((path) => [path, "removed"] as const),
    ...diff.held.map((path) => [path, "kept"] as const),
  ];
  // A directory may be refused for what was changed in it.
  const named = new Set(paths.map(([path]) => path));
  const others = diff.conflicts.filter(({ path }) => !named.has(path));
  return [...paths, ...others.map(({ path }) => [path, "modified"] as const)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, change]) => describe(path, change));
}

/** The entry at a relative path, symlinks not followed. */
export function findNode(root: DirectoryNode, path: ByteString): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const name of path === "" ? [] : path.split("/")) {
    node = node?.kind === "directory" ? node.entries.get(name) : undefined;
  }
  return node;
}

function listDifferences(image: TreeNode, local: TreeNode): readonly EtcDifference[] {
  const found: EtcDifference[] = [];
  if (typeOf(image) !== typeOf(local)) found.push("type");
  else if (image.kind === "file" && local.kind === "file") {
    if (!sameContent(image.content, local.content)) found.push("content");
  } else if (image.kind === "symlink" && local.kind === "symlink") {
    if (image.target !== local.target) found.push("target");
  } else if (image.kind === "special" && local.kind === "special" && image.rdev !== local.rdev) {
    found.push("device");
  }
  const isLink = [image, local].some(({ kind }) => kind === "symlink"); // which has no permissions
  if (!isLink && (image.mode & 0o7777) !== (local.mode & 0o7777)) found.push("mode");
  if (image.uid !== local.uid || image.gid !== local.gid) found.push("owner");
  if (!sameXattrs(image.xattrs, local.xattrs)) found.push("xattrs");
  return found;
}

function describeNode(node: TreeNode | undefined, algorithm: VerityAlgorithm): EtcEntry | null {
  if (node === undefined) return null;
  const { uid, gid, xattrs } = node;
  return {
    type: typeOf(node),
    mode: (node.mode & 0o7777).toString(8).padStart(4, "0"),
    uid,
    gid,
    ...describeContent(node, algorithm),
    ...(xattrs.size === 0 ? {} : { xattrs: describeXattrs(xattrs) }),
  };
}

function describeContent(node: TreeNode, algorithm: VerityAlgorithm): Partial<EtcEntry> {
  switch (node.kind) {
    case "directory":
      return {};
    case "symlink":
      return { target: fromByteString(node.target) };
    case "special":
      return node.rdev === 0 ? {} : { device: formatDevice(node.rdev) };
    case "file": {
      const { content } = node;
      if (content.kind === "inline") {
        const verity = computeVerityDigest(content.bytes, algorithm);
        return { size: content.bytes.length, verity };
      }
      const { digest, sizeBytes } = content;
      return { size: sizeBytes, ...(digest === undefined ? {} : { verity: digest }) };
    }
  }
}

function describeXattrs(xattrs: TreeNode["xattrs"]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    [...xattrs].map(([name, value]) => [
      fromByteString(name),
      Buffer.from(value).toString("base64"),
    ]),
  );
}

/** The kernel's new encoding of dev_t. */
function formatDevice(rdev: number): string {
  return `${(rdev >>> 8) & 0xfff}:${(rdev & 0xff) | ((rdev >>> 12) & 0xfff00)}`;
}

function typeOf(node: TreeNode): EtcEntry["type"] {
  if (node.kind !== "special") return node.kind;
  switch (node.mode & S_IFMT) {
    case S_IFCHR:
      return "char";
    case S_IFBLK:
      return "block";
    case S_IFIFO:
      return "fifo";
    default:
      return "file"; // an image's socket, which no file system of a machine has
  }
}
