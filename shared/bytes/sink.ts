// Where a writer that knows every size beforehand puts its bytes: one buffer for the whole file, or a
// window that is handed on piece by piece while the file is written.
//
// `reserveInSink` gives zeroed room; the writer fills it through `bytes` or, where everything is aligned
// to 4, whole words at a time through `words` (two views of one buffer; words are little-endian, as is
// every machine that Bun runs on).

import { FormatError } from "../error.ts";

export interface Sink {
  readonly bytes: Uint8Array;
  /** Signed: the JIT keeps such words in registers as they are. */
  readonly words: Int32Array;
  /** Offset in the file of `bytes[0]`: a multiple of the page size. */
  startBytes: number;
  usedBytes: number;
  /** Takes the full window; null when everything stays in `bytes`. */
  readonly flush: ((bytes: Uint8Array) => void) | null;
}

const PAGE_BYTES = 4096;

/** Keeps everything in `bytes`, which has exactly `sizeBytes`. */
export function createBufferSink(sizeBytes: number): Sink {
  return createSink(sizeBytes, null);
}

/** Gives the file to `flush` in pieces that are valid during the call; `closeSink` gives the last. */
export function createStreamSink(windowBytes: number, flush: (bytes: Uint8Array) => void): Sink {
  return createSink(windowBytes, flush);
}

function createSink(sizeBytes: number, flush: Sink["flush"]): Sink {
  const buffer = new ArrayBuffer(sizeBytes);
  const words = new Int32Array(buffer, 0, sizeBytes >>> 2);
  return { bytes: new Uint8Array(buffer), words, startBytes: 0, usedBytes: 0, flush };
}

/** Offset in the file of the next byte. */
export function sinkPosition(sink: Sink): number {
  return sink.startBytes + sink.usedBytes;
}

/** Room for `sizeBytes` zero bytes, at most a window less a page; the index in `bytes`. */
export function reserveInSink(sink: Sink, sizeBytes: number): number {
  if (sink.usedBytes + sizeBytes > sink.bytes.length) makeRoom(sink, sizeBytes);
  const at = sink.usedBytes;
  sink.usedBytes = at + sizeBytes;
  return at;
}

/** Hands on whole pages and moves what is left to the front. */
function makeRoom(sink: Sink, sizeBytes: number): void {
  const { bytes, usedBytes, flush } = sink;
  const restBytes = usedBytes % PAGE_BYTES;
  const wholeBytes = usedBytes - restBytes;
  if (flush === null || restBytes + sizeBytes > bytes.length) {
    throw new FormatError("limit", `Writer went past the ${bytes.length} bytes it had counted`);
  }
  flush(bytes.subarray(0, wholeBytes));
  bytes.copyWithin(0, wholeBytes, usedBytes);
  bytes.fill(0, restBytes, usedBytes);
  sink.startBytes += wholeBytes;
  sink.usedBytes = restBytes;
}

/** Pads with zeros up to `position`; an error when the file is beyond it. */
export function padSinkTo(sink: Sink, position: number): void {
  let rest = position - sinkPosition(sink);
  if (rest === 0) return;
  if (rest < 0) throw new FormatError("limit", `Writer is already past offset ${position}`);
  for (; rest > PAGE_BYTES; rest -= PAGE_BYTES) reserveInSink(sink, PAGE_BYTES);
  reserveInSink(sink, rest);
}

/** Hands on what is in the window. */
export function closeSink(sink: Sink): void {
  if (sink.flush !== null && sink.usedBytes > 0) sink.flush(sink.bytes.subarray(0, sink.usedBytes));
}
