// Makes the EROFS images of a pulled OCI image and records them in its streams.
//
// Two images, as composefs-rs keeps them: the plain one, and the one that boots, whose digest is the
// deployment id. The tag that protects all of it from garbage collection is set last.

import { writeErofs } from "../../shared/format/erofs/writer.ts";
import type { Cmdline } from "../../shared/format/kargs/cmdline.ts";
import { mergeKargsFiles, rustArchitecture } from "../../shared/format/kargs/kargs-d.ts";
import {
  type DirectoryNode,
  type FileNode,
  fromByteString,
} from "../../shared/format/tree/node.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import { publishImage } from "../../shared/store/images.ts";
import type { ErofsVersion } from "../../shared/store/metadata.ts";
import { setRef } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { type BootKernel, findBootKernel } from "./boot-kernel.ts";
import { type FileReader, readFileContent } from "./file-content.ts";
import { IMAGE_REF_PREFIX, manifestStreamName, publishImageStreams } from "./image-streams.ts";
import { readOsRelease } from "./os-release.ts";
import type { PulledImage } from "./pull.ts";
import { readUnifiedKernel, requireSeal, type Seal } from "./sealed-image.ts";
import { transformForBoot, transformForOci } from "./transform.ts";
import { readImageTree } from "./tree.ts";
import { lookup, lookupDirectory } from "./tree-lookup.ts";

const KARGS_DIRECTORY = "usr/lib/bootc/kargs.d";
/** Configuration read from images: os-release, kargs.d, SELinux contexts. */
const MAX_CONFIG_BYTES = 16 << 20;

export interface BootImage {
  /** fs-verity digest of the boot image, lower-case hex. */
  readonly deploymentId: string;
  /** What it contains; the files of `kernel` may have been taken out (/boot). */
  readonly tree: DirectoryNode;
  readonly kernel: BootKernel;
  /** What the unified kernel's own command line says; null without one, and for a plain kernel. */
  readonly seal: Seal | null;
  /** Of a unified kernel: what it says itself. */
  readonly osRelease: ReadonlyMap<string, string>;
  /** The image's own kernel arguments for this machine's architecture. */
  readonly kargsD: Cmdline;
}

/** Name of the tag that keeps the image of a deployment; as bootc's. */
export function deploymentTag(manifestDigest: string): string {
  return `localhost/bootc-${manifestDigest}`;
}

/** A tag's path below streams/refs. */
export function tagRefName(tag: string): string {
  return `oci/${tag.replaceAll("%", "%25").replaceAll("/", "%2F")}`;
}

/**
 * FormatError when the image cannot boot (no kernel, no /usr, /boot or /sysroot) or its layers clash.
 * IntegrityError when it is not the image its unified kernel was sealed for; `ignoreSeal` only stores it.
 */
export async function makeBootImage(
  repo: Repository,
  pulled: PulledImage,
  options: { readonly ignoreSeal?: boolean } = {},
): Promise<BootImage> {
  const readFile: FileReader = (file) => readFileContent(repo, file, MAX_CONFIG_BYTES);
  const tree = await readImageTree(repo, pulled.config.rootfs.diff_ids);
  transformForOci(tree);
  const kernel = findBootKernel(tree);
  const unified =
    kernel.kind === "uki" && options.ignoreSeal !== true ? readUnifiedKernel(repo, kernel) : null;
  const osRelease = unified?.osRelease ?? readOsRelease(tree, readFile);
  const kargsD = readKargs(tree, readFile);
  const plain = commitTree(repo, tree);
  transformForBoot(tree, readFile);
  const made = commitTree(repo, tree);
  const seal =
    kernel.kind === "uki" && unified !== null
      ? requireSeal(repo, kernel, unified, { tree, ids: made })
      : null;
  const boot = seal === null ? made : commitSealed(repo, tree, made, seal);
  await publishImageStreams(
    repo,
    pulled,
    new Map([
      ...[...plain].map(([version, id]) => [imageRefName(false, version), id] as const),
      ...[...boot].map(([version, id]) => [imageRefName(true, version), id] as const),
    ]),
  );
  const deploymentId = seal?.id ?? boot.get(repo.erofsVersion)!;
  setRef(
    repo,
    "streams",
    tagRefName(deploymentTag(pulled.manifestDigest)),
    manifestStreamName(pulled.manifestDigest),
  );
  return { deploymentId, tree, kernel, seal, osRelease, kargsD };
}

/** The id of the image that `makeBootImage` would make, or of the plain one; stores nothing. */
export async function computeImageId(
  repo: Repository,
  diffIds: readonly string[],
  options: { readonly bootable: boolean },
): Promise<string> {
  const version = repo.erofsVersion;
  const image = await buildImage(repo, diffIds, { ...options, version });
  return computeVerityDigest(image, repo.algorithm);
}

/** The EROFS image of these layers, as the format `version` has it; stores nothing. */
export async function buildImage(
  repo: Repository,
  diffIds: readonly string[],
  options: { readonly bootable: boolean; readonly version: ErofsVersion },
): Promise<Uint8Array> {
  const tree = await readRootTree(repo, diffIds, options);
  return writeErofs(tree, { version: options.version, dialect: "rust" }, repo.algorithm);
}

/** What the plain image of these layers has in it, or the one that boots. */
export async function readRootTree(
  repo: Repository,
  diffIds: readonly string[],
  options: { readonly bootable: boolean },
): Promise<DirectoryNode> {
  const tree = await readImageTree(repo, diffIds);
  transformForOci(tree);
  if (options.bootable) {
    transformForBoot(tree, (file) => readFileContent(repo, file, MAX_CONFIG_BYTES));
  }
  return tree;
}

/** Name of a config's reference to an image; V2 images have those without a suffix (composefs-rs.md 2.1). */
export function imageRefName(bootable: boolean, version: ErofsVersion): string {
  return `${IMAGE_REF_PREFIX}${bootable ? ".boot" : ""}${version === 2 ? "" : ".v1"}`;
}

/** In every format of the repository; as in composefs-rs no extra one has a reference but V1 and V2. */
function commitTree(repo: Repository, tree: DirectoryNode): ReadonlyMap<ErofsVersion, string> {
  const extra = repo.extraErofsVersions.filter((version) => version !== 0);
  const ids = [repo.erofsVersion, ...extra].map((version): [ErofsVersion, string] => {
    const image = writeErofs(tree, { version, dialect: "rust" }, repo.algorithm);
    return [version, publishImage(repo, image)];
  });
  return new Map(ids);
}

/** With the image that the kernel starts, when it is in another format than the repository's. */
function commitSealed(
  repo: Repository,
  tree: DirectoryNode,
  made: ReadonlyMap<ErofsVersion, string>,
  { version }: Seal,
): ReadonlyMap<ErofsVersion, string> {
  if (made.has(version)) return made;
  const image = writeErofs(tree, { version, dialect: "rust" }, repo.algorithm);
  return new Map([...made, [version, publishImage(repo, image)]]);
}

/** The image's kargs.d, for this machine's architecture. */
export function readKargs(root: DirectoryNode, readFile: FileReader): Cmdline {
  const directory = lookupDirectory(root, KARGS_DIRECTORY);
  const files = new Map<string, string>();
  for (const name of directory?.entries.keys() ?? []) {
    const text = fromByteString(name);
    const node = lookup(root, `${KARGS_DIRECTORY}/${text}`);
    if (node?.kind === "file") files.set(text, readText(node, readFile));
  }
  return mergeKargsFiles(files, rustArchitecture(process.arch));
}

function readText(file: FileNode, readFile: FileReader): string {
  return Buffer.from(readFile(file)).toString("utf8");
}
