import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../error.ts";
import {
  closeSink,
  createBufferSink,
  createStreamSink,
  padSinkTo,
  reserveInSink,
  type Sink,
  sinkPosition,
} from "./sink.ts";

/** Pieces of the file as they were handed on, copied. */
function collect(windowBytes: number, write: (sink: Sink) => void): Buffer[] {
  const pieces: Buffer[] = [];
  const sink = createStreamSink(windowBytes, (piece) => pieces.push(Buffer.from(piece)));
  write(sink);
  closeSink(sink);
  return pieces;
}

test("a window gives the same bytes as one buffer, in whole pages", () => {
  const sizes = fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 60 });
  fc.assert(
    fc.property(sizes, (lengths) => {
      // Only every other byte is written: the rest has to be zero however often the room was used.
      const write = (sink: Sink) => {
        for (const length of lengths) {
          const at = reserveInSink(sink, length);
          for (let i = 0; i < length; i += 2) sink.bytes[at + i] = 1 + (length & 0x7f);
        }
      };
      const total = lengths.reduce((sum, length) => sum + length, 0);
      const whole = createBufferSink(total);
      write(whole);
      const pieces = collect(8192, write);
      expect(Buffer.concat(pieces).equals(whole.bytes)).toBe(true);
      expect(pieces.slice(0, -1).every((piece) => piece.length % 4096 === 0)).toBe(true);
    }),
  );
});

describe("padding", () => {
  test("goes to a position, over several windows", () => {
    const pieces = collect(8192, (sink) => {
      reserveInSink(sink, 1);
      padSinkTo(sink, 1);
      padSinkTo(sink, 20_001);
      expect(sinkPosition(sink)).toBe(20_001);
    });
    expect(Buffer.concat(pieces).equals(Buffer.alloc(20_001))).toBe(true);
  });

  test("back to where the writer has been is refused", () => {
    const sink = createBufferSink(16);
    reserveInSink(sink, 9);
    expect(() => padSinkTo(sink, 8)).toThrow("already past offset 8");
  });
});

test.each([
  ["one byte more than was counted", createBufferSink(16), 17],
  ["more than a window", createStreamSink(8192, () => {}), 8193],
])("%s is refused", (_, sink, sizeBytes) => {
  expect(() => reserveInSink(sink, sizeBytes)).toThrow(FormatError);
});
