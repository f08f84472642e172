// The tar of a layer in containers-storage: everything but the files' contents comes from its tar-split
// document, the contents are the files themselves. So whiteouts, which overlay keeps as device nodes or
// attributes, need no undoing: their headers are in the document.
//
// The paths in the document are not trusted: each is opened name by name below the layer's directory, and
// no symlink is followed.

import { FormatError, IntegrityError, isErrno } from "../../shared/error.ts";
import { TarSplitReader } from "../../shared/format/tar-split/reader.ts";
import { type ByteString, fromByteString } from "../../shared/format/tree/node.ts";
import { O } from "../../shared/sys/constants.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import { openat, openRegularFile, read } from "../../shared/sys/file.ts";
import type { ByteSource } from "./blob.ts";
import { decompress } from "./decompression.ts";
import { splitPath } from "./layer-tree.ts";
import { lockStore, openLayerFiles, openTarSplit, type StoredLayer } from "./storage-store.ts";
import type { TarPiece } from "./tar-pieces.ts";

const CHUNK_BYTES = 1 << 20;
/** tar-split documents are JSON with the headers in base64; this is far beyond any. */
const MAX_DOCUMENT_BYTES = 8 * 2 ** 30;

/** The layer is locked, shared, until the last piece was taken. `what` is for messages. */
export async function* readStoredLayer(layer: StoredLayer, what: string): AsyncGenerator<TarPiece> {
  using _ = await lockStore(layer.store, "layers");
  using files = new LayerFiles(openLayerFiles(layer), what);
  using document = openTarSplit(layer);
  const reader = new TarSplitReader();
  let sizeBytes = 0;
  for await (const chunk of decompress(readChunks(document), `The tar-split data of ${what}`)) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_DOCUMENT_BYTES) {
      throw new FormatError("limit", `The tar-split data of ${what} has no end`);
    }
    for (const entry of reader.read(chunk)) yield* makePiece(entry, files);
  }
  for (const entry of reader.finish()) yield* makePiece(entry, files);
}

type Entry = ReturnType<TarSplitReader["read"]> extends Generator<infer T> ? T : never;

function* makePiece(entry: Entry, files: LayerFiles): Generator<TarPiece> {
  if (entry.kind === "segment") {
    yield { kind: "bytes", bytes: entry.bytes };
  } else if (entry.sizeBytes > 0) {
    const { name, sizeBytes } = entry;
    const open = () => files.open(name);
    yield {
      kind: "file",
      sizeBytes,
      content: { kind: "opened", name: fromByteString(name), open },
    };
  }
}

/** Opens files below one directory; tars list a directory's files together, so the last one stays open. */
class LayerFiles implements Disposable {
  readonly #root: Fd;
  readonly #what: string;
  #directory: { readonly path: string; readonly fd: Fd } | null = null;

  constructor(root: Fd, what: string) {
    this.#root = root;
    this.#what = what;
  }

  /** IntegrityError when there is no regular file of that name. The caller closes it. */
  open(name: ByteString): Fd {
    const names = splitPath(name);
    const last = names.pop();
    if (last === undefined) throw this.#missing(name);
    try {
      const parent = this.#openDirectory(names);
      const fd = openRegularFile(parent, Buffer.from(last, "latin1"), O.NOFOLLOW);
      if (fd !== null) return fd;
    } catch (cause) {
      if (!isErrno(cause, "ENOENT", "ENOTDIR", "ELOOP")) throw cause;
      throw this.#missing(name, cause);
    }
    throw this.#missing(name);
  }

  #openDirectory(names: readonly ByteString[]): Fd {
    const path = names.join("/");
    if (path === "") return this.#root;
    if (this.#directory?.path === path) return this.#directory.fd;
    let fd = this.#root;
    for (const name of names) {
      const parent = fd;
      try {
        fd = openat(parent, Buffer.from(name, "latin1"), O.PATH | O.DIRECTORY | O.NOFOLLOW);
      } finally {
        if (parent !== this.#root) parent.close();
      }
    }
    this.#directory?.fd.close();
    this.#directory = { path, fd };
    return fd;
  }

  #missing(name: ByteString, cause?: unknown): IntegrityError {
    const path = fromByteString(name);
    return new IntegrityError(
      "missing-object",
      `The file "${path}" of ${this.#what} is not in the storage any more, or is no regular file; pull the image again`,
      { path },
      { cause },
    );
  }

  [Symbol.dispose](): void {
    this.#directory?.fd.close();
    this.#root.close();
  }
}

/** The tar as bytes, for those who want it whole. */
export async function* joinPieces(pieces: AsyncIterable<TarPiece>): ByteSource {
  for await (const piece of pieces) {
    if (piece.kind === "bytes") yield piece.bytes;
    else if (piece.content.kind === "opened") {
      using fd = piece.content.open();
      let sizeBytes = 0;
      for await (const chunk of readChunks(fd)) {
        sizeBytes += chunk.length;
        if (sizeBytes > piece.sizeBytes) break;
        yield chunk;
      }
      if (sizeBytes !== piece.sizeBytes) {
        throw new IntegrityError(
          "size-mismatch",
          `The file "${piece.content.name}" in the storage does not have the ${piece.sizeBytes} bytes that are expected; pull the image again`,
        );
      }
    }
  }
}

async function* readChunks(fd: Fd): ByteSource {
  for (;;) {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    const count = read(fd, buffer);
    if (count === 0) return;
    yield buffer.subarray(0, count);
  }
}
