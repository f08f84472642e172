// Puts the lines of a dump together: parents, duplicate names, hard links. What is built is up to a
// target: the object tree (dump.ts) or the EROFS writer's columns (erofs/flatten-dump.ts).
//
// Lines come parents first, the root before all; hard links may point forward and are resolved at
// the end.

import {
  addDirectory,
  createDumpDirectories,
  type DumpDirectories,
  findDirectory,
} from "./dump-directories.ts";
import { type ByteSpan, type DumpOptions, lineError, spanText } from "./dump-field.ts";
import { readDumpLines } from "./dump-line.ts";
import type { DumpLine } from "./dump-record.ts";
import { type ByteString, fromByteString, S_IFDIR, S_IFMT } from "./node.ts";

/**
 * D stands for a directory, L for anything else. Lines and the names from them are used again for the next
 * line: keep nothing of them.
 */
export interface DumpTarget<D, L> {
  readonly addRoot: (line: DumpLine) => D;
  readonly addDirectory: (parent: D, name: ByteSpan, line: DumpLine) => D;
  readonly addLeaf: (parent: D, name: ByteSpan, line: DumpLine) => void;
  /** False when the target finds duplicates itself. */
  readonly hasEntry: (parent: D, name: ByteSpan) => boolean;
  /** What the name stands for, links that were added included. */
  readonly findLeaf: (parent: D, name: ByteString) => L | "directory" | null;
  /** Another name for `leaf`, whose first line said `home`. */
  readonly addLink: (parent: D, name: ByteString, leaf: L, home: DumpPlace<D>) => void;
}

export interface DumpPlace<D> {
  readonly directory: D;
  readonly name: ByteString;
}

interface PendingLink<D> extends DumpPlace<D> {
  readonly line: number;
  readonly target: ByteString;
}

interface Building<D, L> {
  readonly target: DumpTarget<D, L>;
  readonly dialect: "c" | "rust";
  readonly directories: DumpDirectories<D>;
  /** The name in the path of the line at hand. */
  readonly name: ByteSpan;
  /** By path. */
  readonly links: Map<ByteString, PendingLink<D>>;
}

const MAX_NAME_BYTES = 255;

/** Feeds a dump into `target`; FormatErrors name line and field. */
export function buildFromDump<D, L>(
  text: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions,
  target: DumpTarget<D, L>,
): void {
  const b: Building<D, L> = {
    target,
    dialect: options.dialect ?? "c",
    directories: createDumpDirectories(),
    name: { bytes: Buffer.alloc(0), start: 0, end: 0 },
    links: new Map(),
  };
  readDumpLines(text, options, (line) => addLine(b, line));
  if (b.directories.byPath.size === 0) throw lineError(1, "PATH", "Dump is empty", "truncated");
  resolveLinks(b);
}

function addLine<D, L>(b: Building<D, L>, line: DumpLine): void {
  const { directories, target, name } = b;
  const slash = findName(b, line);
  const { bytes, start, end } = line.path;
  const isDirectory = (line.mode & S_IFMT) === S_IFDIR;
  if (directories.byPath.size === 0) {
    if (start !== end) throw lineError(line.number, "PATH", "First line is not the root");
    if (!isDirectory) throw lineError(line.number, "MODE", "Root is not a directory");
    addDirectory(directories, bytes, start, end, target.addRoot(line));
    return;
  }
  if (start === end) throw lineError(line.number, "PATH", "Root appears twice");
  name.bytes = bytes;
  name.start = slash + 1;
  name.end = end;
  const parent = findDirectory(directories, bytes, start, slash);
  if (parent === undefined) throw pathError(line, "has no parent directory so far");
  checkName(b, line, parent);
  if (line.isLink) addLink(b, line, { directory: parent, name: spanText(name) });
  else if (isDirectory) {
    addDirectory(directories, bytes, start, end, target.addDirectory(parent, name, line));
  } else target.addLeaf(parent, name, line);
}

const SLASH = 0x2f;
const DOT = 0x2e;

function checkName<D, L>(b: Building<D, L>, line: DumpLine, parent: D): void {
  const { bytes, start, end } = b.name;
  const length = end - start;
  if (length > MAX_NAME_BYTES) throw pathError(line, "has a name over 255 bytes");
  if (length <= 2 && bytes[start] === DOT && bytes[end - 1] === DOT) {
    throw pathError(line, "has a reserved name");
  }
  if (b.target.hasEntry(parent, b.name)) throw pathError(line, "appears twice");
  if (b.links.size > 0 && b.links.has(spanText(line.path))) throw pathError(line, "appears twice");
}

