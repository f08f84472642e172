// `.ostree.cfs`: the composefs image of a commit (ostree.md 6.3). Its digest is what a signed boot trusts, so its bytes
// are those of libostree: EROFS as C's mkcomposefs writes it, version 0 unless there is a whiteout; all times 0;
// no hard links; every file but empty ones lies in the repository under its loose path, none inside the
// image; the mount points that systems need are there.

import { FormatError } from "../error.ts";
import { writeErofs } from "../format/erofs/writer.ts";
import { startContentChecksum } from "../format/ostree/file-header.ts";
import { loosePath } from "../format/ostree/object.ts";
import {
  type ByteString,
  type DirectoryNode,
  type FileContent,
  type Leaf,
  NO_XATTRS,
  S_IFDIR,
} from "../format/tree/node.ts";
import { computeVerityDigest, VerityHasher } from "../format/verity/digest.ts";
import { type Content, contentType, openContent } from "./content.ts";
import { damagedObject, readDirmeta, readDirtree } from "./objects.ts";
import type { OstreeRepository } from "./repository.ts";
import { MAX_TREE_DEPTH, tooDeep } from "./tree.ts";

const MOUNT_POINTS: readonly ByteString[] = ["etc", "boot", "var", "sysroot", "usr"];
const EMPTY: FileContent = { kind: "inline", bytes: new Uint8Array(0) };
const FORMAT = { version: 0, dialect: "c", raisedByWhiteouts: true } as const;

export interface ImageOptions {
  /** Whether the image demands fs-verity of each file; it must then be computed of their contents. */
  readonly verity: boolean;
}

interface Build {
  readonly repo: OstreeRepository;
  readonly options: ImageOptions;
  /** By content checksum: several names share what was computed. */
  readonly leaves: Map<string, Leaf>;
  entryCount: number;
}

/** Directories that share objects with each other can stand for more files than any disk has. */
const MAX_ENTRIES = 10_000_000;

/** The image of a commit's tree, and its fs-verity digest (SHA-256, hex). */
export async function makeOstreeImage(
  repo: OstreeRepository,
  root: { readonly tree: string; readonly meta: string },
  options: ImageOptions,
): Promise<{ readonly bytes: Uint8Array; readonly digest: string }> {
  const node = await makeDirectory({ repo, options, leaves: new Map(), entryCount: 0 }, root, 0);
  for (const name of MOUNT_POINTS) {
    if (!node.entries.has(name)) node.entries.set(name, emptyDirectory());
  }
  const bytes = writeErofs(node, FORMAT, "sha256");
  return { bytes, digest: computeVerityDigest(bytes, "sha256") };
}

async function makeDirectory(
  build: Build,
  { tree, meta }: { readonly tree: string; readonly meta: string },
  depth: number,
): Promise<DirectoryNode> {
  if (depth > MAX_TREE_DEPTH) throw tooDeep();
  const { files, directories } = readDirtree(build.repo, tree);
  build.entryCount += files.length + directories.length;
  if (build.entryCount > MAX_ENTRIES) {
    throw new FormatError("limit", `A commit has more than ${MAX_ENTRIES} files`, {
      format: "dirtree",
    });
  }
  const node: DirectoryNode = {
    ...emptyDirectory(),
    ...readDirmeta(build.repo, meta),
  };
  for (const { name, checksum } of files) {
    node.entries.set(name, await makeLeaf(build, checksum));
  }
  for (const { name, ...child } of directories) {
    node.entries.set(name, await makeDirectory(build, child, depth + 1));
  }
  return node;
}

async function makeLeaf(build: Build, checksum: string): Promise<Leaf> {
  const known = build.leaves.get(checksum);
  // One object under several names would be a hard link to the writer.
  if (known !== undefined) return { ...known };
  using content = openContent(build.repo, checksum);
  const { mode, uid, gid, xattrs, target } = content.header;
  const metadata = { mode, uid, gid, xattrs, mtimeSec: 0, mtimeNsec: 0, nlink: 1 };
  const leaf: Leaf =
    target === null
      ? { kind: "file", ...metadata, content: await describeFile(build, checksum, content) }
      : { kind: "symlink", ...metadata, target };
  build.leaves.set(checksum, leaf);
  return leaf;
}

async function describeFile(
  { repo, options }: Build,
  checksum: string,
  content: Content,
): Promise<FileContent> {
  const { sizeBytes } = content;
  if (sizeBytes === 0) return EMPTY;
  const payload = loosePath(checksum, "file");
  if (!options.verity) return { kind: "external", sizeBytes, payload };
  const hasher = new VerityHasher("sha256");
  const check = startContentChecksum(content.header);
  for await (const chunk of content.chunks()) {
    hasher.update(chunk);
    check.update(chunk);
  }
  // A digest of damaged content would be trusted from then on.
  const found = check.digest("hex");
  if (found !== checksum) throw damagedObject(repo, checksum, contentType(repo), found);
  return { kind: "external", sizeBytes, payload, digest: hasher.digestHex() };
}

function emptyDirectory(): DirectoryNode {
  return {
    kind: "directory",
    mode: S_IFDIR | 0o755,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    xattrs: NO_XATTRS,
    entries: new Map(),
  };
}
