// Parts of a layer, out of order: what a download before has kept comes from its file, the rest from the
// server, and is kept in turn. So an interrupted pull of parts goes on where it stopped, and when the parts
// turn out to be useless, the download of the whole layer has them already.

import type { ByteSource } from "./blob.ts";
import { type Ranges, reachFrom } from "./download-record.ts";
import type { BlobStore } from "./partial-file.ts";
import { PieceCollector } from "./piece-collector.ts";
import { fetchRange, type RangeFetch } from "./range-fetch.ts";
import type { ByteRange } from "./resolved-image.ts";

export interface RangeKeeper {
  readonly fetch: Omit<RangeFetch, "signal">;
  /** Null: nothing is kept. */
  readonly store: BlobStore | null;
  /** Bytes from the server. */
  readonly onBytes: (count: number) => void;
}

/** The bytes of `range`, unverified; errors as `fetchRange`. */
export async function* readRange(
  { fetch, store, onBytes }: RangeKeeper,
  range: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let position = range.startByte; position < range.endByte; ) {
    const kept = store === null ? null : await store.take(position);
    if (kept !== null) {
      const bytes = kept.subarray(0, range.endByte - position);
      position += bytes.length;
      yield bytes;
      continue;
    }
    const endByte = Math.min(range.endByte, nextKept(store?.kept ?? [], position));
    const chunks = fetchRange({ ...fetch, signal }, { startByte: position, endByte });
    yield* keep(store, position, chunks, onBytes);
    position = endByte;
  }
}

async function* keep(
  store: BlobStore | null,
  startByte: number,
  chunks: ByteSource,
  onBytes: (count: number) => void,
): AsyncGenerator<Uint8Array> {
  const collector = store === null ? null : new PieceCollector(store, startByte, () => {});
  try {
    for await (const chunk of chunks) {
      onBytes(chunk.length);
      await collector?.add(chunk);
      yield chunk;
    }
  } finally {
    await collector?.flush();
  }
}

function nextKept(kept: Ranges, position: number): number {
  return kept.find(({ startByte }) => startByte > position)?.startByte ?? Number.POSITIVE_INFINITY;
}

/** How much of `ranges`, sorted and apart, is not in `kept`. */
export function countMissing(kept: Ranges, ranges: readonly ByteRange[]): number {
  let missingBytes = 0;
  for (const { startByte, endByte } of ranges) {
    for (let position = startByte; position < endByte; ) {
      const reached = Math.min(endByte, reachFrom(kept, position));
      const next = Math.min(endByte, nextKept(kept, reached));
      missingBytes += next - reached;
      position = next;
    }
  }
  return missingBytes;
}
