// fs-verity digests (kernel Documentation/filesystems/fsverity.rst): the name of every object.
//
// Merkle tree over 4096-byte blocks, no salt. A level's hashes are concatenated, split into blocks,
// zero-padded and hashed again until one block is left; its hash is the root. An empty file has an
// all-zero root (the kernel's rule). The digest is the hash of the 256-byte descriptor.

import { bytes, constant, struct, u8, u64n, zeros } from "../../bytes/layout.ts";

export type VerityAlgorithm = "sha256" | "sha512";

export const BLOCK_BYTES = 4096;
const LOG_BLOCK_BYTES = 12;
const HASH_BYTES = { sha256: 32, sha512: 64 } as const;
const ALGORITHM_ID = { sha256: 1, sha512: 2 } as const;
/** Bun's own: as fast as node:crypto, which would cost prepare-root half its start-up time to load. */
export const HASHES = { sha256: Bun.SHA256, sha512: Bun.SHA512 } as const;

export const FsverityDescriptor = struct("fsverity_descriptor", 256, {
  version: constant(u8, 1),
  hashAlgorithm: u8,
  logBlockSize: constant(u8, LOG_BLOCK_BYTES),
  saltSize: zeros(1),
  reserved0x04: zeros(4),
  dataSize: u64n,

  rootHash: bytes(64),

  salt: zeros(32),

  reserved: zeros(144),
});

/** Hash size in bytes: 32 or 64. */
export function verityHashBytes(algorithm: VerityAlgorithm): number {
  return HASH_BYTES[algorithm];
}

/** Number in descriptors, ioctls and metacopy xattrs: 1 or 2. */
export function verityAlgorithmId(algorithm: VerityAlgorithm): number {
  return ALGORITHM_ID[algorithm];
}

/** Incremental digest; pieces may have any size. After `digestHex` it must not be used again. */
export class VerityHasher {
  readonly algorithm: VerityAlgorithm;
  #sizeBytes = 0;
  #pending = new Uint8Array(BLOCK_BYTES);
  #pendingBytes = 0;
  // One block of hashes per tree level; a full block is hashed into the level above.
  #levels: { block: Uint8Array; usedBytes: number; blocks: number }[] = [];

  constructor(algorithm: VerityAlgorithm) {
    this.algorithm = algorithm;
  }

  update(data: Uint8Array): this {
    this.#sizeBytes += data.length;
    let at = 0;
    if (this.#pendingBytes > 0) {
      at = Math.min(data.length, BLOCK_BYTES - this.#pendingBytes);
      this.#pending.set(data.subarray(0, at), this.#pendingBytes);
      this.#pendingBytes += at;
      if (this.#pendingBytes < BLOCK_BYTES) return this;
      this.#addHash(0, this.#pending);
      this.#pendingBytes = 0;
    }
    for (; at + BLOCK_BYTES <= data.length; at += BLOCK_BYTES) {
      this.#addHash(0, data.subarray(at, at + BLOCK_BYTES));
    }
    this.#pending.set(data.subarray(at));
    this.#pendingBytes = data.length - at;
    return this;
  }

  /**
   * Instead of `update`, for files of more than one block of hashes: the next `sizeBytes` bytes by the
   * hashes of their blocks of hashes (see blocks.ts).
   */
  addRange(sizeBytes: number, hashes: Uint8Array): void {
    this.#sizeBytes += sizeBytes;
    this.#levels[0] ??= { block: this.#pending, usedBytes: 0, blocks: 0 };
    for (let at = 0, step = HASH_BYTES[this.algorithm]; at < hashes.length; at += step) {
      this.#put(1, hashes.subarray(at, at + step));
    }
  }

  digestHex(): string {
    const rootHash = new Uint8Array(64);
    if (this.#sizeBytes > 0) rootHash.set(this.#finishTree());
    const descriptor = FsverityDescriptor.encode({
      hashAlgorithm: ALGORITHM_ID[this.algorithm],
      dataSize: this.#sizeBytes,
      rootHash,
    });
    return HASHES[this.algorithm].hash(descriptor, "hex");
  }

  #addHash(level: number, block: Uint8Array): void {
    this.#put(level, HASHES[this.algorithm].hash(block) as Uint8Array);
  }

  #put(level: number, hash: Uint8Array): void {
    const target = (this.#levels[level] ??= {
      block: new Uint8Array(BLOCK_BYTES),
      usedBytes: 0,
      blocks: 0,
    });
    if (target.usedBytes === BLOCK_BYTES) {
      this.#addHash(level + 1, target.block);
      target.usedBytes = 0;
    }
    target.block.set(hash, target.usedBytes);
    target.usedBytes += hash.length;
    target.blocks += 1;
  }

  #finishTree(): Uint8Array {
    if (this.#pendingBytes > 0) {
      this.#addHash(0, this.#pending.fill(0, this.#pendingBytes));
    }
    for (let level = 0; ; level++) {
      const { block, usedBytes, blocks } = this.#levels[level]!;
      // A single hash at this level is the root: its block was the whole level below.
      if (blocks === 1) return block.subarray(0, usedBytes);
      if (blocks > 0) this.#addHash(level + 1, block.fill(0, usedBytes));
    }
  }
}

/** Lower-case hex digest of a whole file's content. */
export function computeVerityDigest(content: Uint8Array, algorithm: VerityAlgorithm): string {
  return new VerityHasher(algorithm).update(content).digestHex();
}

/** Path below the object store: first two digits, slash, the rest. */
export function objectPath(digest: string): string {
  return `${digest.slice(0, 2)}/${digest.slice(2)}`;
}
