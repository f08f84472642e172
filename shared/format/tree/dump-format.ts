// File tree to dump text (composefs-dump(5)): depth-first, names in byte order, a directory before
// its content. Lines are byte strings and plain ASCII: every other byte is escaped.
//
// The dialects differ in what they print, not in what it means: C gives directories their size in
// the image and hard links all fields; Rust counts link numbers anew and sorts xattrs.

import { type DirectoryPacking, packEntry, packedBytes } from "../erofs/directory-size.ts";
import {
  type ByteString,
  bytesToByteString,
  type DirectoryNode,
  type Leaf,
  S_IFDIR,
  S_IFMT,
  sortedNames,
  type TreeNode,
  type Xattrs,
} from "./node.ts";

export interface DumpFormatOptions {
  /** "c" (default) as composefs-info prints, "rust" as composefs-rs. */
  readonly dialect?: "c" | "rust";
}

const DOTS = [".", ".."] as const;

interface Formatting {
  readonly rust: boolean;
  /** Path of each leaf's first name, escaped. */
  readonly leaves: Map<Leaf, string>;
  readonly names: Map<Leaf, number>;
}

/** The dump's lines, each with its newline. */
export function* formatDump(
  root: DirectoryNode,
  options: DumpFormatOptions = {},
): Generator<string> {
  yield* directoryLines(createFormatting(root, options), "", root);
}

/** Lines of `node` and what is below it, as `path`. Link numbers are those of the whole tree. */
export function* formatDumpOf(
  node: TreeNode,
  path: ByteString,
  root: DirectoryNode,
  options: DumpFormatOptions = {},
): Generator<string> {
  const formatting = createFormatting(root, options);
  const field = path === "" ? "" : escapeField(path);
  if (node.kind === "directory") yield* directoryLines(formatting, field, node);
  else yield leafLine(formatting, field, node);
}

function createFormatting(root: DirectoryNode, { dialect }: DumpFormatOptions): Formatting {
  const rust = dialect === "rust";
  const formatting: Formatting = { rust, leaves: new Map(), names: new Map() };
  if (rust) countNames(root, formatting.names);
  return formatting;
}

/** Paths are escaped piece by piece on the way down. */
function* directoryLines(
  formatting: Formatting,
  start: string,
  root: DirectoryNode,
): Generator<string> {
  const names = sortedNames(root);
  yield directoryLine(formatting, start === "" ? "/" : start, root, names);
  const stack = [{ path: start, directory: root, names, next: 0 }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const name = top.names[top.next++];
    if (name === undefined) {
      stack.pop();
      continue;
    }
    const node = top.directory.entries.get(name)!;
    const path = `${top.path}/${escapeBytes(name)}`;
    if (node.kind === "directory") {
      const inside = sortedNames(node);
      yield directoryLine(formatting, path, node, inside);
      stack.push({ path, directory: node, names: inside, next: 0 });
    } else {
      yield leafLine(formatting, path, node);
    }
  }
}

function countNames(root: DirectoryNode, names: Map<Leaf, number>): void {
  const pending = [root];
  for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
    for (const node of directory.entries.values()) {
      if (node.kind === "directory") pending.push(node);
      else names.set(node, (names.get(node) ?? 0) + 1);
    }
  }
}

function directoryLine(
  formatting: Formatting,
  path: string,
  node: DirectoryNode,
  names: readonly ByteString[],
): string {
  let nlink = 2;
  for (const child of node.entries.values()) if (child.kind === "directory") nlink += 1;
  const size = formatting.rust ? 0 : directorySize(path === "/" ? addStubs(names) : names);
  const mode = S_IFDIR | (node.mode & ~S_IFMT);
  const numbers = `${size} ${mode.toString(8)} ${nlink} ${ownerAndTime(node, 0)}`;
  return `${path} ${numbers} - - -${formatXattrs(formatting, node.xattrs)}\n`;
}

/** The root of an image of version 0 or 1 also has entries 00..ff. */
function addStubs(names: readonly ByteString[]): ByteString[] {
  const all = new Set(names);
  for (let i = 0; i < 256; i++) all.add(i.toString(16).padStart(2, "0"));
  return [...all].sort();
}

