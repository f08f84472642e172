// One addon with the executable that mounts the root, for all unified kernels of a machine (`--shared-runtime`): the
// boot partition then holds it once, and each kernel only what is its own. Named by the executable's content, so that
// several versions lie side by side (docs/decisions/0020).

import { join } from "node:path";
import { pipeline, Readable } from "node:stream";
import { createGzip, createZstdCompress } from "node:zlib";
import { StateError } from "../../shared/error.ts";
import { writeCpio } from "../../shared/format/cpio/writer.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat, writeAll } from "../../shared/sys/file.ts";
import { openFileContent } from "../image/file-content.ts";
import { lookupFile } from "../image/tree-lookup.ts";
import type { InitramfsCompression } from "./initramfs-scan.ts";

const PROGRAM = "usr/lib/bootc/prepare-root";
export const RUNTIME_DIRECTORY = "usr/lib/bootc/runtime";
export const RUNTIME_PREFIX = "bootc-runtime-";
/** Of the digest's digits in the name. */
const NAME_DIGITS = 32;

export interface RuntimeArchive {
  /** Of the addon. */
  readonly name: string;
  /** The compressed archive with the executable. */
  readonly path: string;
}

/**
 * StateError when the image has no executable. `compression`: of the image's own initramfs, which its kernel
 * understands; every kernel understands gzip.
 */
export async function packRuntime(
  repo: Repository,
  tree: DirectoryNode,
  compression: InitramfsCompression,
  directory: string,
): Promise<RuntimeArchive> {
  const file = lookupFile(tree, PROGRAM);
  if (file === null) {
    throw new StateError(
      "missing",
      `The image has no "/${PROGRAM}", which --shared-runtime is about`,
    );
  }
  const hasher = new Bun.CryptoHasher("sha256");
  let sizeBytes = 0;
  for (const chunk of openFileContent(repo, file)) {
    hasher.update(chunk);
    sizeBytes += chunk.length;
  }
  const digest = hasher.digest("hex");
  const content = openFileContent(repo, file);
  const program = `${RUNTIME_DIRECTORY}/${digest}/prepare-root`;
  const archive = writeCpio([{ path: program, mode: 0o755, sizeBytes, content }]);
  const path = join(directory, "runtime.cpio");
  const compress = compression === "zstd" ? createZstdCompress() : createGzip({ level: 9 });
  // Not `pipe`: a damaged file would leave the reader waiting for ever.
  pipeline(Readable.from(copied(archive)), compress, () => {});
  await writeStream(path, compress);
  return { name: runtimeAddonName(digest), path };
}

/** `digest`: SHA-256 of the executable, hex. */
export function runtimeAddonName(digest: string): string {
  return `${RUNTIME_PREFIX}${digest.slice(0, NAME_DIGITS)}.addon.efi`;
}

/** Streams keep what they are given for a while. */
function* copied(chunks: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const chunk of chunks) if (chunk.length > 0) yield chunk.slice();
}

async function writeStream(path: string, chunks: AsyncIterable<Uint8Array>): Promise<void> {
  using fd = openat(null, path, O.WRONLY | O.CREAT | O.EXCL, 0o600);
  for await (const chunk of chunks) writeAll(fd, chunk);
}
