// Imports one layer: compressed bytes -> tar -> objects and a splitstream.
//
// Nothing refers to what is written here until the caller publishes the stream, which it does only
// after both digests agreed: that of the blob (checked by the source) and that of the tar (diff_id).
// A whole chunk is parsed and stored without waiting; only chunks are awaited.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { createDigestHash, splitDigest } from "../../shared/format/oci/digest.ts";
import { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import { TarReader, type TarSink } from "../../shared/format/tar/reader.ts";
import { createObject, type ObjectWriter, storeObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { ByteSource } from "./blob.ts";
import { decompress } from "./decompression.ts";
import { storeStream } from "./image-streams.ts";
import { splitPath } from "./layer-tree.ts";

/** Files up to this size are kept in the stream and in the image (composefs-rs, every version). */
export const INLINE_MAX_BYTES = 64;
/** A layer may unpack to this much, plus this many times its compressed size. */
const FREE_EXPANSION_BYTES = 4 * 2 ** 30;
const MAX_EXPANSION_RATIO = 200;

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
}

/**
 * Stores the layer's objects and its splitstream; returns the splitstream's digest.
 * IntegrityError when the blob or the tar is not what was promised, FormatError when it is malformed.
 */
export async function importLayer(repo: Repository, input: LayerInput): Promise<string> {
  using writer = new SplitStreamWriter(repo.algorithm, "ocilayer");
  using splitter = new LayerSplitter(repo, writer);
  await readLayer(input, splitter, () => writer.drain());
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
  // An uncompressed layer is its own tar, and that digest is being checked already.
  const hash = input.blobDigest === diffId ? null : createDigestHash(diffId);
  const limitBytes = FREE_EXPANSION_BYTES + MAX_EXPANSION_RATIO * input.compressedBytes;
  let sizeBytes = 0;
  let malformed: FormatError | null = null;
  for await (const chunk of decompress(input.chunks, what)) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) {
      throw new FormatError("limit", `${what} unpacks to more than ${limitBytes} bytes`);
    }
    hash?.update(chunk);
    // A malformed tar is read on: if a digest is wrong as well, that is the cause to report.
    malformed ??= parseChunk(reader, chunk, what);
    await drain();
  }
  const found = hash && `${splitDigest(diffId).algorithm}:${hash.digest("hex")}`;
  if (found !== null && found !== diffId) {
    throw new IntegrityError(
      "digest-mismatch",
      `${what} unpacks to a tar with digest ${found}, the image promises ${diffId}`,
      { digest: diffId, found },
    );
  }
  malformed ??= parseChunk(reader, null, what);
  if (malformed !== null) throw malformed;
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

/** Large files go to objects, everything else into the stream. */
class LayerSplitter implements TarSink {
  readonly #repo: Repository;
  readonly #writer: SplitStreamWriter;
  #fileBytes = 0;
  #object: ObjectWriter | null = null;

  constructor(repo: Repository, writer: SplitStreamWriter) {
    this.#repo = repo;
    this.#writer = writer;
  }

  raw(bytes: Uint8Array): void {
    this.#writer.writeInline(bytes);
  }

  entry(entry: TarEntry): void {
    // Whether parents exist is known only with the lower layers; what can be refused now is.
    splitPath(entry.path);
    if (entry.type === "hardlink") splitPath(entry.linkTarget);
    this.#fileBytes = entry.sizeBytes;
  }

  content(bytes: Uint8Array): void {
    if (this.#fileBytes <= INLINE_MAX_BYTES) {
      this.#writer.writeInline(bytes);
    } else if (bytes.length === this.#fileBytes) {
      this.#writer.writeExternal(storeObject(this.#repo, bytes), bytes.length);
    } else {
      this.#object ??= createObject(this.#repo);
      this.#object.write(bytes);
    }
  }

  contentEnd(): void {
    if (this.#object === null) return;
    const { digest, sizeBytes } = this.#object.finish();
    this.#object = null;
    this.#writer.writeExternal(digest, sizeBytes);
  }

  /** Drops a file that was not completed. */
  [Symbol.dispose](): void {
    this.#object?.[Symbol.dispose]();
  }
}