/** Size of a directory with these names, in byte order, in an image of version 0 or 1. */
function directorySize(names: readonly ByteString[]): number {
  const packing: DirectoryPacking = { blocks: 0, usedBytes: 0 };
  let dots = 0;
  for (const name of names) {
    for (; dots < 2 && DOTS[dots]! < name; dots++) packEntry(packing, DOTS[dots]!.length);
    packEntry(packing, name.length);
  }
  for (; dots < 2; dots++) packEntry(packing, DOTS[dots]!.length);
  return packedBytes(packing);
}

function ownerAndTime(node: TreeNode, rdev: number): string {
  return `${node.uid} ${node.gid} ${rdev} ${node.mtimeSec}.${node.mtimeNsec}`;
}

function leafLine(formatting: Formatting, path: string, leaf: Leaf): string {
  const first = formatting.leaves.get(leaf);
  if (first !== undefined) return linkLine(formatting, path, leaf, first);
  formatting.leaves.set(leaf, path);
  const nlink = formatting.rust ? formatting.names.get(leaf)! : leaf.nlink;
  const numbers = `${leaf.mode.toString(8)} ${nlink} ${ownerAndTime(leaf, rdevOf(leaf))}`;
  const xattrs = formatXattrs(formatting, leaf.xattrs);
  return `${path} ${sizeOf(leaf)} ${numbers} ${dataFields(leaf)}${xattrs}\n`;
}

function linkLine(formatting: Formatting, path: string, leaf: Leaf, target: string): string {
  if (formatting.rust) {
    return `${path} 0 @120000 - - - - 0.0 ${target} - -\n`;
  }
  const numbers = `@${leaf.mode.toString(8)} ${leaf.nlink} ${ownerAndTime(leaf, rdevOf(leaf))}`;
  const data = dataFields(leaf);
  const rest = data.slice(data.indexOf(" "));
  const xattrs = formatXattrs(formatting, leaf.xattrs);
  return `${path} ${sizeOf(leaf)} ${numbers} ${target}${rest}${xattrs}\n`;
}

function rdevOf(leaf: Leaf): number {
  return leaf.kind === "special" ? leaf.rdev : 0;
}

function sizeOf(leaf: Leaf): number {
  if (leaf.kind === "symlink") return leaf.target.length;
  if (leaf.kind === "special") return 0;
  return leaf.content.kind === "inline" ? leaf.content.bytes.length : leaf.content.sizeBytes;
}

/** PAYLOAD CONTENT DIGEST */
function dataFields(leaf: Leaf): string {
  if (leaf.kind === "symlink") return `${escapeField(leaf.target)} - -`;
  if (leaf.kind === "special") return "- - -";
  const { content } = leaf;
  if (content.kind === "inline") return `- ${escapeField(bytesToByteString(content.bytes))} -`;
  return `${escapeField(content.payload ?? "")} - ${content.digest ?? "-"}`;
}

function formatXattrs({ rust }: Formatting, xattrs: Xattrs): string {
  if (xattrs.size === 0) return "";
  const names = [...xattrs.keys()];
  if (rust) names.sort();
  let text = "";
  for (const name of names) {
    const value = bytesToByteString(xattrs.get(name)!);
    text += ` ${escapeXattr(name)}=${escapeXattr(value)}`;
  }
  return text;
}

const SHORT: Readonly<Record<string, string>> = {
  "\\": "\\\\",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
};

function escapeByte(char: string): string {
  return SHORT[char] ?? `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
}

/** A field of a line; "-" when it is empty. */
export function escapeField(text: ByteString): string {
  if (text === "") return "-";
  if (text === "-") return "\\x2d";
  return escapeBytes(text);
}

function escapeBytes(text: ByteString): string {
  return text.replace(/[^\x21-\x5b\x5d-\x7e]/g, escapeByte);
}

function escapeXattr(text: ByteString): string {
  return text.replace(/[^\x21-\x3c\x3e-\x5b\x5d-\x7e]/g, escapeByte);
}
