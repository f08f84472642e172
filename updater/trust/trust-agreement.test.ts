// The updater reads an image's trust directory in its tree, prepare-root reads a copy of it in the initramfs. What one
// takes, the other must take, with the same result: else an image is staged that does not start, or one that starts
// anything.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FormatError, PolicyError } from "../../shared/error.ts";
import {
  type DirectoryNode,
  fromByteString,
  type TreeNode,
} from "../../shared/format/tree/node.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import { parseTrustKeys } from "../../shared/format/trust/key.ts";
import { openDirectory } from "../../shared/sys/directory.ts";
import { openTrustDirectory, readTrustAnchors } from "../../shared/trust/anchors.ts";
import { makeDirectory, makeTree } from "../../test/support/tree-builder.ts";
import { trustKey } from "../../test/support/trust-place.ts";
import { readImageTrust } from "./image-trust.ts";

const TRUST = "usr/lib/bootc/trust";
const { fingerprint, pub } = trustKey("vendor");
const base64 = Buffer.from(parseTrustKeys(pub, "vendor.pub")[0]!.bytes).toString("base64");

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "agreement-"));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Texts, "-> target", "DIRECTORY" and "FIFO"; a path in latin1 may be any bytes. */
type Files = Readonly<Record<string, string>>;

function inInitramfs(files: Files): TrustAnchors | string {
  for (const [path, text] of Object.entries(files)) {
    const place = Buffer.from(join(root, path), "latin1");
    mkdirSync(dirname(join(root, path)), { recursive: true });
    if (text === "DIRECTORY") mkdirSync(place);
    else if (text === "FIFO") execFileSync("mkfifo", [place.toString("latin1")]);
    else if (text.startsWith("-> ")) symlinkSync(text.slice(3), place);
    else writeFileSync(place, Buffer.from(text, "latin1"));
  }
  try {
    using fd = openDirectory(null, root);
    using directory = openTrustDirectory(fd);
    return readTrustAnchors(directory);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return error.message;
  }
}

function inImage(files: Files): TrustAnchors | string {
  const fifo = { ...makeTreeNode(""), kind: "special", rdev: 0 } as TreeNode;
  const nodes = Object.entries(files).map(([path, text]): [string, string | TreeNode] => {
    if (text === "DIRECTORY") return [path, makeDirectory()];
    if (text === "FIFO") return [path, fifo];
    return [path, text.startsWith("-> ") ? text : makeTreeNode(text)];
  });
  const tree = makeTree(Object.fromEntries(nodes));
  nameByBytes(tree);
  try {
    const read = (file: { readonly content: unknown }) =>
      (file.content as { readonly bytes: Uint8Array }).bytes;
    return readImageTrust(tree, read, null).anchors;
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return error.message;
  }
}

/** `makeTree` takes names for text; here they are bytes already. */
function nameByBytes({ entries }: DirectoryNode): void {
  for (const [name, node] of [...entries]) {
    entries.delete(name);
    entries.set(fromByteString(name), node);
    if (node.kind === "directory") nameByBytes(node);
  }
}

/** A file of these bytes. */
function makeTreeNode(latin1: string): TreeNode {
  const node = makeTree({ x: "x" }).entries.get("x")!;
  return { ...node, content: { kind: "inline", bytes: Buffer.from(latin1, "latin1") } } as TreeNode;
}

const below = (files: Files): Files =>
  Object.fromEntries(Object.entries(files).map(([name, text]) => [`${TRUST}/${name}`, text]));
const many = (folder: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`${folder}/${i}`, ""]));

