// Layer decompression as a stream of chunks: gzip (any number of members), zstd (any number of
// frames, skippable frames in between: zstd:chunked), or none. The first bytes decide.
//
// When the data is bad, the rest of the source is still read, so that a digest mismatch is reported as such
// and not as its symptom. A cut-off zstd stream is not noticed by the decoder: callers check the digests on
// both sides. What follows the last gzip member, e.g. padding, is ignored.

import { setImmediate } from "node:timers/promises";
import { FormatError } from "../../shared/error.ts";
import type { ByteSource } from "./blob.ts";
import {
  awaitDecoder,
  closeDecodeQueue,
  countDecoderEvents,
  createDecodeQueue,
  type DecodeQueue,
  decoderState,
  endInput,
  endOutput,
  giveInput,
  releaseOutput,
  takeOutput,
} from "./decode-queue.ts";
import { createDecoder } from "./decoder.ts";

const CHUNK_BYTES = 1 << 18;
/** After so much output without waiting, timers and sockets get their turn. */
const TURN_BYTES = 8 << 20;
const MAGIC_BYTES = 4;

export type Compression = "gzip" | "zstd" | "none";

export interface DecompressOptions {
  /** A chunk is valid only until the next one is asked for. */
  readonly reusesChunks?: boolean;
  /** In a thread of its own, which costs some milliseconds to start. */
  readonly inThread?: boolean;
  /** More than this is a FormatError("limit"). */
  readonly limitBytes?: number;
  /** Called before the first chunk. */
  readonly onDetected?: (compression: Compression) => void;
}

/** FormatError naming `what` when the data is not valid. Chunks stay valid after the next one. */
export async function* decompress(
  source: ByteSource,
  what: string,
  options: DecompressOptions = {},
): AsyncGenerator<Uint8Array> {
  const { reusesChunks = false, inThread = false, limitBytes = Number.POSITIVE_INFINITY } = options;
  let sizeBytes = 0;
  const count = (chunk: Uint8Array): void => {
    sizeBytes += chunk.length;
    if (sizeBytes <= limitBytes) return;
    throw new FormatError("limit", `${what} unpacks to more than ${limitBytes} bytes`);
  };
  const iterator = source[Symbol.asyncIterator]();
  try {
    const head = await readHead(iterator);
    const compression = detectCompression(head);
    options.onDetected?.(compression);
    if (compression === "none") {
      count(head);
      yield head;
      for await (const chunk of { [Symbol.asyncIterator]: () => iterator }) {
        count(chunk);
        yield chunk;
      }
      return;
    }
    const problem = `${what} is not valid ${compression} data`;
    const thread = inThread ? startDecoding(compression) : null;
    const chunks =
      thread === null
        ? decode(head, iterator, compression, problem)
        : decodeInThread(head, iterator, thread, problem);
    for await (const chunk of chunks) {
      count(chunk);
      yield reusesChunks ? chunk : chunk.slice();
    }
  } finally {
    await iterator.return?.();
  }
}

/** Every chunk is the same memory. */
async function* decode(
  head: Uint8Array,
  iterator: AsyncIterator<Uint8Array>,
  compression: "gzip" | "zstd",
  problem: string,
): AsyncGenerator<Uint8Array> {
  using decoder = createDecoder(compression);
  const output = new Uint8Array(CHUNK_BYTES);
  let turnBytes = 0;
  let input: Uint8Array | null = head;
  try {
    while (input !== null) {
      for (let rest = input; rest.length > 0 && !decoder.isAtEnd; ) {
        const { consumedBytes, producedBytes } = decoder.decode(rest, output);
        rest = rest.subarray(consumedBytes);
        if (producedBytes === 0) continue;
        yield output.subarray(0, producedBytes);
        turnBytes += producedBytes;
        if (turnBytes < TURN_BYTES) continue;
        turnBytes = 0;
        await setImmediate();
      }
      input = await readNext(iterator);
    }
    for (let size = decoder.finish(output); size > 0; size = decoder.finish(output)) {
      yield output.subarray(0, size);
    }
  } catch (cause) {
    if (!decoder.hasFailed) throw cause;
    while ((await readNext(iterator)) !== null) {}
    throw new FormatError("bad-value", problem, {}, { cause });
  }
}

interface DecodeThread extends Disposable {
  readonly queue: DecodeQueue;
}

/** Null when this machine does not let us. */
function startDecoding(compression: "gzip" | "zstd"): DecodeThread | null {
  // Compiled, both are files of the same folder inside the executable (scripts/build/bundle.ts).
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  let worker: Worker;
  try {
    worker = new Worker(new URL(`./decode-worker.${extension}`, import.meta.url).href);
  } catch {
    return null;
  }
  worker.unref();
  const queue = createDecodeQueue();
  // Whatever ends it early: nobody waits for it for ever.
  worker.addEventListener("error", () => endOutput(queue, false));
  worker.postMessage({ memory: queue.memory, compression });
  return {
    queue,
    [Symbol.dispose]() {
      closeDecodeQueue(queue);
      worker.terminate();
    },
  };
}

/** As `decode`; every chunk is valid until the next one is asked for. */
async function* decodeInThread(
  head: Uint8Array,
  iterator: AsyncIterator<Uint8Array>,
  thread: DecodeThread,
  problem: string,
): AsyncGenerator<Uint8Array> {
  using _ = thread;
  const { queue } = thread;
  let input: Uint8Array | null = head;
  for (;;) {
    const events = countDecoderEvents(queue);
    // Looked at first: what was filled before the end is there when the end is seen.
    const state = decoderState(queue);
    const output = takeOutput(queue);
    if (output !== null) {
      yield output;
      releaseOutput(queue);
      continue;
    }
    if (state !== "running") break;
    if (input !== null) {
      input = input.subarray(giveInput(queue, input));
      if (input.length === 0) {
        input = await readNext(iterator);
        if (input === null) endInput(queue);
        continue;
      }
    }
    await awaitDecoder(queue, events);
  }
  while (input !== null) input = await readNext(iterator);
  if (decoderState(queue) === "failed") throw new FormatError("bad-value", problem);
}

async function readNext(iterator: AsyncIterator<Uint8Array>): Promise<Uint8Array | null> {
  const next = await iterator.next();
  return next.done === true ? null : next.value;
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

export function detectCompression(head: Uint8Array): Compression {
  const [a, b, c, d] = head;
  if (a === 0x1f && b === 0x8b) return "gzip";
  const isFrame = a === 0x28 && b === 0xb5 && c === 0x2f && d === 0xfd;
  const isSkippable = (a ?? 0) >> 4 === 5 && b === 0x2a && c === 0x4d && d === 0x18;
  return isFrame || isSkippable ? "zstd" : "none";
}
