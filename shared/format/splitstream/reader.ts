// Reads splitstreams, both header layouts. Everything is bounded by the file; references must be
// whole digests, literals must be complete, and the stream must add up to the size the file states.

import { createZstdDecompress, zstdDecompressSync } from "node:zlib";
import { toHex } from "../../bytes/hex.ts";
import type { Infer } from "../../bytes/layout.ts";
import { FormatError } from "../../error.ts";
import { verityAlgorithmId, verityHashBytes } from "../verity/digest.ts";
import {
  type ContentType,
  encodeContentType,
  HEADER_SIZE_BYTES,
  INFO_SIZE_BYTES,
  MAGIC,
  OldSplitStreamHeader,
  SplitStreamHeader,
  SplitStreamInfo,
} from "./format.ts";
import { checkZstdFrame } from "./zstd-frame.ts";

const MAX_NAMED_REFS_BYTES = 4 << 20;
const CHUNK_BYTES = 1 << 18;

export interface SplitStreamRefs {
  /** Digests of the objects in the stream, lower-case hex, without repetition. */
  readonly objectRefs: string[];
  /** Name -> digest of another stream or an image. */
  readonly namedRefs: Map<string, string>;
}

export interface SplitStreamSink {
  /** Valid until return. */
  inline(bytes: Uint8Array): void;
  /** The whole content of an object; returns its size in bytes. */
  external(digest: string): number;
}

/** What a stream refers to, without reading the stream itself. Synchronous, for the collector. */
export function readSplitStreamRefs(file: Uint8Array): SplitStreamRefs {
  const { info, digestHexLength } = readInfo(file);
  const objectRefs = readDigests(
    file,
    info.objectRefsStart,
    info.objectRefsEnd,
    "object references",
    digestHexLength,
  );
  const streamRefs = readDigests(
    file,
    info.streamRefsStart,
    info.streamRefsEnd,
    "stream references",
    digestHexLength,
  );
  const named = readRange(file, info.namedRefsStart, info.namedRefsEnd, "named references");
  return { objectRefs, namedRefs: decodeNamedRefs(named, streamRefs) };
}

/** Plays the stream into `sink`; FormatError when it is damaged or not of this content type. */
export async function readSplitStream(
  file: Uint8Array,
  contentType: ContentType,
  sink: SplitStreamSink,
): Promise<void> {
  const { info } = readInfo(file);
  if (info.contentType !== encodeContentType(contentType)) {
    throw damaged("bad-value", `content type is not "${contentType}"`);
  }
  const { objectRefs } = readSplitStreamRefs(file);
  const stream = readRange(file, info.streamStart, info.streamEnd, "stream");
  checkZstdFrame(stream, "Splitstream");
  const decoder = new ChunkDecoder(objectRefs, sink, info.streamSize);
  const decompressor = createZstdDecompress({ chunkSize: CHUNK_BYTES });
  decompressor.end(stream);
  try {
    for await (const piece of decompressor) decoder.write(piece as Buffer);
  } catch (cause) {
    if (!isZlibError(cause)) throw cause;
    throw damaged("bad-value", "stream cannot be decompressed", cause);
  }
  decoder.finish();
}

interface ParsedInfo {
  readonly info: Infer<typeof SplitStreamInfo>;
  readonly digestHexLength: number;
}

function readInfo(file: Uint8Array): ParsedInfo {
  const header = readHeader(file);
  const algorithm = (["sha256", "sha512"] as const).find(
    (name) => verityAlgorithmId(name) === header.algorithm,
  );
  if (algorithm === undefined) {
    throw damaged("unsupported", `hash algorithm ${header.algorithm} is unknown`);
  }
  const bytes = readRange(file, header.infoStart, header.infoEnd, "info");
  // A later version may append fields.
  if (bytes.length < INFO_SIZE_BYTES) throw damaged("truncated", "info block is too short");
  const info = SplitStreamInfo.decode(bytes.slice(0, INFO_SIZE_BYTES));
  return { info, digestHexLength: 2 * verityHashBytes(algorithm) };
}

function readHeader(file: Uint8Array): Infer<typeof SplitStreamHeader> {
  const layouts = [SplitStreamHeader, OldSplitStreamHeader];
  if (file.length < HEADER_SIZE_BYTES) throw damaged("truncated", "file is too short");
  const layout = layouts.find(
    ({ offsets }) =>
      Buffer.from(file.buffer, file.byteOffset + offsets.magic, MAGIC.length).toString("latin1") ===
      MAGIC,
  );
  if (layout === undefined) throw damaged("bad-magic", "no splitstream header");
  return layout.decode(file);
}

