// fs-verity's tree level by level, for files and parts of files whose hashes fit in memory: what several
// threads compute of one file. The rules are those of digest.ts; nothing is allocated for each block.
//
// Blocks of a level do not depend on each other. A part that begins and ends where blocks of hashes do (every
// 512 KiB of content with SHA-256, 256 KiB with SHA-512) comes to the hashes of these blocks, which
// VerityHasher.addRange takes; only the last part of a file may end elsewhere.

import {
  BLOCK_BYTES,
  FsverityDescriptor,
  HASHES,
  type VerityAlgorithm,
  verityAlgorithmId,
} from "./digest.ts";

/** One scratch for both: some of Bun's hashers ask for room for the longest hash. */
const hash = new Uint8Array(64);
const HASH_VIEWS = { sha256: hash.subarray(0, 32), sha512: hash } as const;

/**
 * Hashes the blocks of `data[0, sizeBytes)` into `out`, which may be `data` itself; returns the bytes
 * written. The last block is padded in `data`, which has room for whole blocks.
 */
export function hashBlocks(
  algorithm: VerityAlgorithm,
  data: Uint8Array,
  sizeBytes: number,
  out: Uint8Array,
): number {
  const hasher = HASHES[algorithm];
  const view = HASH_VIEWS[algorithm];
  const rest = sizeBytes % BLOCK_BYTES;
  if (rest > 0) data.fill(0, sizeBytes, sizeBytes - rest + BLOCK_BYTES);
  let written = 0;
  for (let at = 0; at < sizeBytes; at += BLOCK_BYTES) {
    hasher.hash(data.subarray(at, at + BLOCK_BYTES), hash);
    out.set(view, written);
    written += view.length;
  }
  return written;
}

const descriptors = new Map<VerityAlgorithm, Uint8Array>();

/**
 * Digest of a file of `fileBytes` (not empty) by the hashes of its blocks, `hashes[0, usedBytes)`, which
 * are overwritten. Lasts until the next call here.
 */
export function digestOfHashes(
  algorithm: VerityAlgorithm,
  hashes: Uint8Array,
  usedBytes: number,
  fileBytes: number,
): Uint8Array {
  const view = HASH_VIEWS[algorithm];
  let used = usedBytes;
  while (used > view.length) used = hashBlocks(algorithm, hashes, used, hashes);
  let descriptor = descriptors.get(algorithm);
  if (descriptor === undefined) {
    descriptor = FsverityDescriptor.encode({ hashAlgorithm: verityAlgorithmId(algorithm) });
    descriptors.set(algorithm, descriptor);
  }
  const { dataSize, rootHash } = FsverityDescriptor.offsets;
  const target = new DataView(descriptor.buffer);
  target.setUint32(dataSize, fileBytes % 2 ** 32, true);
  target.setUint32(dataSize + 4, Math.floor(fileBytes / 2 ** 32), true);
  descriptor.set(hashes.subarray(0, view.length), rootHash);
  HASHES[algorithm].hash(descriptor, hash);
  return view;
}
