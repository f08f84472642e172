// Fetches files of a zstd:chunked layer: a few ranges at a time, each file decompressed alone and stored as
// soon as it has the digest that the table of contents promises.

import { zstdDecompressSync } from "node:zlib";
import { FormatError, IntegrityError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import type { ChunkedFile } from "../../shared/format/zstd-chunked/toc.ts";
import { createObject, storeObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ByteSource } from "./blob.ts";
import { ByteQueue } from "./byte-queue.ts";
import type { FileRange } from "./chunked-ranges.ts";
import type { RangeOpener } from "./chunked-toc.ts";
import { decompress } from "./decompression.ts";
import { INLINE_MAX_BYTES } from "./layer-splitter.ts";
import type { StoredContent } from "./stored-files.ts";
import { workThrough } from "./work-queue.ts";

const PARALLEL_RANGES = 3;
/** Larger files are decompressed as a stream. */
const SMALL_BYTES = 1 << 20;

/**
 * Calls `store` for every file of `ranges`, in no order. IntegrityError and FormatError when the bytes are
 * not what the table promises; what `openRange` throws.
 */
export async function fetchFiles(
  repo: Repository,
  openRange: RangeOpener,
  ranges: readonly FileRange[],
  store: (file: ChunkedFile, content: StoredContent) => void,
  signal: AbortSignal,
): Promise<void> {
  const failure = new AbortController();
  const stop = AbortSignal.any([signal, failure.signal]);
  await workThrough(ranges, PARALLEL_RANGES, failure, async (range) => {
    await using bytes = new ByteQueue(openRange(range, stop));
    let at = range.startByte;
    for (const file of range.files) {
      stop.throwIfAborted();
      await bytes.skip(file.startByte - at);
      store(file, await storeFile(repo, file, bytes));
      at = file.endByte;
    }
  });
  stop.throwIfAborted();
}

async function storeFile(
  repo: Repository,
  file: ChunkedFile,
  bytes: ByteQueue,
): Promise<StoredContent> {
  const compressedBytes = file.endByte - file.startByte;
  if (compressedBytes <= SMALL_BYTES && file.sizeBytes <= SMALL_BYTES) {
    const content = decompressSmall(await bytes.take(compressedBytes), file);
    checkDigest(computeDigest(content), file);
    return content.length <= INLINE_MAX_BYTES
      ? { kind: "bytes", bytes: content }
      : { kind: "object", digest: storeObject(repo, content) };
  }
  return await storeLarge(repo, file, bytes.stream(compressedBytes));
}

function decompressSmall(bytes: Uint8Array, { name, sizeBytes }: ChunkedFile): Uint8Array {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: sizeBytes });
  } catch (cause) {
    throw new FormatError("bad-value", `File "${name}" is not valid zstd data`, {}, { cause });
  }
}

async function storeLarge(
  repo: Repository,
  file: ChunkedFile,
  compressed: ByteSource,
): Promise<StoredContent> {
  using object = createObject(repo);
  const hasher = new Bun.CryptoHasher("sha256");
  let sizeBytes = 0;
  for await (const chunk of decompress(compressed, `File "${file.name}"`)) {
    sizeBytes += chunk.length;
    if (sizeBytes > file.sizeBytes) break;
    hasher.update(chunk);
    object.write(chunk);
  }
  checkDigest(`sha256:${hasher.digest("hex")}`, file);
  // Without content it would not be an object; the table has no such files.
  return { kind: "object", digest: object.finish().digest };
}

function checkDigest(found: string, { name, digest }: ChunkedFile): void {
  if (found === digest) return;
  throw new IntegrityError(
    "digest-mismatch",
    `File "${name}" has digest ${found}, the table of contents promises ${digest}`,
    { digest, found },
  );
}
