// Builds a splitstream in one pass. Literal bytes are compressed as they come, so memory holds only
// the compressed form (a few per cent of a layer) and the list of object digests.
//
// Adjacent literals are joined up to a bound; readers do not care where literals are cut.

import { once } from "node:events";
import { createZstdCompress, type ZstdCompress, zstdCompressSync } from "node:zlib";
import { fromHex } from "../../bytes/hex.ts";
import { FormatError } from "../../error.ts";
import { type VerityAlgorithm, verityAlgorithmId } from "../verity/digest.ts";
import {
  type ContentType,
  encodeContentType,
  HEADER_SIZE_BYTES,
  INFO_SIZE_BYTES,
  MAGIC,
  SplitStreamHeader,
  SplitStreamInfo,
} from "./format.ts";

/** Bytes handed to the compressor at once. */
const BUFFER_BYTES = 1 << 18;
/** Compressed literals are kept in memory; a layer of a million files needs about a third of this. */
const MAX_COMPRESSED_BYTES = 128 << 20;
const CHUNK_HEADER_BYTES = 8;

export class SplitStreamWriter {
  readonly #algorithm: VerityAlgorithm;
  readonly #contentType: ContentType;
  readonly #objectIndexes = new Map<string, number>();
  readonly #namedRefs = new Map<string, string>();
  #sizeBytes = 0;
  #buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  #bufferFill = 0;
  /** Start of the open literal chunk in the buffer, -1 when none is open. */
  #literalStart = -1;
  #compressor: ZstdCompress | null = null;
  #compressed: Uint8Array[] = [];
  #compressedBytes = 0;
  #failure: Error | null = null;

  constructor(algorithm: VerityAlgorithm, contentType: ContentType) {
    this.#algorithm = algorithm;
    this.#contentType = contentType;
  }

