// Sinks: where two-pass writers put their bytes.
//
// A writer is one function run twice: over a counting sink, to learn sizes and positions, and over
// one that keeps the bytes. `reserve` hands out zeroed room; encoders fill it through `bytes` and
// `view` at the returned index, or skip the work when `counting`. `position` is the absolute offset
// in the finished file in every kind of sink, so alignment gives the same result in both passes.

import { FormatError } from "../error.ts";

export interface Sink {
  readonly counting: boolean;
  /** Absolute offset of the next byte. */
  position: number;
  /** Valid until the next `reserve`; empty when counting. */
  bytes: Uint8Array;
  view: DataView;
  /** Room for `sizeBytes` zero bytes; returns the index of the first in `bytes`. */
  readonly reserve: (sizeBytes: number) => number;
}

const NOTHING = new Uint8Array(0);

/** Counts only: `bytes` stays empty and `reserve` returns 0. */
export function createCountingSink(): Sink {
  const sink: Sink = {
    counting: true,
    position: 0,
    bytes: NOTHING,
    view: new DataView(NOTHING.buffer),
    reserve(sizeBytes) {
      sink.position += sizeBytes;
      return 0;
    },
  };
  return sink;
}

/** Keeps everything in one buffer of exactly `sizeBytes`, as the counting pass found. */
export function createBufferSink(sizeBytes: number): Sink {
  const bytes = new Uint8Array(sizeBytes);
  const sink: Sink = {
    counting: false,
    position: 0,
    bytes,
    view: new DataView(bytes.buffer),
    reserve(wantedBytes) {
      const at = sink.position;
      sink.position = at + wantedBytes;
      if (sink.position > sizeBytes) {
        throw new FormatError("limit", `Writer went past the ${sizeBytes} bytes it had counted`);
      }
      return at;
    },
  };
  return sink;
}

/** Pads with zeros up to a multiple of `alignment`. */
export function alignSink(sink: Sink, alignment: number): void {
  const rest = sink.position % alignment;
  if (rest !== 0) sink.reserve(alignment - rest);
}
