// The program of a thread that decompresses one layer. Bad data is only marked as such: whoever reads the
// layer says what it means.

import {
  awaitInput,
  awaitSlot,
  type DecodeQueue,
  endOutput,
  fillSlot,
  openDecodeQueue,
  releaseInput,
} from "./decode-queue.ts";
import { createDecoder, type Decoder } from "./decoder.ts";

declare const self: Worker;

interface DecodeOrder {
  readonly memory: SharedArrayBuffer;
  readonly compression: "gzip" | "zstd";
}

self.onmessage = ({ data }: MessageEvent<DecodeOrder>) => {
  const queue = openDecodeQueue(data.memory);
  try {
    using decoder = createDecoder(data.compression);
    decodeAll(queue, decoder);
    endOutput(queue, true);
  } catch {
    endOutput(queue, false);
  }
};

/** Returns early when the queue is closed. */
function decodeAll(queue: DecodeQueue, decoder: Decoder): void {
  for (let input = awaitInput(queue); input !== null; input = awaitInput(queue)) {
    if (decoder.isAtEnd) {
      releaseInput(queue, input.length);
      continue;
    }
    const slot = awaitSlot(queue);
    if (slot === null) return;
    const { consumedBytes, producedBytes } = decoder.decode(input, slot);
    if (producedBytes > 0) fillSlot(queue, producedBytes);
    releaseInput(queue, consumedBytes);
  }
  for (let slot = awaitSlot(queue); slot !== null; slot = awaitSlot(queue)) {
    const sizeBytes = decoder.finish(slot);
    if (sizeBytes === 0) return;
    fillSlot(queue, sizeBytes);
  }
}
