// Fuzz target: the EROFS reader. What it accepts can be written, and reading that gives the same
// tree; the collector of objects sees the same objects.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { backingObjects } from "../../../shared/format/erofs/backing.ts";
import type { ErofsFormat } from "../../../shared/format/erofs/format.ts";
import { DirectoryEntry, InodeCompact } from "../../../shared/format/erofs/layout.ts";
import { collectObjects, readErofs } from "../../../shared/format/erofs/reader.ts";
import { writeErofs } from "../../../shared/format/erofs/writer.ts";
import { parseDump } from "../../../shared/format/tree/dump.ts";
import type { DirectoryNode, FileNode, Leaf, TreeNode } from "../../../shared/format/tree/node.ts";
import { makeRandomDump } from "../../support/random-dump.ts";
import { mutateErofs, repairErofs } from "../erofs-fields.ts";
import { printTree } from "../print-tree.ts";
import { attempt, checkEqual, checkSameBytes, type FuzzTarget, PropertyError } from "../target.ts";

const FORMATS: readonly ErofsFormat[] = [
  { version: 0, dialect: "c" },
  { version: 1, dialect: "c" },
  { version: 0, dialect: "rust" },
  { version: 1, dialect: "rust" },
  { version: 2, dialect: "rust" },
];

export const target: FuzzTarget = {
  focus:
    /^shared\/format\/erofs\/(reader|image|directory-reader|xattr-reader|xattr-plain|backing|whiteout-reader)\.ts/,
  maxBytes: 1 << 16,
  mutate: mutateErofs,
  repair: repairErofs,
  *seeds(root) {
    for (const format of FORMATS) {
      for (let seed = 0; seed < 12; seed++) yield randomImage(seed, format);
    }
    for (const format of FORMATS) {
      for (const dump of WHITEOUTS) {
        const image = attempt(() => writeErofs(parseDump(Buffer.from(dump)), format));
        if (!("error" in image)) yield image.value;
      }
    }
    yield* realImages(root);
  },
  check(input) {
    const collected = attempt(() => collectObjects(input));
    const { root, version } = readErofs(input);
    if ("error" in collected)
      throw new PropertyError(`Only the collector refuses: ${collected.error}`);
    checkEqual(JSON.stringify([...collected.value].sort()), listObjects(root), "Collected objects");
    checkSize(root, input.length);
    // Neither a dump nor C's writer knows external files of no size.
    const isPlain = listFiles(root).every(
      ({ content }) => content.kind === "inline" || content.sizeBytes > 0,
    );
    const text = isPlain ? printTree(root) : null;
    switch (pickCheck(input)) {
      case 0:
        if (text !== null) checkDump(text);
        break;
      case 1:
        checkWriting(root, { version, dialect: "c" }, text);
        break;
      default:
        checkWriting(root, { version, dialect: "rust" }, text);
    }
    return true;
  },
};

/** Whiteouts with several names, and beside marks that look like the writer's own. */
const WHITEOUTS = [
  `/ 0 40755 2 0 0 0 0.0 - - -
/d 0 40755 2 0 0 0 0.0 - - - user.overlay.opaque=n trusted.overlay.opaque=x
/d/w 0 20644 1 0 0 0 0.0 - - - user.a=b
/e 0 40755 2 0 0 0 0.0 - - - user.overlay.whiteouts= trusted.overlay.whiteouts= user.overlay.opaque=x trusted.overlay.opaque=x
/e/f 0 100644 1 0 0 0 0.0 - - - user.overlay.whiteout= trusted.overlay.whiteout=
`,
  `/ 0 40755 2 0 0 0 0.0 - - -
/a 0 @20644 1 0 0 0 0.0 /d/w - -
/d 0 40755 2 0 0 0 0.0 - - -
/d/w 0 20644 2 0 0 0 0.0 - - -
/z 0 40755 2 0 0 0 0.0 - - -
/z/w 0 @20644 1 0 0 0 0.0 /d/w - -
`,
];

/** One of three, to save time; which one follows from the content. */
function pickCheck(input: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < input.length; at += 61) sum += input[at]!;
  return sum % 3;
}

/** A tree is never larger than its image: parts of an image may not be used twice. */
function checkSize(root: DirectoryNode, sizeBytes: number): void {
  const leaves = new Set<Leaf>();
  let total = 0;
  const pending = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    total += InodeCompact.sizeBytes;
    for (const [name, child] of node.entries) {
      total += DirectoryEntry.sizeBytes + name.length;
      if (child.kind === "directory") pending.push(child);
      else leaves.add(child);
    }
  }
  for (const leaf of leaves) {
    total += InodeCompact.sizeBytes;
    if (leaf.kind === "symlink") total += leaf.target.length;
    if (leaf.kind === "file" && leaf.content.kind === "inline") total += leaf.content.bytes.length;
  }
  if (total > sizeBytes) throw new PropertyError(`Tree is larger than its image: ${total} bytes`);
}

function randomImage(seed: number, format: ErofsFormat): Uint8Array {
  const portable = format.dialect === "rust";
  const dump = makeRandomDump(seed, { maxEntries: format.version === 2 ? 40 : 8, portable });
  return writeErofs(parseDump(Buffer.from(dump, "latin1")), format);
}

/** Images that the C tool made. */
function* realImages(root: string): Generator<Uint8Array> {
  const folder = join(root, "test/vectors/composefs");
  const index = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")) as {
    readonly vectors: readonly { readonly variants: Record<string, { image_gz?: string }> }[];
  };
  for (const { variants } of index.vectors) {
    for (const { image_gz: path } of Object.values(variants)) {
      if (path !== undefined) yield Uint8Array.from(gunzipSync(readFileSync(join(folder, path))));
    }
  }
}

function listObjects(root: DirectoryNode): string {
  const objects = listFiles(root).flatMap(({ content }) =>
    content.kind === "external" ? backingObjects(content) : [],
  );
  return JSON.stringify([...new Set(objects)].sort());
}

function listFiles(root: DirectoryNode): readonly FileNode[] {
  const files: FileNode[] = [];
  const pending: TreeNode[] = [root];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (node.kind === "directory") for (const child of node.entries.values()) pending.push(child);
    if (node.kind === "file") files.push(node);
  }
  return files;
}

/** A dump says the same when it was read and printed again. */
function checkDump(text: string): void {
  const parsed = attempt(() => parseDump(Buffer.from(text, "latin1")));
  if ("error" in parsed) {
    // An image may hold longer contents and targets than a dump.
    if ((parsed.error as { code?: string }).code === "limit") return;
    throw new PropertyError(`Dump of an accepted image is refused: ${parsed.error.message}`);
  }
  checkEqual(printTree(parsed.value), text, "Dump of the dump");
}

function checkWriting(root: DirectoryNode, format: ErofsFormat, text: string | null): void {
  const written = attempt(() => writeErofs(root, format));
  if ("error" in written) return;
  const again = attempt(() => readErofs(written.value));
  if ("error" in again) {
    throw new PropertyError(`Written image is refused (${format.dialect}): ${again.error.message}`);
  }
  // C's writer replaces marks of whiteouts that the tree itself has (decision 0006).
  const isKept = text !== null && !/ (?:user|trusted)\.overlay\.(?:opaque|whiteouts?)=/.test(text);
  if (isKept && format.dialect === "c" && format.version !== 2) {
    checkEqual(printTree(again.value.root), text, `Tree of the written image (${format.dialect})`);
  }
  checkSameBytes(
    writeErofs(again.value.root, format),
    written.value,
    `Image written again (${format.dialect})`,
  );
}
