// Layer decompression as a stream of chunks: gzip (any number of members), zstd (any number of
// frames, skippable frames in between: zstd:chunked), or none. The first bytes decide.
//
// Decoders work on other threads. When the data is bad, the rest of the source is still read, so that
// a digest mismatch is reported as such and not as its symptom. A cut-off zstd stream is not noticed
// by the decoder: callers check the digests on both sides.

import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { FormatError } from "../../shared/error.ts";
import type { ByteSource } from "./blob.ts";

const CHUNK_BYTES = 1 << 20;
const MAGIC_BYTES = 4;

type Compression = "gzip" | "zstd" | "none";

/** FormatError naming `what` when the data is not valid. Chunks stay valid after the next one. */
export async function* decompress(source: ByteSource, what: string): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  try {
    const head = await readHead(iterator);
    const compression = detectCompression(head);
    if (compression === "none") {
      yield head;
      yield* { [Symbol.asyncIterator]: () => iterator };
      return;
    }
    const decoder =
      compression === "gzip"
        ? createGunzip({ chunkSize: CHUNK_BYTES })
        : createZstdDecompress({ chunkSize: CHUNK_BYTES });
    yield* decode(head, iterator, decoder, `${what} is not valid ${compression} data`);
  } finally {
    await iterator.return?.();
  }
}

async function* decode(
  head: Uint8Array,
  iterator: AsyncIterator<Uint8Array>,
  decoder: Transform,
  problem: string,
): AsyncGenerator<Uint8Array> {
  const pumping = pump(head, iterator, decoder);
  // Its failure is looked at below; without this it would count as unhandled until then.
  pumping.catch(() => {});
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array;
  } catch (cause) {
    await pumping;
    throw new FormatError("bad-value", problem, {}, { cause });
  } finally {
    decoder.destroy();
  }
  await pumping;
}

/** Feeds the decoder; a broken decoder gets no more, but the source is read to its end. */
async function pump(
  head: Uint8Array,
  iterator: AsyncIterator<Uint8Array>,
  decoder: Transform,
): Promise<void> {
  try {
    let chunk = head;
    for (;;) {
      if (!decoder.destroyed && !decoder.write(chunk)) await waitForRoom(decoder);
      const next = await iterator.next();
      if (next.done === true) break;
      chunk = next.value;
    }
    if (!decoder.destroyed) decoder.end();
  } catch (error) {
    // Ends the reader's loop.
    decoder.destroy(error as Error);
    throw error;
  }
}

function waitForRoom(decoder: Transform): Promise<void> {
  return new Promise((resolve) => {
    function settle(): void {
      decoder.off("drain", settle).off("close", settle);
      resolve();
    }
    decoder.on("drain", settle).on("close", settle);
  });
}

async function readHead(iterator: AsyncIterator<Uint8Array>): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < MAGIC_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  return head;
}

function detectCompression(head: Uint8Array): Compression {
  const [a, b, c, d] = head;
  if (a === 0x1f && b === 0x8b) return "gzip";
  const isFrame = a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd;
  const isSkippable = (a ?? 0) >> 4 === 5 && b === 0x2a && c === 0x4d && d === 0x18;
  return isFrame || isSkippable ? "zstd" : "none";
}