  /** Copies `bytes`. */
  writeInline(bytes: Uint8Array): void {
    this.#sizeBytes += bytes.length;
    let at = 0;
    while (at < bytes.length) {
      if (this.#literalStart < 0) this.#openLiteral();
      const take = Math.min(bytes.length - at, BUFFER_BYTES - this.#bufferFill);
      this.#buffer.set(
        take === bytes.length ? bytes : bytes.subarray(at, at + take),
        this.#bufferFill,
      );
      this.#bufferFill += take;
      at += take;
      if (this.#bufferFill === BUFFER_BYTES) this.#flush();
    }
  }

  /** The whole content of object `digest`, which is `sizeBytes` long. */
  writeExternal(digest: string, sizeBytes: number): void {
    this.#sizeBytes += sizeBytes;
    let index = this.#objectIndexes.get(digest);
    if (index === undefined) {
      index = this.#objectIndexes.size;
      this.#objectIndexes.set(digest, index);
    }
    this.#closeLiteral();
    if (this.#bufferFill + CHUNK_HEADER_BYTES > BUFFER_BYTES) this.#flush();
    this.#buffer.writeBigInt64LE(BigInt(index), this.#bufferFill);
    this.#bufferFill += CHUNK_HEADER_BYTES;
  }

  /** Names another stream (or image) object; the collector keeps it alive. Last one wins. */
  addNamedRef(name: string, digest: string): void {
    this.#namedRefs.set(name, digest);
  }

  /** Waits until the compressor keeps up; call between chunks of input. */
  async drain(): Promise<void> {
    this.#checkFailure();
    const compressor = this.#compressor;
    if (compressor?.writableNeedDrain !== true) return;
    await once(compressor, "drain");
    this.#checkFailure();
  }

  /** The pieces of the file, in order. */
  async finish(): Promise<Uint8Array[]> {
    const stream = await this.#finishStream();
    // Sorted, so that the same references always make the same file.
    const refs = [...this.#namedRefs]
      .map(([name, digest]) => ({ name: Buffer.from(name), digest }))
      .sort((a, b) => Buffer.compare(a.name, b.name));
    const streamRefs = [...new Set(refs.map(({ digest }) => digest))];
    const named = zstdCompressSync(encodeNamedRefs(refs, streamRefs));
    const streamRefBytes = fromHex(streamRefs.join(""));
    const objectRefBytes = fromHex([...this.#objectIndexes.keys()].join(""));
    const infoEnd = HEADER_SIZE_BYTES + INFO_SIZE_BYTES;
    const streamRefsEnd = infoEnd + streamRefBytes.length;
    const objectRefsEnd = streamRefsEnd + objectRefBytes.length;
    const namedRefsEnd = objectRefsEnd + named.length;
    const streamBytes = stream.reduce((sum, piece) => sum + piece.length, 0);
    const header = SplitStreamHeader.encode({
      magic: Buffer.from(MAGIC, "latin1"),
      algorithm: verityAlgorithmId(this.#algorithm),
      infoStart: HEADER_SIZE_BYTES,
      infoEnd,
    });
    const info = SplitStreamInfo.encode({
      streamRefsStart: infoEnd,
      streamRefsEnd,
      objectRefsStart: streamRefsEnd,
      objectRefsEnd,
      namedRefsStart: objectRefsEnd,
      namedRefsEnd,
      streamStart: namedRefsEnd,
      streamEnd: namedRefsEnd + streamBytes,
      contentType: encodeContentType(this.#contentType),
      streamSize: this.#sizeBytes,
    });
    return [header, info, streamRefBytes, objectRefBytes, named, ...stream];
  }

  /** Frees the compressor when the stream is given up. */
  [Symbol.dispose](): void {
    this.#compressor?.destroy();
    this.#compressed = [];
  }

  #openLiteral(): void {
    // A literal needs its header and at least one byte.
    if (this.#bufferFill + CHUNK_HEADER_BYTES >= BUFFER_BYTES) this.#flush();
    this.#literalStart = this.#bufferFill;
    this.#bufferFill += CHUNK_HEADER_BYTES;
  }

  #closeLiteral(): void {
    if (this.#literalStart < 0) return;
    const lengthBytes = this.#bufferFill - this.#literalStart - CHUNK_HEADER_BYTES;
    this.#buffer.writeBigInt64LE(BigInt(-lengthBytes), this.#literalStart);
    this.#literalStart = -1;
  }

  #flush(): void {
    this.#closeLiteral();
    this.#compressor ??= this.#startCompressor();
    this.#compressor.write(this.#buffer.subarray(0, this.#bufferFill));
    this.#buffer = Buffer.allocUnsafe(BUFFER_BYTES);
    this.#bufferFill = 0;
  }

  #startCompressor(): ZstdCompress {
    const compressor = createZstdCompress({ chunkSize: BUFFER_BYTES });
    compressor.on("data", (piece: Buffer) => {
      this.#compressedBytes += piece.length;
      this.#compressed.push(piece);
    });
    compressor.on("error", (error) => {
      this.#failure = error;
    });
    return compressor;
  }

  /** One frame; small streams never start the asynchronous compressor. */
  async #finishStream(): Promise<Uint8Array[]> {
    this.#closeLiteral();
    const rest = this.#buffer.subarray(0, this.#bufferFill);
    const compressor = this.#compressor;
    if (compressor === null) return [zstdCompressSync(rest)];
    // Ended while something is still queued, node:zlib ends the frame twice: an empty one follows.
    await new Promise<void>((resolve) => compressor.write(rest, () => resolve()));
    this.#checkFailure();
    compressor.end();
    await once(compressor, "end");
    this.#checkFailure();
    return this.#compressed;
  }

  #checkFailure(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.#compressedBytes > MAX_COMPRESSED_BYTES) {
      throw new FormatError(
        "limit",
        `Archive has more than ${MAX_COMPRESSED_BYTES >> 20} MiB of headers and small files`,
        { format: "splitstream" },
      );
    }
  }
}

/** "<index>:<name>\0" in the order given, which must be that of the names' bytes. */
function encodeNamedRefs(
  refs: readonly { readonly name: Buffer; readonly digest: string }[],
  streamRefs: readonly string[],
): Uint8Array {
  const indexes = new Map(streamRefs.map((digest, index) => [digest, index]));
  return Buffer.concat(
    refs.flatMap(({ name, digest }) => [
      Buffer.from(`${indexes.get(digest)}:`),
      name,
      Buffer.of(0),
    ]),
  );
}
