// What storing a layer takes on the disk. Exact for the contents of files when a table of contents lists
// them; what file systems and fs-verity add is counted in whole blocks.

import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ChunkedLayer } from "./chunked-toc.ts";
import { INLINE_MAX_BYTES } from "./layer-splitter.ts";
import type { StoredContent } from "./stored-files.ts";

export interface DiskUse {
  /** Contents of new files. */
  readonly contentBytes: number;
  /** With block rounding, fs-verity's hashes and the layer's headers. */
  readonly diskBytes: number;
  readonly inodes: number;
  /** What is certainly needed, also when the others are estimates. */
  readonly leastBytes: number;
  readonly leastInodes: number;
  /** False: an estimate, rather too much than too little. */
  readonly isExact: boolean;
}

export type StoreSettings = Pick<Repository, "algorithm" | "secure">;

export const NO_USE: DiskUse = {
  contentBytes: 0,
  diskBytes: 0,
  inodes: 0,
  leastBytes: 0,
  leastInodes: 0,
  isExact: true,
};

const BLOCK_BYTES = 4096;
/** Root file systems compress to a third or better with gzip and zstd, seldom to less than a quarter. */
const ESTIMATED_EXPANSION = 4;
/** Of an estimated layer; those of distributions have 20 to 60 kB for each file. */
const ESTIMATED_FILE_BYTES = 16 << 10;
/** Headers of one file: in the splitstream, compressed, and in the EROFS image. */
const HEADER_BYTES = 320;

/** `counted` are digests that other layers write already; new ones are added. */
export function measureWritten(
  { algorithm, secure }: StoreSettings,
  { files, tarSplit }: ChunkedLayer,
  found: ReadonlyMap<string, StoredContent>,
  counted: Set<string>,
): DiskUse {
  const hashBytes = algorithm === "sha512" ? 64 : 32;
  let [contentBytes, blocks, inodes] = [0, 0, 1];
  for (const { digest, sizeBytes } of files) {
    if (sizeBytes <= INLINE_MAX_BYTES || found.has(digest) || counted.has(digest)) continue;
    counted.add(digest);
    const contentBlocks = Math.ceil(sizeBytes / BLOCK_BYTES);
    contentBytes += sizeBytes;
    blocks += contentBlocks;
    inodes += 1;
    if (secure) blocks += 1 + Math.ceil((contentBlocks * hashBytes * 1.02) / BLOCK_BYTES);
  }
  const diskBytes = blocks * BLOCK_BYTES + tarSplit.length + files.length * HEADER_BYTES;
  return {
    contentBytes,
    diskBytes,
    inodes,
    leastBytes: diskBytes,
    leastInodes: inodes,
    isExact: true,
  };
}

/**
 * For a layer without a table. `unpackedBytes` when the layer tells. `isFirst`: nothing is stored yet, so
 * nothing of it can be there already.
 */
export function estimateWritten(
  { size, mediaType }: Descriptor,
  unpackedBytes: number | null,
  isFirst: boolean,
): DiskUse {
  const isCompressed = /[+.](?:gzip|zstd)$/.test(mediaType);
  const contentBytes = unpackedBytes ?? (isCompressed ? size * ESTIMATED_EXPANSION : size);
  const inodes = Math.ceil(contentBytes / ESTIMATED_FILE_BYTES);
  const leastBytes = isFirst && unpackedBytes !== null ? unpackedBytes : size;
  const least = { leastBytes, leastInodes: 1 };
  return { contentBytes, diskBytes: contentBytes, inodes, ...least, isExact: false };
}

export function addWritten(a: DiskUse, b: DiskUse): DiskUse {
  return {
    contentBytes: a.contentBytes + b.contentBytes,
    diskBytes: a.diskBytes + b.diskBytes,
    inodes: a.inodes + b.inodes,
    leastBytes: a.leastBytes + b.leastBytes,
    leastInodes: a.leastInodes + b.leastInodes,
    isExact: a.isExact && b.isExact,
  };
}
