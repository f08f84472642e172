// Streaming reader for image layers: bytes are pushed in, entries and contents come out.
//
// Nothing here waits: a whole decompressed chunk is parsed in one call. Every byte of the archive
// reaches the sink exactly once and in order, as `raw` or as `content`, so a splitstream can
// reproduce the tar bit for bit. After the end blocks anything may follow; it is raw.
// Formats: V7, ustar, PAX (global headers are ignored, as composefs-rs does), GNU long names.

import { FormatError } from "../../error.ts";
import { type ByteString, fromByteString } from "../tree/node.ts";
import { makeEntry, type TarEntry } from "./entry.ts";
import { BLOCK_SIZE_BYTES, parseHeader, type RawHeader } from "./header.ts";
import { type PaxOverrides, parsePax } from "./pax.ts";

export interface TarSink {
  /** Everything that is not file content: headers, extensions, padding, the end. Valid until return. */
  raw(bytes: Uint8Array): void;
  /** After the raw bytes of all its headers. */
  entry(entry: TarEntry): void;
  /** The next bytes of the current file. Valid until return. */
  content(bytes: Uint8Array): void;
  /** All content was given; not called for files of size 0. */
  contentEnd(): void;
}

/** All extension headers of one entry; the kernel's limits on names and xattrs are far below. */
const MAX_EXTENSION_BYTES = 999_999;

type State = "header" | "extension" | "content" | "padding" | "end";

export class TarReader {
  readonly #sink: TarSink;
  #state: State = "header";
  /** Bytes of the archive consumed so far. */
  #offset = 0;
  /** Where the current header block starts, for messages. */
  #headerOffset = 0;
  /** Bytes left in extension, content or padding. */
  #remaining = 0;
  #paddingBytes = 0;
  readonly #block = Buffer.alloc(BLOCK_SIZE_BYTES);
  #blockFill = 0;
  #extension = Buffer.alloc(0);
  /** Sum over the extension headers since the last entry. */
  #extensionBytes = 0;
  #extensionHeader: RawHeader | null = null;
  #overrides: PaxOverrides | null = null;
  #gnuPath: ByteString | undefined;
  #gnuLinkTarget: ByteString | undefined;
  #entry: TarEntry | null = null;
  /** The entry being read, or the last one. */
  #name: ByteString | undefined;
  #sawZeroBlock = false;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** Parses the next piece of the archive. FormatError names the entry and its offset. */
  write(piece: Uint8Array): void {
    const chunk = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    let at = 0;
    while (at < chunk.length) {
      const start = at;
      at = this.#step(chunk, at);
      this.#offset += at - start;
    }
  }

  /** Whether the content of a file of this size, none of it written yet, is what comes next. */
  awaitsContent(sizeBytes: number): boolean {
    return (
      this.#state === "content" &&
      this.#remaining === sizeBytes &&
      this.#entry?.sizeBytes === sizeBytes
    );
  }

  /** Instead of `write` for the whole content of the current file, which is kept elsewhere. */
  skipContent(): TarEntry {
    const entry = this.#entry;
    if (this.#state !== "content" || entry === null || this.#remaining !== entry.sizeBytes) {
      throw this.#error("bad-value", "content is referenced where none belongs");
    }
    this.#offset += entry.sizeBytes;
    this.#enterPadding(this.#paddingBytes);
    return entry;
  }

