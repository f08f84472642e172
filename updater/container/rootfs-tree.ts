// An unpacked root directory as the tree that becomes its EROFS image, exactly as layers would (transform.ts):
// what is computed for the directory is what a machine computes for the image made of it.

import { StateError } from "../../shared/error.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import {
  type ByteString,
  byteStringToBytes,
  type DirectoryNode,
  type FileNode,
  toByteString,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest, type VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, readAll } from "../../shared/sys/file.ts";
import { scanTree } from "../composefs/tree-scan.ts";
import type { FileReader } from "../image/file-content.ts";
import { transformForBoot, transformForOci } from "../image/transform.ts";

/** Configuration that is read from the directory: SELinux contexts, kernel arguments. */
const MAX_CONFIG_BYTES = 16 << 20;

export interface RootfsOptions {
  readonly algorithm: VerityAlgorithm;
  /** Leave the root and all xattrs as they are in the directory. */
  readonly keepsRoot?: boolean;
  /** As the image that boots. */
  readonly bootable: boolean;
}

/** The tree below `path` with its hard links. StateError when it changes while it is read. */
export function readRootfsTree(path: string, options: RootfsOptions): DirectoryNode {
  const { algorithm, keepsRoot, bootable } = options;
  const root = scanTree(path, { xattrs: "all", skipDevices: false, useEpoch: false, algorithm });
  if (keepsRoot !== true) transformForOci(root);
  if (bootable) transformForBoot(root, createRootfsReader(path, root));
  return root;
}

/** The id of the deployment that boots from this tree, as bootc's repositories have it (sha512, V1). */
export function computeBootId(tree: DirectoryNode): string {
  return computeVerityDigest(writeErofs(tree, { version: 1, dialect: "rust" }, "sha512"), "sha512");
}

/** Reads files of the scanned tree `root` where they lie, below `path`. */
function createRootfsReader(path: string, root: DirectoryNode): FileReader {
  return (file) => {
    if (file.content.kind === "inline") return file.content.bytes;
    for (const [name, node] of walkFiles(root, "")) {
      if (node !== file) continue;
      using fd = openBelow(path, name);
      return readAll(fd, MAX_CONFIG_BYTES);
    }
    throw new StateError("missing", `A file of "${path}" is gone; try again`);
  };
}

/** `name` begins with a slash. */
export function openBelow(path: string, name: ByteString): Fd {
  const full = byteStringToBytes(`${toByteString(path)}${name}`);
  return openat(null, full, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
}

/** All regular files by all their names, each with a slash before it. */
export function* walkFiles(
  directory: DirectoryNode,
  path: ByteString,
): Generator<readonly [ByteString, FileNode]> {
  for (const [name, node] of directory.entries) {
    const below = `${path}/${name}`;
    if (node.kind === "directory") yield* walkFiles(node, below);
    else if (node.kind === "file") yield [below, node];
  }
}
