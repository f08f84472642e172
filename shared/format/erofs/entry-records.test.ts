import { expect, test } from "vitest";
import { fromHex } from "../../bytes/hex.ts";
import {
  type DirectoryNode,
  type Leaf,
  NO_XATTRS,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type Xattrs,
} from "../tree/node.ts";
import { objectPath } from "../verity/digest.ts";
import {
  addDirectoryEntry,
  addFileEntry,
  addSpecialEntry,
  addSymlinkEntry,
  createEntryRecords,
  ROOT_INODE,
  setFileBytes,
  setFileDigest,
} from "./entry-records.ts";
import { planErofsFromRecords, writeErofs } from "./writer.ts";

const XATTRS: Xattrs = new Map([["user.kind", Buffer.from("value")]]);
const DIGEST = "ab".repeat(16) + "cd".repeat(16);
const OTHER = "01".repeat(32);

function metadata(mode: number, mtimeSec: number, xattrs = NO_XATTRS) {
  return { mode, uid: 1, gid: 2, mtimeSec, mtimeNsec: 3, xattrs };
}

/** Every kind of entry; `whiteout` makes version 1 of it. */
function makeTree(rdev: number): DirectoryNode {
  const external = (digest: string, sizeBytes: number): Leaf => ({
    kind: "file",
    ...metadata(S_IFREG | 0o644, 20, XATTRS),
    nlink: 1,
    content: { kind: "external", sizeBytes, digest, payload: objectPath(digest) },
  });
  const inline = (text: string): Leaf => ({
    kind: "file",
    ...metadata(S_IFREG | 0o600, 30),
    nlink: 1,
    content: { kind: "inline", bytes: Buffer.from(text) },
  });
  const below: DirectoryNode = {
    kind: "directory",
    ...metadata(S_IFDIR | 0o700, 40, XATTRS),
    entries: new Map<string, Leaf>([
      ["large", external(DIGEST, 5e9)],
      ["same", external(DIGEST, 5e9)],
      ["empty", inline("")],
    ]),
  };
  const entries: DirectoryNode["entries"] = new Map();
  entries.set("z\xff", below);
  entries.set("small", inline("text"));
  entries.set("other", external(OTHER, 4097));
  const link = metadata(S_IFLNK | 0o777, 50, XATTRS);
  entries.set("link", { kind: "symlink", ...link, nlink: 1, target: "a/b" });
  entries.set("dev", { kind: "special", ...metadata(S_IFCHR, 60), nlink: 1, rdev });
  return { kind: "directory", ...metadata(S_IFDIR | 0o755, 10), entries };
}

/** As the directory scanner does it: contents of large files are told last, in any order. */
function planByEntry(root: DirectoryNode, format: Parameters<typeof createEntryRecords>[0]) {
  const records = createEntryRecords(format, root);
  const later: (() => void)[] = [];
  const addAll = (directory: DirectoryNode, parent: number) => {
    for (const [text, node] of directory.entries) {
      const name = Buffer.from(text, "latin1");
      if (node.kind === "directory") {
        addAll(node, addDirectoryEntry(records, parent, name, node));
      } else if (node.kind === "symlink") {
        addSymlinkEntry(records, parent, name, node, Buffer.from(node.target));
      } else if (node.kind === "special") {
        addSpecialEntry(records, parent, name, node, node.rdev);
      } else {
        const inode = addFileEntry(records, parent, name, node);
        const { content, xattrs } = node;
        if (content.kind === "inline") setFileBytes(records, inode, content.bytes, xattrs);
        else {
          const { sizeBytes, digest } = content;
          later.unshift(() => setFileDigest(records, inode, sizeBytes, fromHex(digest!), xattrs));
        }
      }
    }
  };
  addAll(root, ROOT_INODE);
  for (const tell of later) tell();
  return planErofsFromRecords(records, format);
}

test.each([
  [{ version: 0, dialect: "c" }, 5],
  [{ version: 1, dialect: "c" }, 5],
  [{ version: 0, dialect: "c", raisedByWhiteouts: true }, 0],
] as const)("the same bytes as from a tree, %j", (format, rdev) => {
  const root = makeTree(rdev);
  const planned = planByEntry(root, format);
  const pieces: Uint8Array[] = [];
  planned.write((piece) => pieces.push(piece.slice()));
  const image = Buffer.concat(pieces);
  expect(image.length).toBe(planned.sizeBytes);
  expect(image.equals(writeErofs(root, format))).toBe(true);
});
