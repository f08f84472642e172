// Reading what an initramfs is unpacked from: cpio archives of the format "newc", one after the other with zeros
// between them (kernel buffer-format.rst). Streams: small files that are asked for are kept, the rest passes.
//
// It ends where something else begins, which is a compressed archive: that is the caller's to unpack and to read
// with a new reader.

import { FormatError } from "../../error.ts";
import { S_IFLNK, S_IFMT, S_IFREG } from "../tree/node.ts";

export interface CpioEntry {
  /** Without "/" or "./" at the beginning. */
  readonly path: string;
  readonly mode: number;
  readonly sizeBytes: number;
}

const HEADER_BYTES = 110;
const MAGIC = /^07070[12]$/;
const TRAILER = "TRAILER!!!";
const MAX_NAME_BYTES = 4096;
const ALIGNMENT = 4;
/** A symlink's content is its target. */
const CONTENT_TYPES: readonly number[] = [S_IFREG, S_IFLNK];

export interface CpioVisitor {
  /** Called for each entry. True: the content of a file, or the target of a symlink, is wanted, at once and whole. */
  readonly wants: (entry: CpioEntry) => boolean;
  readonly content: (entry: CpioEntry, bytes: Uint8Array) => void;
}

export class CpioReader {
  readonly #visitor: CpioVisitor;
  #buffer: Buffer = Buffer.alloc(0);
  /** Bytes of content and padding to drop. */
  #skipBytes = 0;
  #isInArchive = false;
  /** What follows the last archive; null while none does. */
  #foreign: Buffer | null = null;

  constructor(visitor: CpioVisitor) {
    this.#visitor = visitor;
  }

  /** What is no archive any more, from its first byte; null while everything was. */
  get foreign(): Uint8Array | null {
    return this.#foreign;
  }

  /** Whether the last archive that was begun has been read to its end. */
  get isBetweenArchives(): boolean {
    return !this.#isInArchive && this.#skipBytes === 0;
  }

  /** FormatError for a malformed archive. Bytes after the archives are in `foreign`: only of this call. */
  write(bytes: Uint8Array): void {
    if (this.#foreign !== null) {
      throw new FormatError("trailing", "The cpio archives have ended already", { format: "cpio" });
    }
    let rest = bytes;
    if (this.#skipBytes > 0) {
      const count = Math.min(this.#skipBytes, rest.length);
      this.#skipBytes -= count;
      rest = rest.subarray(count);
      if (rest.length === 0) return;
    }
    this.#buffer =
      this.#buffer.length === 0 ? Buffer.from(rest) : Buffer.concat([this.#buffer, rest]);
    while (this.#step());
  }

  /** FormatError when an archive is cut short. */
  finish(): void {
    if (!this.#isInArchive && this.#skipBytes === 0 && this.#buffer.every((byte) => byte === 0))
      return;
    throw new FormatError("truncated", "A cpio archive is cut short", { format: "cpio" });
  }

  /** False when more bytes are needed. */
  #step(): boolean {
    if (!this.#isInArchive) return this.#findArchive();
    if (this.#buffer.length < HEADER_BYTES) return false;
    const header = parseHeader(this.#buffer);
    const dataAt = align(HEADER_BYTES + header.nameBytes);
    if (this.#buffer.length < dataAt) return false;
    const path = this.#buffer
      .toString("utf8", HEADER_BYTES, HEADER_BYTES + header.nameBytes)
      .replace(/\0.*$/s, "");
    if (path === TRAILER) {
      this.#isInArchive = false;
      this.#take(dataAt);
      return true;
    }
    return this.#passEntry({ path: path.replace(/^(?:\.?\/)+/, ""), ...header }, dataAt);
  }

  #passEntry(entry: CpioEntry, dataAt: number): boolean {
    const end = dataAt + align(entry.sizeBytes);
    if (this.#visitor.wants(entry) && CONTENT_TYPES.includes(entry.mode & S_IFMT)) {
      if (this.#buffer.length < end) return false;
      this.#visitor.content(entry, this.#buffer.subarray(dataAt, dataAt + entry.sizeBytes));
    }
    this.#skipBytes = Math.max(0, end - this.#buffer.length);
    this.#take(Math.min(end, this.#buffer.length));
    return this.#buffer.length > 0;
  }

  /** Zeros, then an archive or what is none. */
  #findArchive(): boolean {
    const start = this.#buffer.findIndex((byte) => byte !== 0);
    this.#take(start < 0 ? this.#buffer.length : start);
    if (this.#buffer.length < 6) {
      const isMaybe = "070701".startsWith(this.#buffer.toString("latin1").slice(0, 5));
      if (!isMaybe) this.#foreign = this.#buffer;
      return false;
    }
    if (!MAGIC.test(this.#buffer.toString("latin1", 0, 6))) {
      this.#foreign = this.#buffer;
      return false;
    }
    this.#isInArchive = true;
    return true;
  }

  #take(count: number): void {
    this.#buffer = this.#buffer.subarray(count);
  }
}

function parseHeader(buffer: Buffer): {
  readonly mode: number;
  readonly sizeBytes: number;
  readonly nameBytes: number;
} {
  const text = buffer.toString("latin1", 0, HEADER_BYTES);
  if (!/^07070[12][0-9a-fA-F]{104}$/.test(text)) {
    throw new FormatError("bad-value", "A header of a cpio archive is malformed", {
      format: "cpio",
    });
  }
  const field = (index: number) => Number.parseInt(text.slice(6 + index * 8, 14 + index * 8), 16);
  const nameBytes = field(11);
  if (nameBytes < 1 || nameBytes > MAX_NAME_BYTES) {
    throw new FormatError("limit", `A name of ${nameBytes} bytes in a cpio archive`, {
      format: "cpio",
    });
  }
  return { mode: field(1), sizeBytes: field(6), nameBytes };
}

function align(size: number): number {
  return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}
