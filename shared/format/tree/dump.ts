// Dump text to file tree: what composefs-dump(5) calls a dump file, in the dialects of C's
// mkcomposefs and of composefs-rs. The way back is dump-format.ts.

import { toHex } from "../../bytes/hex.ts";
import { buildFromDump, type DumpTarget } from "./dump-build.ts";
import { type DumpOptions, spanText } from "./dump-field.ts";
import type { DumpLine } from "./dump-record.ts";
import {
  type DirectoryNode,
  type FileContent,
  type Leaf,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "./node.ts";

/** The tree a dump describes; FormatErrors name line and field. */
export function parseDump(
  text: Uint8Array | Iterable<Uint8Array>,
  options: DumpOptions = {},
): DirectoryNode {
  let root: DirectoryNode | null = null;
  const keepsHomes = options.dialect !== "rust";
  const target: DumpTarget<DirectoryNode, Leaf> = {
    addRoot: (line) => (root = makeDirectory(line)),
    addDirectory(parent, name, line) {
      const node = makeDirectory(line);
      parent.entries.set(spanText(name), node);
      return node;
    },
    addLeaf: (parent, name, line) => parent.entries.set(spanText(name), makeLeaf(line)),
    hasEntry: (parent, name) => parent.entries.has(spanText(name)),
    findLeaf(parent, name) {
      const node = parent.entries.get(name) ?? null;
      return node?.kind === "directory" ? "directory" : node;
    },
    addLink(parent, name, leaf, home) {
      if (keepsHomes) leaf.home ??= home;
      parent.entries.set(name, leaf);
    },
  };
  buildFromDump(text, options, target);
  return root!;
}

function metadata({ mode, uid, gid, mtimeSec, mtimeNsec, xattrs }: DumpLine) {
  return { mode, uid, gid, mtimeSec, mtimeNsec, xattrs };
}

function makeDirectory(line: DumpLine): DirectoryNode {
  return { kind: "directory", ...metadata(line), entries: new Map() };
}

function makeLeaf(line: DumpLine): Leaf {
  const { nlink } = line;
  const type = line.mode & S_IFMT;
  if (type === S_IFREG) {
    return { kind: "file", ...metadata(line), nlink, content: makeContent(line) };
  }
  if (type === S_IFLNK) {
    return { kind: "symlink", ...metadata(line), nlink, target: spanText(line.payload) };
  }
  const large = line.size > 0xffff_ffff && { statesLargeSize: true as const };
  return { kind: "special", ...metadata(line), nlink, rdev: line.rdev, ...large };
}

function makeContent({ content, size, digest, payload }: DumpLine): FileContent {
  if (content !== null) {
    const bytes = Uint8Array.from(content.bytes.subarray(content.start, content.end));
    return { kind: "inline", bytes };
  }
  const path = spanText(payload);
  return {
    kind: "external",
    sizeBytes: size,
    ...(digest === null ? {} : { digest: toHex(digest) }),
    ...(path === "" ? {} : { payload: path }),
  };
}
