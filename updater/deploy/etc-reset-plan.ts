// Taking the image's default back for paths of /etc, the thinking part. Pure.
//
// Like `git checkout`: what the image has at a path and below it comes back, what was added stays unless
// that is asked for. Every step makes one entry the image's, or removes one, by itself.

import { StateError, UsageError } from "../../shared/error.ts";
import {
  type ByteString,
  type DirectoryNode,
  fromByteString,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { sameMetadata, sameNode } from "./etc-compare.ts";

export type ResetStep =
  /** The image's entry, with everything below it, takes the place of what is there. */
  | {
      readonly kind: "write";
      readonly path: ByteString;
      readonly node: TreeNode;
      /** "other": a directory gives way to something else or the other way round. */
      readonly replaces: "nothing" | "same" | "other";
    }
  /** Owner, mode and extended attributes of a directory. */
  | { readonly kind: "attributes"; readonly path: ByteString; readonly node: DirectoryNode }
  | { readonly kind: "remove"; readonly path: ByteString };

export interface ResetOptions {
  /** Also remove what the image does not have. */
  readonly removeAdded: boolean;
}

/** "/etc/a/b/../c" -> "a/c". UsageError for whatever is not below /etc, and for /etc itself. */
export function parseEtcPath(path: string): ByteString {
  if (!path.startsWith("/")) {
    throw new UsageError("bad-value", `"${path}" is no absolute path; write it as "/etc/…"`);
  }
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  const [top, ...rest] = parts;
  if (top !== "etc") throw new UsageError("bad-value", `"${path}" is not below "/etc"`);
  return toByteString(rest.join("/"));
}

/** Steps in their order; none where all is as in the image. StateError for a path that cannot be reset. */
export function planEtcReset(
  image: DirectoryNode,
  local: DirectoryNode,
  paths: readonly ByteString[],
  options: ResetOptions,
): readonly ResetStep[] {
  if (paths.includes("")) {
    throw new UsageError(
      "bad-value",
      'All of "/etc" is not reset at once: accounts and the machine\'s identity are in it; name the paths',
    );
  }
  const isBelow = (path: ByteString, other: ByteString) => path.startsWith(`${other}/`);
  const outermost = [...new Set(paths)]
    .filter((path) => !paths.some((other) => isBelow(path, other)))
    .sort();
  const steps: ResetStep[] = [];
  for (const path of outermost) planPath(steps, image, local, path, options);
  return mergeWrites(steps);
}

function planPath(
  steps: ResetStep[],
  image: DirectoryNode,
  local: DirectoryNode,
  path: ByteString,
  options: ResetOptions,
): void {
  const names = path.split("/");
  let [ours, theirs]: [TreeNode | undefined, TreeNode | undefined] = [image, local];
  for (const [depth, name] of names.entries()) {
    ours = ours?.kind === "directory" ? ours.entries.get(name) : undefined;
    theirs = theirs?.kind === "directory" ? theirs.entries.get(name) : undefined;
    const here = names.slice(0, depth + 1).join("/");
    if (depth === names.length - 1 || ours?.kind !== "directory") break;
    if (theirs === undefined) {
      requireInImage(ours, names.slice(depth + 1), path);
      const node = prune(ours, names.slice(depth + 1));
      steps.push({ kind: "write", path: here, node, replaces: "nothing" });
      return;
    }
    if (theirs.kind !== "directory") {
      const what = `"/etc/${fromByteString(here)}" is no directory here, but one in the image`;
      throw refuse(path, `${what}; reset that first`);
    }
  }
  // The loop ends early where the image has no directory.
  ours = findBelow(image, names);
  theirs = findBelow(local, names);
  if (ours === undefined) planAdded(steps, path, theirs, options);
  else planEntry(steps, path, ours, theirs, options);
}

function planAdded(
  steps: ResetStep[],
  path: ByteString,
  local: TreeNode | undefined,
  options: ResetOptions,
): void {
  if (local === undefined) throw refuse(path, "it is neither in the image nor on this machine");
  if (!options.removeAdded) {
    throw refuse(path, 'the image does not have it; "--remove-added" removes what was added here');
  }
  steps.push({ kind: "remove", path });
}

function planEntry(
  steps: ResetStep[],
  path: ByteString,
  image: TreeNode,
  local: TreeNode | undefined,
  options: ResetOptions,
): void {
  if (local === undefined) {
    steps.push({ kind: "write", path, node: image, replaces: "nothing" });
  } else if (image.kind === "directory" && local.kind === "directory") {
    if (!sameMetadata(image, local)) steps.push({ kind: "attributes", path, node: image });
    const names = new Set([...image.entries.keys(), ...local.entries.keys()]);
    for (const name of [...names].sort()) {
      const [ours, theirs] = [image.entries.get(name), local.entries.get(name)];
      const child = `${path}/${name}`;
      if (ours !== undefined) planEntry(steps, child, ours, theirs, options);
      else if (options.removeAdded) steps.push({ kind: "remove", path: child });
    }
  } else if (image.kind === "directory" || local.kind === "directory") {
    steps.push({ kind: "write", path, node: image, replaces: "other" });
  } else if (!sameNode(image, local)) {
    steps.push({ kind: "write", path, node: image, replaces: "same" });
  }
}

function requireInImage(
  directory: DirectoryNode,
  names: readonly ByteString[],
  path: ByteString,
): void {
  if (findBelow(directory, names) !== undefined) return;
  throw refuse(path, "it is neither in the image nor on this machine");
}

function findBelow(root: DirectoryNode, names: readonly ByteString[]): TreeNode | undefined {
  let node: TreeNode | undefined = root;
  for (const name of names) {
    node = node?.kind === "directory" ? node.entries.get(name) : undefined;
  }
  return node;
}

/** Of a directory only the way to one entry. */
function prune(directory: DirectoryNode, names: readonly ByteString[]): DirectoryNode {
  const [name, ...rest] = names as [ByteString, ...ByteString[]];
  const child = directory.entries.get(name)!;
  const kept = rest.length > 0 && child.kind === "directory" ? prune(child, rest) : child;
  return { ...directory, entries: new Map([[name, kept]]) };
}

/** Two paths in one missing directory make one directory. */
function mergeWrites(steps: readonly ResetStep[]): readonly ResetStep[] {
  const merged = new Map<string, ResetStep>();
  for (const step of steps) {
    const key = `${step.kind} ${step.path}`;
    const earlier = merged.get(key);
    if (earlier?.kind === "write" && step.kind === "write") {
      merged.set(key, { ...earlier, node: unite(earlier.node, step.node) });
    } else {
      merged.set(key, step);
    }
  }
  return [...merged.values()];
}

function unite(a: TreeNode, b: TreeNode): TreeNode {
  if (a.kind !== "directory" || b.kind !== "directory") return b;
  const entries = new Map(a.entries);
  for (const [name, node] of b.entries) {
    const other = entries.get(name);
    entries.set(name, other === undefined ? node : unite(other, node));
  }
  return { ...a, entries };
}

function refuse(path: ByteString, reason: string): StateError {
  const name = fromByteString(path);
  return new StateError("missing", `Cannot reset "/etc/${name}": ${reason}`, {
    path: `/etc/${name}`,
  });
}
