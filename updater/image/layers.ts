// Imports one layer: compressed bytes -> tar -> objects and a splitstream.
//
// Nothing refers to what is written here until the caller publishes the stream, which it does only
// after both digests agreed: that of the blob (checked by the source) and that of the tar (diff_id).
// A whole chunk is parsed and stored without waiting; only chunks are awaited.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { createDigestHash, splitDigest } from "../../shared/format/oci/digest.ts";
import { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import { TarReader, type TarSink } from "../../shared/format/tar/reader.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ByteSource } from "./blob.ts";
import { type Compression, decompress } from "./decompression.ts";
import { storeStream } from "./image-streams.ts";
import { LayerSplitter } from "./layer-splitter.ts";
import { createObjectPool, expectWork, hasHelpers, type ObjectPool } from "./object-pool.ts";

/** A layer may unpack to this much, plus this many times its compressed size. */
const FREE_EXPANSION_BYTES = 4 * 2 ** 30;
const MAX_EXPANSION_RATIO = 200;
/** A layer of this size is worth a thread that decompresses it. */
const THREAD_BYTES = 4 << 20;

/** What a layer of this size may unpack to. */
export function limitTarBytes(compressedBytes: number): number {
  return FREE_EXPANSION_BYTES + MAX_EXPANSION_RATIO * compressedBytes;
}

export interface LayerInput {
  /** Compressed, verified. */
  readonly chunks: ByteSource;
  readonly compressedBytes: number;
  /** What the source checks `chunks` against. */
  readonly blobDigest: string;
  /** Digest of the uncompressed tar, from the config. */
  readonly diffId: string;
  /** "Layer sha256:…", for messages. */
  readonly what: string;
  /** Threads that several layers share; without it the layer has its own. */
  readonly pool?: ObjectPool;
}

/**
 * Stores the layer's objects and its splitstream; returns the splitstream's digest.
 * IntegrityError when the blob or the tar is not what was promised, FormatError when it is malformed.
 */
export async function importLayer(repo: Repository, input: LayerInput): Promise<string> {
  using own = input.pool === undefined ? createObjectPool(repo) : null;
  const pool = input.pool ?? own!;
  expectWork(pool, input.compressedBytes);
  using writer = new SplitStreamWriter(repo.algorithm, "ocilayer");
  using splitter = new LayerSplitter(repo, writer, pool);
  await readLayer({ ...input, pool }, splitter, () => splitter.drain());
  splitter.finish();
  return await storeStream(repo, writer);
}

/**
 * Decompresses and parses the layer; `drain` is awaited between chunks. What the sink got counts only
 * when this returns. IntegrityError and FormatError as `importLayer`.
 */
export async function readLayer(
  input: LayerInput,
  sink: TarSink,
  drain: () => Promise<void>,
): Promise<void> {
  const { what, diffId } = input;
  const reader = new TarReader(sink);
  const hash = createDigestHash(diffId);
  // An uncompressed layer is its own tar, and that digest is being checked already.
  let isBlob = false as boolean;
  const onDetected = (compression: Compression): void => {
    isBlob = compression === "none" && input.blobDigest === diffId;
  };
  const options = {
    reusesChunks: true,
    inThread: deservesThread(input),
    limitBytes: limitTarBytes(input.compressedBytes),
    onDetected,
  };
  let malformed: FormatError | null = null;
  for await (const chunk of decompress(input.chunks, what, options)) {
    if (!isBlob) hash.update(chunk);
    // A malformed tar is read on: if a digest is wrong as well, that is the cause to report.
    malformed ??= parseChunk(reader, chunk, what);
    await drain();
  }
  const found = isBlob ? diffId : `${splitDigest(diffId).algorithm}:${hash.digest("hex")}`;
  if (found !== diffId) {
    throw new IntegrityError(
      "digest-mismatch",
      `${what} unpacks to a tar with digest ${found}, the image promises ${diffId}`,
      { digest: diffId, found },
    );
  }
  malformed ??= parseChunk(reader, null, what);
  if (malformed !== null) throw malformed;
}

/** Whether to decompress it in a thread of its own, beside those that store objects. */
function deservesThread({ pool, compressedBytes }: LayerInput): boolean {
  return pool !== undefined && hasHelpers(pool) && compressedBytes >= THREAD_BYTES;
}

/** The error of a malformed archive; others are thrown. `chunk` null: the end. */
function parseChunk(reader: TarReader, chunk: Uint8Array | null, what: string): FormatError | null {
  try {
    if (chunk === null) reader.finish();
    else reader.write(chunk);
    return null;
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return new FormatError(error.code, `${what} cannot be read`, error.context, { cause: error });
  }
}
