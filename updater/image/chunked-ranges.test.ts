import fc from "fast-check";
import { expect, test } from "vitest";
import type { ChunkedFile } from "../../shared/format/zstd-chunked/toc.ts";
import { joinRanges } from "./chunked-ranges.ts";

const GAP = 16 << 10;

/** [start, end, digest's name] */
function makeFiles(places: readonly (readonly [number, number, string?])[]): ChunkedFile[] {
  return places.map(([startByte, endByte, digest], i) => ({
    ...{ name: `f${i}`, sizeBytes: 1, digest: digest ?? `d${i}` },
    ...{ startByte, endByte },
  }));
}

const spans = (files: readonly ChunkedFile[]) =>
  joinRanges(files).map(({ startByte, endByte }) => [startByte, endByte]);

test.each<[string, [number, number, string?][], [number, number][]]>([
  ["nothing", [], []],
  ["one", [[5, 9]], [[5, 9]]],
  [
    "neighbours",
    [
      [5, 9],
      [9, 12],
      [12 + GAP, 13 + GAP],
    ],
    [[5, 13 + GAP]],
  ],
  [
    "far apart",
    [
      [5, 9],
      [10 + GAP, 11 + GAP],
    ],
    [
      [5, 9],
      [10 + GAP, 11 + GAP],
    ],
  ],
  [
    "equal contents once",
    [
      [5, 9, "a"],
      [1_000_000, 1_000_004, "a"],
      [2_000_000, 2_000_004, "b"],
    ],
    [
      [5, 9],
      [2_000_000, 2_000_004],
    ],
  ],
])("%s", (_, places, expected) => {
  expect(spans(makeFiles(places))).toEqual(expected);
});

test("never too many requests, never a file forgotten", () => {
  const sizes = fc.array(fc.tuple(fc.nat(100_000), fc.integer({ min: 1, max: 50_000 })), {
    maxLength: 3000,
    minLength: 1000,
  });
  fc.assert(
    fc.property(sizes, (list) => {
      let at = 0;
      const files = makeFiles(
        list.map(([gap, size]) => {
          const start = at + gap;
          at = start + size;
          return [start, at] as const;
        }),
      );
      const ranges = joinRanges(files);
      expect(ranges.length).toBeLessThanOrEqual(512);
      expect(ranges.flatMap((range) => range.files)).toEqual(files);
      for (const { startByte, endByte, files: own } of ranges) {
        expect(startByte).toBe(own[0]!.startByte);
        expect(endByte).toBe(own.at(-1)!.endByte);
      }
    }),
    { numRuns: 20 },
  );
});
