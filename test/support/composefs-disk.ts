// A physical root with one composefs deployment, as an installation leaves it, in a scratch directory:
// composefs/{objects,images}, state/deploy/<id>/{etc,var}, state/os/default/var (bootc.md 4.1).
// Without fs-verity, which build machines rarely have: start it with "composefs=?<id>".

import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import {
  type DirectoryNode,
  NO_XATTRS,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type TreeNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";

/** Path -> content of a file, or `{ link }`; a trailing slash makes an empty directory. */
export type ImageFiles = Readonly<Record<string, string | Uint8Array | { readonly link: string }>>;

/** Large enough to lie in the object store and not in the image. */
export const BIG = "0123456789abcdef".repeat(1000);

/** What every image has. */
export const SKELETON: ImageFiles = {
  "etc/os-release": { link: "../usr/lib/os-release" },
  "etc/image-default": "from the image\n",
  "usr/lib/os-release": "ID=test\n",
  "usr/share/big": BIG,
  "var/": "",
  "sysroot/": "",
  "run/": "",
};

export interface ComposefsDisk {
  readonly path: string;
  readonly id: string;
  /** Path below the disk of the object that holds `content`. */
  readonly objectOf: (content: string | Uint8Array) => string;
}

/** Makes the disk below `path`; `algorithm` names its objects, `version` is the image's format. */
export function makeComposefsDisk(
  path: string,
  files: ImageFiles,
  algorithm: "sha256" | "sha512" = "sha512",
  version: 1 | 2 = 1,
): ComposefsDisk {
  const store = (content: Uint8Array) => {
    const digest = computeVerityDigest(content, algorithm);
    write(join(path, "composefs/objects", objectPath(digest)), content);
    return digest;
  };
  const image = writeErofs(makeTree(files, store), { version, dialect: "rust" });
  const id = store(image);
  mkdirSync(join(path, "composefs/images"), { recursive: true });
  symlinkSync(`../objects/${objectPath(id)}`, join(path, "composefs/images", id));
  makeState(path, id);
  return {
    path,
    id,
    objectOf: (content) =>
      `composefs/objects/${objectPath(computeVerityDigest(Buffer.from(content), algorithm))}`,
  };
}

function makeState(path: string, id: string): void {
  const deploy = join(path, "state/deploy", id);
  write(join(deploy, "etc/machine-file"), "from the state\n");
  mkdirSync(join(path, "state/os/default/var"), { recursive: true });
  write(join(path, "state/os/default/var/kept"), "from /var\n");
  symlinkSync("../../os/default/var", join(deploy, "var"));
}

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

function makeTree(files: ImageFiles, store: (content: Uint8Array) => string): DirectoryNode {
  const root = directory();
  for (const [path, value] of Object.entries(files)) {
    const parts = path.split("/").map(toByteString);
    const name = parts.pop()!;
    let parent = root;
    for (const part of parts) {
      const found = parent.entries.get(part) ?? directory();
      if (found.kind !== "directory") throw new Error(`${path}: not below a directory`);
      parent.entries.set(part, found);
      parent = found;
    }
    if (name !== "") parent.entries.set(name, makeLeaf(value, store));
  }
  return root;
}

function makeLeaf(value: ImageFiles[string], store: (content: Uint8Array) => string): TreeNode {
  if (typeof value === "object" && "link" in value) {
    const target = toByteString(value.link);
    return { ...metadata(S_IFLNK | 0o777), kind: "symlink", nlink: 1, target };
  }
  const bytes = Buffer.from(value as string);
  const shared = { ...metadata(S_IFREG | 0o755), kind: "file", nlink: 1 } as const;
  if (bytes.length <= 64) return { ...shared, content: { kind: "inline", bytes } };
  const digest = store(bytes);
  const content = { kind: "external", sizeBytes: bytes.length, digest } as const;
  return { ...shared, content: { ...content, payload: objectPath(digest) } };
}

function directory(): DirectoryNode {
  return { ...metadata(S_IFDIR | 0o755), kind: "directory", entries: new Map() };
}

function metadata(mode: number) {
  return { mode, uid: 0, gid: 0, mtimeSec: 1_700_000_000, mtimeNsec: 0, xattrs: NO_XATTRS };
}

/** Files of the build machine for an image: `paths` with what their symlinks point at. */
export function takeFromHost(paths: readonly string[]): ImageFiles {
  const files: Record<string, ImageFiles[string]> = {};
  for (const path of paths) {
    files[path.slice(1)] = readFileSync(path);
  }
  return files;
}