function pathError(line: DumpLine, message: string) {
  return lineError(line.number, "PATH", `"${fromByteString(spanText(line.path))}" ${message}`);
}

/**
 * Position of the slash before the name. The path becomes "/a/b" for everything below the root and ""
 * for the root itself.
 */
function findName<D, L>(b: Building<D, L>, { path, number }: DumpLine): number {
  if (path.end - path.start === 1 && path.bytes[path.start] === SLASH) {
    path.end = path.start;
    return path.start;
  }
  const slash = lastSlash(path);
  if (slash >= 0) return slash;
  const text = spanText(path);
  if (b.dialect === "c") setText(path, collapseSlashes(text));
  const found = lastSlash(path);
  if (found < 0) {
    throw lineError(number, "PATH", `"${fromByteString(text)}" is not a file's path`);
  }
  return found;
}

/** -1 when the path does not begin with a slash, ends with one, or has two in a row. */
function lastSlash({ bytes, start, end }: ByteSpan): number {
  let slash = start;
  if (bytes[start] !== SLASH) return -1;
  for (let at = start + 1; at < end; at++) {
    if (bytes[at] !== SLASH) continue;
    if (slash === at - 1) return -1;
    slash = at;
  }
  return slash === end - 1 ? -1 : slash;
}

function setText(span: ByteSpan, text: ByteString): void {
  span.bytes = Buffer.from(text, "latin1");
  span.start = 0;
  span.end = span.bytes.length;
}

/** C skips runs of slashes and does not miss the first one. */
function collapseSlashes(path: ByteString): ByteString {
  const absolute = path.startsWith("/") ? path : `/${path}`;
  return absolute.includes("//") ? absolute.replace(/\/+/g, "/") : absolute;
}

function addLink<D, L>(b: Building<D, L>, line: DumpLine, place: DumpPlace<D>): void {
  const payload = spanText(line.payload);
  if (payload === "") throw lineError(line.number, "PAYLOAD", "Hard link has no target");
  const target = collapseSlashes(payload).replace(/(.)\/$/, "$1");
  b.links.set(spanText(line.path), { ...place, line: line.number, target });
}

/** A link to a link means what that one means. */
function resolveLinks<D, L>(b: Building<D, L>): void {
  /** Where links that are done lead. */
  const done = new Map<ByteString, DumpPlace<D>>();
  for (const start of b.links.keys()) {
    const chain: ByteString[] = [];
    const seen = new Set<ByteString>();
    let path = start;
    while (b.links.has(path) && !done.has(path)) {
      if (seen.has(path)) {
        throw lineError(b.links.get(path)!.line, "PAYLOAD", "Hard links point at each other");
      }
      seen.add(path);
      chain.push(path);
      path = b.links.get(path)!.target;
    }
    if (chain.length === 0) continue;
    const home = done.get(path) ?? placeOf(b, path, b.links.get(chain.at(-1)!)!);
    for (const name of chain) done.set(name, home);
  }
  for (const [path, link] of b.links) {
    const home = done.get(path)!;
    const leaf = findTarget(b, home, link);
    b.target.addLink(link.directory, link.name, leaf, home);
  }
}

function placeOf<D, L>(b: Building<D, L>, path: ByteString, link: PendingLink<D>): DumpPlace<D> {
  const slash = path.lastIndexOf("/");
  const directory = b.directories.byPath.get(path.slice(0, slash));
  if (directory === undefined || path === "/") throw missingTarget(link);
  return { directory, name: path.slice(slash + 1) };
}

function findTarget<D, L>(b: Building<D, L>, home: DumpPlace<D>, link: PendingLink<D>): L {
  const leaf = b.target.findLeaf(home.directory, home.name);
  if (leaf === null) throw missingTarget(link);
  if (leaf === "directory") {
    throw lineError(link.line, "PAYLOAD", "Hard link target is a directory");
  }
  return leaf;
}

function missingTarget<D>(link: PendingLink<D>) {
  const text = `Hard link target "${fromByteString(link.target)}" does not exist`;
  return lineError(link.line, "PAYLOAD", text, "not-found");
}