function readRange(file: Uint8Array, start: number, end: number, what: string): Uint8Array {
  if (start > end || end > file.length) {
    throw damaged("truncated", `${what} at ${start}..${end} of ${file.length} bytes`);
  }
  return file.subarray(start, end);
}

function readDigests(
  file: Uint8Array,
  start: number,
  end: number,
  what: string,
  hexLength: number,
): string[] {
  const hex = toHex(readRange(file, start, end, what));
  if (hex.length % hexLength !== 0) throw damaged("bad-value", `${what} are not whole digests`);
  return Array.from({ length: hex.length / hexLength }, (_, i) =>
    hex.slice(i * hexLength, (i + 1) * hexLength),
  );
}

function decodeNamedRefs(
  compressed: Uint8Array,
  streamRefs: readonly string[],
): Map<string, string> {
  checkZstdFrame(compressed, "Splitstream named references");
  const text = decompressNames(compressed);
  if (text !== "" && !text.endsWith("\0")) throw damaged("truncated", "named references are cut");
  const named = new Map<string, string>();
  // A few bytes can decompress to millions of items: never an array of them.
  for (let start = 0; start < text.length; ) {
    const end = text.indexOf("\0", start);
    const item = text.slice(start, end);
    start = end + 1;
    // Names may contain colons: "config:sha256:…".
    const match = /^(\d{1,9}):(.*)$/s.exec(item);
    const digest = streamRefs[Number(match?.[1])];
    if (match === null || digest === undefined) {
      throw damaged("bad-value", `named reference "${item}" points nowhere`);
    }
    named.set(match[2]!, digest);
  }
  return named;
}

function decompressNames(compressed: Uint8Array): string {
  try {
    return zstdDecompressSync(compressed, { maxOutputLength: MAX_NAMED_REFS_BYTES }).toString();
  } catch (cause) {
    throw damaged("bad-value", "named references cannot be decompressed", cause);
  }
}

/** Errors of the sink must not be mistaken for damage. */
function isZlibError(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && code.startsWith("ZSTD_");
}

/** Splits the decompressed stream into literals and references. */
class ChunkDecoder {
  readonly #objectRefs: readonly string[];
  readonly #sink: SplitStreamSink;
  readonly #sizeBytes: number;
  readonly #header = Buffer.alloc(8);
  #headerFill = 0;
  #literalLeft = 0;
  #done = 0;

  constructor(objectRefs: readonly string[], sink: SplitStreamSink, sizeBytes: number) {
    this.#objectRefs = objectRefs;
    this.#sink = sink;
    this.#sizeBytes = sizeBytes;
  }

  write(piece: Buffer): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#literalLeft > 0) {
        const end = Math.min(piece.length, at + this.#literalLeft);
        this.#sink.inline(piece.subarray(at, end));
        this.#literalLeft -= end - at;
        at = end;
      } else if (this.#headerFill === 0 && at + 8 <= piece.length) {
        this.#readChunkHeader(piece, at);
        at += 8;
      } else {
        this.#header[this.#headerFill++] = piece[at++]!;
        if (this.#headerFill < 8) continue;
        this.#headerFill = 0;
        this.#readChunkHeader(this.#header, 0);
      }
    }
  }

  finish(): void {
    if (this.#headerFill > 0 || this.#literalLeft > 0) throw damaged("truncated", "stream is cut");
    if (this.#done !== this.#sizeBytes) {
      throw damaged("bad-value", `stream has ${this.#done} bytes, states ${this.#sizeBytes}`);
    }
  }

  #readChunkHeader(source: Buffer, at: number): void {
    const value = Number(source.readBigInt64LE(at));
    if (value < 0) {
      this.#literalLeft = -value;
      this.#done -= value;
    } else {
      const digest = this.#objectRefs[value];
      if (digest === undefined)
        throw damaged("bad-value", `stream uses object ${value}, not listed`);
      this.#done += this.#sink.external(digest);
    }
    if (this.#done > this.#sizeBytes) throw damaged("bad-value", "stream is longer than it states");
  }
}

function damaged(code: FormatError["code"], problem: string, cause?: unknown): FormatError {
  const options = cause === undefined ? {} : { cause };
  return new FormatError(code, `Bad splitstream: ${problem}`, { format: "splitstream" }, options);
}
