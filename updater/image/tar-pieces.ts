// Imports a layer whose tar comes in pieces: literal bytes, and files whose contents lie somewhere already
// (an object of the repository, a file of containers-storage) or come on their own (zstd:chunked).
//
// The result is that of importLayer: same objects, same splitstream. It counts only because the digest of
// the assembled tar is diff_id: whoever made the pieces is not believed. Contents that are objects are read
// for that digest and never written again. Files elsewhere: where blocks can be shared, that is done first and the
// copy is hashed; else they are read once, as the content of any layer.

import { setImmediate } from "node:timers/promises";
import { FormatError, IntegrityError, isErrno, LOST_BLOCK } from "../../shared/error.ts";
import { createDigestHash, splitDigest } from "../../shared/format/oci/digest.ts";
import { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import { S_IFMT, S_IFREG } from "../../shared/format/tree/node.ts";
import { ensureObjectFromFile, openObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { O } from "../../shared/sys/constants.ts";
import { mayShareBlocks } from "../../shared/sys/copy.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, read } from "../../shared/sys/file.ts";
import { fstat } from "../../shared/sys/stat.ts";
import type { ByteSource } from "./blob.ts";
import { storeStream } from "./image-streams.ts";
import { INLINE_MAX_BYTES, LayerSplitter } from "./layer-splitter.ts";
import type { ObjectPool } from "./object-pool.ts";

/** A tar is the concatenation of its pieces. `bytes` are valid until the next piece is asked for. */
export type TarPiece =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
      readonly kind: "file";
      /** The whole content of one regular file. */
      readonly sizeBytes: number;
      readonly content: PieceContent;
    };

export type PieceContent =
  /** In the repository already. */
  | { readonly kind: "object"; readonly digest: string }
  /** A file elsewhere, which may change meanwhile. */
  | { readonly kind: "path"; readonly path: string }
  /** As "path", for who must not go by a path: `open` gives a regular file that is closed here. */
  | { readonly kind: "opened"; readonly name: string; readonly open: () => Fd }
  /** Chunks stay valid until the next one. */
  | { readonly kind: "stream"; readonly chunks: ByteSource };

export interface PiecesInput {
  readonly diffId: string;
  /** "Layer sha256:…", for messages. */
  readonly what: string;
  /** FormatError("limit") when the tar is larger. */
  readonly limitBytes?: number;
  /** Threads that several layers share. */
  readonly pool?: ObjectPool;
}

const READ_BYTES = 1 << 20;
/** After this much work without waiting, timers and sockets get their turn. */
const TURN_BYTES = 8 << 20;

/**
 * Stores the layer's objects and its splitstream; returns the splitstream's digest. IntegrityError when
 * the pieces are not the tar that was promised, FormatError when it is malformed.
 */
export async function importTarPieces(
  repo: Repository,
  pieces: AsyncIterable<TarPiece>,
  input: PiecesInput,
): Promise<string> {
  using writer = new SplitStreamWriter(repo.algorithm, "ocilayer");
  using splitter = new LayerSplitter(repo, writer, input.pool);
  const assembly = new Assembly(repo, splitter, input, () => splitter.drain());
  for await (const piece of pieces) {
    if (piece.kind === "bytes") await assembly.add(piece.bytes);
    else await assembly.addFile(piece.sizeBytes, piece.content);
  }
  assembly.finish();
  splitter.finish();
  return await storeStream(repo, writer);
}

/** The tar so far: its hash, its reader, and what they think of it. */
class Assembly {
  readonly #repo: Repository;
  readonly #splitter: LayerSplitter;
  readonly #reader: TarReader;
  readonly #input: PiecesInput;
  readonly #drain: () => Promise<void>;
  readonly #hash;
  #sizeBytes = 0;
  #turnBytes = 0;
  #malformed: FormatError | null = null;
  #buffer: Uint8Array | null = null;

  constructor(
    repo: Repository,
    splitter: LayerSplitter,
    input: PiecesInput,
    drain: () => Promise<void>,
  ) {
    this.#repo = repo;
    this.#splitter = splitter;
    this.#reader = new TarReader(splitter);
    this.#input = input;
    this.#drain = drain;
    this.#hash = createDigestHash(input.diffId);
  }

  async add(bytes: Uint8Array): Promise<void> {
    this.#take(bytes);
    this.#parse(() => this.#reader.write(bytes));
    await this.#rest();
  }

  async addFile(sizeBytes: number, content: PieceContent): Promise<void> {
    if (content.kind === "stream") {
      const before = this.#sizeBytes;
      for await (const chunk of content.chunks) await this.add(chunk);
      this.#checkSize(this.#sizeBytes - before, sizeBytes, "A file");
      return;
    }
    using fd =
      content.kind === "object"
        ? openObject(this.#repo, content.digest)
        : content.kind === "opened"
          ? content.open()
          : openRegular(content.path);
    // Decided before reading: a small file is inline, as is what the tar does not call a file's content.
    const isObject = sizeBytes > INLINE_MAX_BYTES && this.#reader.awaitsContent(sizeBytes);
    const name = describeContent(content);
    if (!isObject) {
      await this.#copy(fd, sizeBytes, name, (bytes) => this.#reader.write(bytes));
    } else if (content.kind === "object") {
      await this.#copy(fd, sizeBytes, name, null);
      this.#refer(content.digest, sizeBytes);
    } else if (!mayShareBlocks(fd, this.#repo.dir)) {
      await this.#copy(fd, sizeBytes, name, (bytes) => this.#reader.write(bytes));
    } else {
      const onBytes = (bytes: Uint8Array) => this.#take(bytes);
      const stored = ensureObjectFromFile(this.#repo, fd, { onBytes });
      this.#checkSize(stored.sizeBytes, sizeBytes, name);
      this.#refer(stored.digest, sizeBytes);
      await this.#rest();
    }
  }

  /** IntegrityError when this is another tar than was promised, FormatError when it is none. */
  finish(): void {
    const { diffId, what } = this.#input;
    const found = `${splitDigest(diffId).algorithm}:${this.#hash.digest("hex")}`;
    if (found !== diffId) {
      throw new IntegrityError(
        "digest-mismatch",
        `${what} is a tar with digest ${found} when its pieces are put together, the image promises ${diffId}`,
        { digest: diffId, found },
      );
    }
    this.#parse(() => this.#reader.finish());
    if (this.#malformed !== null) throw this.#malformed;
  }

  /** All of an open file into the tar, which must have exactly `sizeBytes`; `sink` null: only its hash. */
  async #copy(
    fd: Fd,
    sizeBytes: number,
    name: string,
    sink: ((bytes: Uint8Array) => void) | null,
  ): Promise<void> {
    this.#buffer ??= new Uint8Array(READ_BYTES);
    const buffer = this.#buffer;
    let copiedBytes = 0;
    const readOn = () => readPiece(fd, buffer, name);
    for (let count = readOn(); count > 0; count = readOn()) {
      copiedBytes += count;
      if (copiedBytes > sizeBytes) break;
      const bytes = buffer.subarray(0, count);
      this.#take(bytes);
      if (sink !== null) this.#parse(() => sink(bytes));
      await this.#rest();
    }
    this.#checkSize(copiedBytes, sizeBytes, name);
  }

  #refer(digest: string, sizeBytes: number): void {
    this.#parse(() => {
      this.#reader.skipContent();
      this.#splitter.stored(digest, sizeBytes);
    });
  }

  #take(bytes: Uint8Array): void {
    this.#sizeBytes += bytes.length;
    this.#turnBytes += bytes.length;
    const { limitBytes, what } = this.#input;
    if (limitBytes !== undefined && this.#sizeBytes > limitBytes) {
      throw new FormatError("limit", `${what} unpacks to more than ${limitBytes} bytes`);
    }
    this.#hash.update(bytes);
  }

  async #rest(): Promise<void> {
    await this.#drain();
    if (this.#turnBytes < TURN_BYTES) return;
    this.#turnBytes = 0;
    await setImmediate();
  }

  /** A malformed tar is read on: if its digest is wrong as well, that is the cause to report. */
  #parse(action: () => void): void {
    if (this.#malformed !== null) return;
    try {
      action();
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.#malformed = new FormatError(
        error.code,
        `${this.#input.what} cannot be read`,
        error.context,
        { cause: error },
      );
    }
  }

  #checkSize(foundBytes: number, sizeBytes: number, name: string): void {
    if (foundBytes === sizeBytes) return;
    throw new IntegrityError(
      "size-mismatch",
      `${name} of ${this.#input.what} does not have the ${sizeBytes} bytes that are expected`,
    );
  }
}

