import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  addRange,
  countBytes,
  DownloadRecord,
  decodePieces,
  encodePiece,
  firstGap,
  type Ranges,
  reachFrom,
  recordsAt,
  removeRange,
} from "./download-record.ts";

const layer = { mediaType: "x", digest: `sha256:${"ab".repeat(32)}`, size: 10_000 };
const piece = (startByte: number, endByte: number, contentHash = 7n) => ({
  startByte,
  endByte,
  contentHash,
});

describe("records", () => {
  test("are read as they were written", () => {
    const pieces = [piece(0, 4000), piece(9000, 10_000, 2n ** 64n - 1n)];
    const bytes = Buffer.concat(pieces.map((each) => encodePiece(layer, each)));
    expect(bytes.length).toBe(2 * DownloadRecord.sizeBytes);
    expect(decodePieces(layer, bytes)).toEqual(pieces);
  });

  test("lie behind the blob, in blocks of their own", () => {
    expect([0, 1, 4096, 4097].map((size) => recordsAt({ ...layer, size }))).toEqual([
      0, 4096, 4096, 8192,
    ]);
  });

  test.each<[string, (bytes: Buffer) => Uint8Array]>([
    ["a torn one", (bytes) => bytes.fill(0, 32 + 16, 64)],
    ["one of zeros", (bytes) => bytes.fill(0, 32, 64)],
    ["one bit", (bytes) => bytes.fill(bytes[40]! ^ 1, 40, 41)],
  ])("%s is passed over, the others count", (_, change) => {
    const pieces = [piece(0, 10), piece(10, 20), piece(20, 30)];
    const bytes = Buffer.concat(pieces.map((each) => encodePiece(layer, each)));
    expect(decodePieces(layer, change(bytes))).toEqual([pieces[0], pieces[2]]);
  });

  test("the last one may be cut off", () => {
    expect(decodePieces(layer, encodePiece(layer, piece(0, 10)).subarray(0, 31))).toEqual([]);
  });

  test.each([
    ["of another blob", { ...layer, digest: `sha256:${"cd".repeat(32)}` }],
    ["of another size", { ...layer, size: 9_999 }],
  ])("%s do not count", (_, other) => {
    expect(decodePieces(layer, encodePiece(other, piece(0, 10)))).toEqual([]);
  });

  test("must lie in the blob", () => {
    expect(decodePieces(layer, encodePiece(layer, piece(9_000, 10_001)))).toEqual([]);
  });

  test("no bytes make anything else than pieces of the blob", () => {
    void fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(decodePieces(layer, bytes)).toEqual([]);
      }),
    );
  });
});

describe("ranges", () => {
  const SIZE = 40;
  const range = fc
    .tuple(fc.nat(SIZE), fc.nat(SIZE))
    .map(([a, b]) => ({ startByte: Math.min(a, b), endByte: Math.max(a, b) }));
  const steps = fc.array(fc.tuple(fc.boolean(), range), { maxLength: 12 });

  function build(list: readonly (readonly [boolean, Ranges[number]])[]): [Ranges, boolean[]] {
    let ranges: Ranges = [];
    const there = new Array<boolean>(SIZE).fill(false);
    for (const [isAdded, each] of list) {
      ranges = (isAdded ? addRange : removeRange)(ranges, each);
      there.fill(isAdded, each.startByte, each.endByte);
    }
    return [ranges, there];
  }

  test("say what a list of bytes would say", () => {
    void fc.assert(
      fc.property(steps, fc.nat(SIZE), fc.integer({ min: 1, max: SIZE }), (list, at, limit) => {
        const [ranges, there] = build(list);
        expect(countBytes(ranges)).toBe(there.filter(Boolean).length);
        const until = (value: boolean, from: number) => {
          const index = there.indexOf(value, from);
          return index < 0 ? SIZE : index;
        };
        expect(reachFrom(ranges, at)).toBe(there[at] === true ? until(false, at) : at);
        const start = until(false, 0);
        const endByte = Math.min(until(true, start), start + limit);
        expect(firstGap(ranges, SIZE, limit)).toEqual(
          start === SIZE ? null : { startByte: start, endByte },
        );
      }),
    );
  });

  test("are sorted, apart and not empty", () => {
    void fc.assert(
      fc.property(steps, (list) => {
        const [ranges] = build(list);
        for (const [i, { startByte, endByte }] of ranges.entries()) {
          expect(endByte).toBeGreaterThan(startByte);
          if (i > 0) expect(startByte).toBeGreaterThan(ranges[i - 1]!.endByte);
        }
      }),
    );
  });
});
