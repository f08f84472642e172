// Imports a zstd:chunked layer of which most files are here already: the missing ones are fetched, and the
// tar is put together from them, stored objects and the tar-split data. It counts only when its digest is
// diff_id: a table of contents that lies costs time and nothing else, for the whole layer is taken then.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { type TarSplitEntry, TarSplitReader } from "../../shared/format/tar-split/reader.ts";
import type { ChunkedFile } from "../../shared/format/zstd-chunked/toc.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { oneChunk } from "./blob.ts";
import { fetchFiles } from "./chunked-fetch.ts";
import type { FileRange } from "./chunked-ranges.ts";
import type { ChunkedLayer, RangeOpener } from "./chunked-toc.ts";
import { decompress } from "./decompression.ts";
import { limitTarBytes } from "./layers.ts";
import type { StoredContent } from "./stored-files.ts";
import { importTarPieces, type TarPiece } from "./tar-pieces.ts";

/** What to do about one layer: use what was found, fetch the rest. */
export interface PartialLayer {
  readonly layer: ChunkedLayer;
  /** By the digest in the table. */
  readonly found: ReadonlyMap<string, StoredContent>;
  readonly ranges: readonly FileRange[];
}

export interface PartialInput {
  readonly diffId: string;
  readonly compressedBytes: number;
  /** "Layer sha256:…", for messages. */
  readonly what: string;
}

/**
 * Stores the layer's objects and its splitstream, exactly those of importLayer; returns the splitstream's
 * digest. IntegrityError and FormatError when the layer is not what its table says: take all of it then.
 */
export async function importPartialLayer(
  repo: Repository,
  { layer, found, ranges }: PartialLayer,
  openRange: RangeOpener,
  { diffId, compressedBytes, what }: PartialInput,
  signal: AbortSignal,
): Promise<string> {
  const contents = new Map(found);
  const store = ({ digest }: ChunkedFile, content: StoredContent) => contents.set(digest, content);
  await fetchFiles(repo, openRange, ranges, store, signal);
  const pieces = assemble(layer, contents, what, signal);
  return await importTarPieces(repo, pieces, {
    diffId,
    what,
    limitBytes: limitTarBytes(compressedBytes),
  });
}

/** The tar: literal bytes from the tar-split data, in between the files, in the table's order. */
async function* assemble(
  layer: ChunkedLayer,
  contents: ReadonlyMap<string, StoredContent>,
  what: string,
  signal: AbortSignal,
): AsyncGenerator<TarPiece> {
  const reader = new TarSplitReader();
  const files = layer.files[Symbol.iterator]();
  function* place(entries: Iterable<TarSplitEntry>): Generator<TarPiece> {
    for (const entry of entries) {
      signal.throwIfAborted();
      if (entry.kind === "segment") yield { kind: "bytes", bytes: entry.bytes };
      else if (entry.sizeBytes > 0) {
        yield placeFile(files.next().value, entry.sizeBytes, contents, what);
      }
    }
  }
  let sizeBytes = 0;
  for await (const chunk of decompress(oneChunk(layer.tarSplit), `${what}: tar-split data`)) {
    sizeBytes += chunk.length;
    if (sizeBytes > layer.tarSplitBytes) {
      throw new FormatError("limit", `${what}: tar-split data is longer than its annotation says`);
    }
    yield* place(reader.read(chunk));
  }
  yield* place(reader.finish());
  if (files.next().done !== true) throw disagreement(what);
}

function placeFile(
  file: ChunkedFile | undefined,
  sizeBytes: number,
  contents: ReadonlyMap<string, StoredContent>,
  what: string,
): TarPiece {
  if (file === undefined || file.sizeBytes !== sizeBytes) throw disagreement(what);
  const content = contents.get(file.digest);
  if (content === undefined) {
    throw new IntegrityError("missing-object", `${what}: file "${file.name}" is missing`);
  }
  // Smaller than one would think: the same digest was promised with two sizes.
  if (content.kind === "bytes" && content.bytes.length !== sizeBytes) throw disagreement(what);
  return content.kind === "bytes" ? content : { kind: "file", sizeBytes, content };
}

function disagreement(what: string): FormatError {
  return new FormatError(
    "bad-value",
    `${what}: table of contents and tar-split data are not of the same tar`,
  );
}