function describeContent(content: Exclude<PieceContent, { readonly kind: "stream" }>): string {
  switch (content.kind) {
    case "object":
      return `Object "${content.digest}"`;
    case "opened":
      return `File "${content.name}"`;
    case "path":
      return `"${content.path}"`;
  }
}

/** A block the disk lost, or one that fs-verity does not accept, is an IntegrityError. */
function readPiece(fd: Fd, buffer: Uint8Array, name: string): number {
  try {
    return read(fd, buffer);
  } catch (cause) {
    if (!isErrno(cause, ...LOST_BLOCK)) throw cause;
    throw new IntegrityError("digest-mismatch", `${name} cannot be read`, {}, { cause });
  }
}

/** IntegrityError when something else lies there; a FIFO does not block. */
function openRegular(path: string): Fd {
  let fd: Fd;
  try {
    fd = openat(null, path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  } catch (cause) {
    if (!isErrno(cause, "ENOENT", "ENOTDIR", "ELOOP", "ENXIO")) throw cause;
    const message = `The content of a file of the layer is not at "${path}"`;
    throw new IntegrityError("missing-object", message, { path }, { cause });
  }
  if ((fstat(fd).mode & S_IFMT) === S_IFREG) return fd;
  fd.close();
  throw new IntegrityError("missing-object", `"${path}" is not a regular file`, { path });
}