describe("both take it, and it is a machine of signed images", () => {
  test.each<[string, Files]>([
    ["a key", { "keys.d/a.pub": pub }],
    ["a key with CRLF", { "keys.d/a.pub": pub.replaceAll("\n", "\r\n") }],
    ["a key after a byte order mark", { "keys.d/a.pub": `\xef\xbb\xbf${pub}` }],
    ["base64 after a byte order mark", { "keys.d/a.pub": `\xef\xbb\xbf${base64}\r\n` }],
    ["a README beside", { "keys.d/a.pub": pub, "keys.d/README": "x", "keys.d/.gitkeep": "" }],
    ["a list with CRLF", { "keys.d/a.pub": pub, "revoked.d/x": "# none\r\n\r\n" }],
    ["all keys revoked", { "keys.d/a.pub": pub, "revoked.d/x": `key ${fingerprint}` }],
    ["a name with a letter of another script", { "keys.d/\xc3\xa4.pub": pub }],
    ["as many lists as there may be", { "keys.d/a.pub": pub, ...many("revoked.d", 256) }],
    ["settings with CRLF", { "keys.d/a.pub": pub, "trust.conf": "[image]\r\ncounter=esp\r\n" }],
  ])("%s", (_, files) => {
    const anchors = inInitramfs(below(files));
    expect(anchors).toMatchObject({ signed: true });
    expect(inImage(below(files))).toEqual(anchors);
  });
});

describe("both take it, and nothing wants a signature", () => {
  test.each<[string, Files]>([
    ["no directory", { "usr/lib/os-release": "" }],
    ["an empty one", below({ "keys.d": "DIRECTORY", "revoked.d": "DIRECTORY" })],
    ["hidden files", below({ "keys.d/.a.pub": pub, "keys.d/README": "no key yet" })],
  ])("%s", (_, files) => {
    const anchors = inInitramfs(files);
    expect(anchors).toMatchObject({ signed: false, keys: [] });
    expect(inImage(files)).toEqual(anchors);
  });
});

describe("both refuse it", () => {
  test.each<[string, Files, RegExp]>([
    ["the directory is a file", { [TRUST]: "x" }, /not a directory/],
    ["the directory is a link", { [TRUST]: "-> /etc/trust", "etc/trust/x": "" }, /not a directory/],
    ["keys.d is a file", below({ "keys.d": "" }), /not a directory/],
    ["keys.d is a link", below({ "keys.d": "-> /etc/keys" }), /not a directory/],
    ["a key is a link", below({ "keys.d/a.pub": "-> /etc/a.pub" }), /a link|regular file/],
    ["a key is a link to nowhere", below({ "keys.d/a.pub": "-> x" }), /a link|regular file/],
    ["a key is a FIFO", below({ "keys.d/a.pub": "FIFO" }), /regular file/],
    ["a key is a directory", below({ "keys.d/a.pub": "DIRECTORY" }), /regular file/],
    ["a directory beside the keys", below({ "keys.d/old": "DIRECTORY" }), /regular file/],
    ["a key under another name", below({ "keys.d/vendor.pem": pub }), /end in "\.pub"/],
    ["a key of no bytes", below({ "keys.d/a.pub": "" }), /no key in it/],
    ["a key in UTF-16", below({ "keys.d/a.pub": "\xff\xfea\0" }), /not UTF-8/],
    ["a comment before a key", below({ "keys.d/a.pub": `# x\n${base64}` }), /neither PEM nor/],
    ["settings are a link", below({ "trust.conf": "-> x" }), /a link|regular file/],
    ["settings are a directory", below({ "trust.conf": "DIRECTORY" }), /regular file/],
    ["a list is a FIFO", below({ "revoked.d/x": "FIFO" }), /regular file/],
    ["a list of another kind", below({ "revoked.d/x": "sha256:ab" }), /line 1/],
    ["a name that is no text", below({ "revoked.d/\xff": "" }), /not UTF-8/],
    ["a note of megabytes", below({ "keys.d/README": "x".repeat(2 << 20) }), /larger than 1/],
    [
      "a list whose letters are few and whose bytes are many",
      below({ "revoked.d/x": `#${"\xe2\x82\xac".repeat(400_000)}` }),
      /larger than 1/,
    ],
    ["settings of megabytes", below({ "trust.conf": "#\n".repeat(1 << 20) }), /larger than 1/],
    ["too many lists", below(many("revoked.d", 257)), /more than 256/],
  ])("%s", (_, files, expected) => {
    expect(inInitramfs(files)).toMatch(expected);
    expect(inImage(files)).toMatch(expected);
  });
});
