// Puts the lines of a dump together: parents, duplicate names, hard links. What is built is up to a
// target: the object tree (dump.ts) or the EROFS writer's columns (erofs/flatten-dump.ts).
//
// Lines come parents first, the root before all; hard links may point forward and are resolved at
// the end.

import { type DumpOptions, lineError } from "./dump-field.ts";
import { type DumpLine, readDumpLines } from "./dump-line.ts";
import { type ByteString, fromByteString, S_IFDIR, S_IFMT } from "./node.ts";

/** D stands for a directory, L for anything else. The lines are reused: keep nothing of them. */
export interface DumpTarget<D, L> {
  readonly addRoot: (line: DumpLine) => D;
  readonly addDirectory: (parent: D, name: ByteString, line: DumpLine) => D;
  readonly addLeaf: (parent: D, name: ByteString, line: DumpLine) => void;
  /** False when the target finds duplicates itself. */
  readonly hasEntry: (parent: D, name: ByteString) => boolean;
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
  /** By path without trailing slash; the root is "". */
  readonly directories: Map<ByteString, D>;
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
    directories: new Map(),
    links: new Map(),
  };
  readDumpLines(text, options, (line) => addLine(b, line));
  if (b.directories.size === 0) throw lineError(1, "PATH", "Dump is empty", "truncated");
  resolveLinks(b);
}

function addLine<D, L>(b: Building<D, L>, line: DumpLine): void {
  const { directories, target } = b;
  const path = normalizePath(b, line);
  const isDirectory = (line.mode & S_IFMT) === S_IFDIR;
  if (directories.size === 0) {
    if (path !== "") throw lineError(line.number, "PATH", "First line is not the root");
    if (!isDirectory) throw lineError(line.number, "MODE", "Root is not a directory");
    directories.set("", target.addRoot(line));
    return;
  }
  if (path === "") throw lineError(line.number, "PATH", "Root appears twice");
  const slash = path.lastIndexOf("/");
  const name = path.slice(slash + 1);
  const parent = directories.get(path.slice(0, slash));
  if (parent === undefined) throw pathError(line, path, "has no parent directory so far");
  if (name.length > MAX_NAME_BYTES) throw pathError(line, path, "has a name over 255 bytes");
  if (name === "." || name === "..") throw pathError(line, path, "has a reserved name");
  if (target.hasEntry(parent, name) || (b.links.size > 0 && b.links.has(path))) {
    throw pathError(line, path, "appears twice");
  }
  if (line.isLink) addLink(b, line, path, { directory: parent, name });
  else if (isDirectory) directories.set(path, target.addDirectory(parent, name, line));
  else target.addLeaf(parent, name, line);
}

function pathError(line: DumpLine, path: ByteString, message: string) {
  return lineError(line.number, "PATH", `"${fromByteString(path)}" ${message}`);
}

/** "/a/b" for everything below the root, "" for the root itself. */
function normalizePath<D, L>(b: Building<D, L>, line: DumpLine): ByteString {
  let { path } = line;
  if (path === "/") return "";
  if (b.dialect === "c" && path !== "") path = collapseSlashes(path);
  if (!path.startsWith("/") || path.endsWith("/") || path.includes("//")) {
    throw pathError(line, line.path, "is not a file's path");
  }
  return path;
}

/** C skips runs of slashes and does not miss the first one. */
function collapseSlashes(path: ByteString): ByteString {
  const absolute = path.startsWith("/") ? path : `/${path}`;
  return absolute.includes("//") ? absolute.replace(/\/+/g, "/") : absolute;
}

function addLink<D, L>(
  b: Building<D, L>,
  line: DumpLine,
  path: ByteString,
  place: DumpPlace<D>,
): void {
  if (line.payload === "") throw lineError(line.number, "PAYLOAD", "Hard link has no target");
  const target = collapseSlashes(line.payload).replace(/(.)\/$/, "$1");
  b.links.set(path, { ...place, line: line.number, target });
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
  const directory = b.directories.get(path.slice(0, slash));
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