  /** Call after the last byte. An archive may end without end blocks, but not inside an entry. */
  finish(): void {
    const isClean =
      this.#state === "end" ||
      (this.#state === "header" && this.#blockFill === 0 && !this.#hasPending());
    if (!isClean) throw this.#error("truncated", "archive ends in the middle of an entry");
  }

  #step(chunk: Buffer, at: number): number {
    switch (this.#state) {
      case "header":
        return this.#takeHeader(chunk, at);
      case "extension":
        return this.#takeExtension(chunk, at);
      case "content":
        return this.#takeContent(chunk, at);
      case "padding": {
        const end = Math.min(chunk.length, at + this.#remaining);
        this.#sink.raw(chunk.subarray(at, end));
        this.#remaining -= end - at;
        if (this.#remaining === 0) this.#state = "header";
        return end;
      }
      case "end":
        this.#sink.raw(at === 0 ? chunk : chunk.subarray(at));
        return chunk.length;
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    if (this.#blockFill === 0 && chunk.length - at >= BLOCK_SIZE_BYTES) {
      const end = at + BLOCK_SIZE_BYTES;
      this.#headerOffset = this.#offset;
      this.#sink.raw(chunk.subarray(at, end));
      this.#readHeader(chunk, at);
      return end;
    }
    if (this.#blockFill === 0) this.#headerOffset = this.#offset;
    const end = Math.min(chunk.length, at + BLOCK_SIZE_BYTES - this.#blockFill);
    chunk.copy(this.#block, this.#blockFill, at, end);
    this.#blockFill += end - at;
    this.#sink.raw(chunk.subarray(at, end));
    if (this.#blockFill === BLOCK_SIZE_BYTES) {
      this.#blockFill = 0;
      this.#readHeader(this.#block, 0);
    }
    return end;
  }

  #readHeader(source: Buffer, offset: number): void {
    try {
      const header = parseHeader(source, offset);
      if (header === null) this.#readZeroBlock();
      else if (this.#sawZeroBlock) {
        throw new FormatError("bad-value", "an entry follows a zero block");
      } else if ("xXgLK".includes(header.typeFlag)) this.#beginExtension(header);
      else this.#beginEntry(header);
    } catch (cause) {
      throw this.#located(cause);
    }
  }

  #readZeroBlock(): void {
    if (this.#hasPending()) {
      throw new FormatError("truncated", "an extension header has no entry after it");
    }
    if (this.#sawZeroBlock) this.#state = "end";
    this.#sawZeroBlock = true;
  }

  #hasPending(): boolean {
    return (
      this.#overrides !== null || this.#gnuPath !== undefined || this.#gnuLinkTarget !== undefined
    );
  }

  #beginExtension(header: RawHeader): void {
    const { sizeBytes } = header;
    this.#extensionBytes += sizeBytes;
    if (sizeBytes < 0 || this.#extensionBytes > MAX_EXTENSION_BYTES) {
      throw new FormatError(
        "limit",
        `extension headers of ${this.#extensionBytes} bytes, at most ${MAX_EXTENSION_BYTES} are accepted`,
      );
    }
    this.#extensionHeader = header;
    this.#extension = Buffer.allocUnsafe(sizeBytes);
    this.#paddingBytes = paddingAfter(sizeBytes);
    this.#remaining = sizeBytes;
    this.#state = "extension";
    if (sizeBytes === 0) this.#endExtension();
  }

  #takeExtension(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#remaining);
    chunk.copy(this.#extension, this.#extension.length - this.#remaining, at, end);
    this.#sink.raw(chunk.subarray(at, end));
    this.#remaining -= end - at;
    if (this.#remaining === 0) {
      try {
        this.#endExtension();
      } catch (cause) {
        throw this.#located(cause);
      }
    }
    return end;
  }

  #endExtension(): void {
    const data = this.#extension;
    switch (this.#extensionHeader?.typeFlag) {
      case "x":
      case "X":
        this.#overrides ??= {};
        parsePax(data, this.#overrides);
        break;
      case "L":
        this.#gnuPath = readLongName(data);
        break;
      case "K":
        this.#gnuLinkTarget = readLongName(data);
        break;
      default: // "g": defaults for the rest of the archive; image tools put only comments there
    }
    this.#enterPadding(this.#paddingBytes);
  }

  #beginEntry(header: RawHeader): void {
    const overrides = this.#overrides ?? {};
    if (this.#gnuPath !== undefined) overrides.path ??= this.#gnuPath;
    if (this.#gnuLinkTarget !== undefined) overrides.linkTarget ??= this.#gnuLinkTarget;
    this.#name = overrides.path ?? header.name;
    const entry = makeEntry(header, overrides);
    this.#overrides = null;
    this.#extensionBytes = 0;
    this.#gnuPath = undefined;
    this.#gnuLinkTarget = undefined;
    this.#entry = entry;
    this.#sink.entry(entry);
    if (entry.sizeBytes > 0) {
      this.#state = "content";
      this.#remaining = entry.sizeBytes;
      this.#paddingBytes = paddingAfter(entry.sizeBytes);
    } else {
      this.#state = "header";
    }
  }

  #takeContent(chunk: Buffer, at: number): number {
    const end = Math.min(chunk.length, at + this.#remaining);
    this.#sink.content(chunk.subarray(at, end));
    this.#remaining -= end - at;
    if (this.#remaining === 0) {
      this.#sink.contentEnd();
      this.#enterPadding(this.#paddingBytes);
    }
    return end;
  }

  #enterPadding(sizeBytes: number): void {
    this.#remaining = sizeBytes;
    this.#state = sizeBytes === 0 ? "header" : "padding";
  }

  #located(cause: unknown): unknown {
    // Errors of the sink (disk full, …) pass through unchanged.
    if (!(cause instanceof FormatError) || cause.context["offset"] !== undefined) return cause;
    return this.#error(cause.code, cause.message);
  }

  #error(code: FormatError["code"], message: string): FormatError {
    const offset = this.#headerOffset;
    const entry = this.#name === undefined ? undefined : fromByteString(this.#name);
    const near = entry === undefined ? "" : ` near "${entry}"`;
    const text = `Bad tar archive at byte ${offset}${near}: ${message}`;
    return new FormatError(code, text, { format: "tar", entry, offset });
  }
}

function paddingAfter(sizeBytes: number): number {
  return -sizeBytes & (BLOCK_SIZE_BYTES - 1);
}

/** The data of an "L" or "K" entry: a name that ends at the first NUL. */
function readLongName(data: Buffer): ByteString {
  const end = data.indexOf(0);
  return data.toString("latin1", 0, end < 0 ? data.length : end);
}
