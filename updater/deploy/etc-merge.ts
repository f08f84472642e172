// The /etc merge on real files: read three /etc, plan, write the result into a fresh directory.
//
// Invariants: the inputs are never written to; the output is built from nothing and complete and on
// the disk when this returns, so the caller can swap it in with one rename. Interrupted anywhere, it
// leaves a directory that the next run replaces. An /etc comes either from a directory or straight
// from an image's tree and the object store, so that a merge at shutdown needs no mount.

import { IntegrityError, isErrno, StateError } from "../../shared/error.ts";
import {
  type DirectoryNode,
  type FileNode,
  fromByteString,
} from "../../shared/format/tree/node.ts";
import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import { openObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { copyFileContents } from "../../shared/sys/copy.ts";
import { openDirectory, removeTree } from "../../shared/sys/directory.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { ftruncate, syncfs, writeAll } from "../../shared/sys/file.ts";
import { explainNoSpace } from "../../shared/txn/no-space.ts";
import { makeUpperTree, UPPER } from "./etc-overlay.ts";
import { computeEtcDiff, type EtcDiff, planEtcMerge } from "./etc-plan.ts";
import type { EtcRule } from "./etc-policy.ts";
import { copySteadily, openBeneath, openEtc, readEtcTree } from "./etc-read.ts";
import { type ContentWriter, writeTree } from "./etc-write.ts";

/** Where an /etc is: a directory's path, or the /etc node of an image in a repository. */
export type EtcSource = string | { readonly repo: Repository; readonly etc: DirectoryNode };

interface OpenEtc extends Disposable {
  readonly tree: DirectoryNode;
  readonly writeContent: ContentWriter;
}

/** How often a merge is begun again because /etc changed under it. */
const ATTEMPTS = 5;

/** Local changes and conflicts; reads everything, writes nothing. */
export function diffEtc(
  pristine: EtcSource,
  current: EtcSource,
  next: EtcSource,
  rules: readonly EtcRule[] = [],
): EtcDiff {
  return withEtcTrees([pristine, current, next], (p, c, n) => computeEtcDiff(p, c, n, rules));
}

/** What `work` makes of the three trees, which are read again when /etc changes meanwhile. */
export function withEtcTrees<T>(
  sources: Sources,
  work: (pristine: DirectoryNode, current: DirectoryNode, next: DirectoryNode) => T,
): T {
  return withSources(sources, (p, c, n) => work(p.tree, c.tree, n.tree));
}

/** StateError("conflict") that names every path that cannot be merged, and why. */
export function requireMergeable(diff: EtcDiff): void {
  if (diff.conflicts.length === 0) return;
  const reasons = diff.conflicts.map((each) => each.reason).join("; ");
  throw new StateError(
    "conflict",
    `Merge conflicts found in etc (${reasons}); take the image's version with "bootc etc reset", move them away, or decide in /etc/bootc/etc-merge.toml`,
    { path: diff.conflicts.map((each) => fromByteString(each.path)).join(" ") },
  );
}

export interface MergeOptions {
  readonly rules?: readonly EtcRule[];
  /** Also make the directory `upper` in it, for an image whose /etc is an overlay. */
  readonly forOverlay?: boolean;
}

/**
 * Makes `outputDir` (replaced when it exists, removed on failure; its parent must exist) the /etc
 * of the next deployment: `next` with all changes of `current` relative to `pristine`. `next` must
 * be the image's own, not the result of an earlier merge. StateError("conflict") leaves no output.
 */
export function mergeEtc(
  pristine: EtcSource,
  current: EtcSource,
  next: EtcSource,
  outputDir: string,
  { rules = [], forOverlay = false }: MergeOptions = {},
): EtcDiff {
  try {
    return withSources([pristine, current, next], (p, c, n) => {
      const { diff, root, local } = planEtcMerge(p.tree, c.tree, n.tree, rules);
      requireMergeable(diff);
      removeTree(null, outputDir);
      const upper = forOverlay ? makeUpperTree(n.tree, root) : null;
      const tree = upper === null ? root : withEntry(root, UPPER, upper.tree);
      writeTree(tree, null, outputDir, (file, path, output) => {
        const original = upper?.copies.get(file) ?? file;
        const place = original === file ? path : path.slice(UPPER.length + 1);
        (local.has(original) ? c : n).writeContent(original as FileNode, place, output);
      });
      using output = openDirectory(null, outputDir);
      syncfs(output);
      return diff;
    });
  } catch (error) {
    removeQuietly(outputDir);
    throw explainNoSpace(error, `merged /etc "${outputDir}"`);
  }
}

function withEntry(directory: DirectoryNode, name: string, node: DirectoryNode): DirectoryNode {
  return { ...directory, entries: new Map([...directory.entries, [name, node]]) };
}

/** After a failure, whose error matters more; what stays is replaced by the next run. */
function removeQuietly(path: string): void {
  try {
    removeTree(null, path);
  } catch {}
}

type Sources = readonly [EtcSource, EtcSource, EtcSource];

/** Opens the three and does `work`; begins again when a directory changed in the middle. */
function withSources<T>(sources: Sources, work: (p: OpenEtc, c: OpenEtc, n: OpenEtc) => T): T {
  const image = sources.find((source) => typeof source !== "string");
  const algorithm = image === undefined ? "sha256" : image.repo.algorithm;
  for (let attempt = 1; ; attempt++) {
    try {
      using p = openSource(sources[0], algorithm);
      using c = openSource(sources[1], algorithm);
      using n = openSource(sources[2], algorithm);
      return work(p, c, n);
    } catch (error) {
      const changed = isErrno(error, "ENOENT", "ENOTDIR", "ELOOP");
      if (!changed || attempt === ATTEMPTS) throw error;
    }
  }
}

function openSource(source: EtcSource, algorithm: VerityAlgorithm): OpenEtc {
  if (typeof source === "string") return openDirectorySource(source, algorithm);
  const { repo, etc } = source;
  return {
    tree: etc,
    writeContent: (file, _path, output) => writeImageContent(repo, file, output),
    [Symbol.dispose]: () => {},
  };
}

function openDirectorySource(path: string, algorithm: VerityAlgorithm): OpenEtc {
  using cleanup = new DisposableStack();
  const root = cleanup.use(openEtc(path));
  const tree = readEtcTree(root, algorithm);
  const kept = cleanup.move();
  return {
    tree,
    writeContent: (_file, path, output) => {
      using input = openBeneath(root, path);
      copySteadily(input, output);
    },
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/** Copies a file of an image; IntegrityError when its object is missing, damaged or too short. */
export function writeImageContent(repo: Repository, file: FileNode, output: Fd): void {
  const { content } = file;
  if (content.kind === "inline") {
    writeAll(output, content.bytes);
  } else if (content.digest === undefined) {
    if (content.payload !== undefined) {
      const payload = fromByteString(content.payload);
      throw new IntegrityError("verity-missing", `Object "${payload}" has no digest in the image`);
    }
    ftruncate(output, content.sizeBytes);
  } else {
    using input = openObject(repo, content.digest);
    const { sizeBytes } = copyFileContents(input, output);
    if (sizeBytes === content.sizeBytes) return;
    const sizes = `has ${sizeBytes} bytes, expected ${content.sizeBytes}`;
    throw new IntegrityError("size-mismatch", `Object ${content.digest} ${sizes}`);
  }
}
