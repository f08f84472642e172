import fc from "fast-check";
import { expect, test } from "vitest";
import { addRange, type Ranges } from "./download-record.ts";
import { countMissing, readRange } from "./kept-ranges.ts";
import { BlobMemory } from "./partial-file.ts";
import type { ByteRange } from "./resolved-image.ts";

const SIZE = 300;
const BLOB = Uint8Array.from({ length: SIZE }, (_, i) => i % 251);
const layer = { mediaType: "x", digest: `sha256:${"0".repeat(64)}`, size: SIZE };

const anyRange = fc
  .tuple(fc.nat(SIZE - 1), fc.nat(SIZE - 1))
  .map(([a, b]) => ({ startByte: Math.min(a, b), endByte: Math.max(a, b) + 1 }));

test("gives every byte, fetches what is missing, and only that", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyRange, { maxLength: 5 }), anyRange, async (keptList, range) => {
      const store = new BlobMemory(SIZE);
      let kept: Ranges = [];
      for (const each of keptList) {
        kept = addRange(kept, each);
        await store.write(each.startByte, BLOB.slice(each.startByte, each.endByte));
      }
      const asked: ByteRange[] = [];
      const source = {
        name: "test",
        resolve: () => Promise.reject(new Error("not used")),
        openLayer: () => expect.unreachable(),
        openRange: async function* (_: unknown, each: ByteRange) {
          asked.push(each);
          yield BLOB.subarray(each.startByte, each.endByte);
        },
      };
      let fetchedBytes = 0;
      const keeper = {
        fetch: { source, layer, support: { isMissing: false }, patience: 0 },
        store,
        onBytes: (count: number) => {
          fetchedBytes += count;
        },
      };
      const chunks: Uint8Array[] = [];
      for await (const chunk of readRange(keeper, range, new AbortController().signal)) {
        chunks.push(Uint8Array.from(chunk));
      }
      const expected = BLOB.subarray(range.startByte, range.endByte);
      expect(Buffer.concat(chunks).equals(expected)).toBe(true);
      expect(fetchedBytes).toBe(countMissing(kept, [range]));
      expect(countMissing(kept, asked)).toBe(fetchedBytes);
      expect(countMissing(store.kept, [range])).toBe(0);
    }),
  );
});

test.each<[Ranges, Ranges, number]>([
  [[], [], 0],
  [[], [{ startByte: 3, endByte: 9 }], 6],
  [[{ startByte: 0, endByte: 5 }], [{ startByte: 3, endByte: 9 }], 4],
  [[{ startByte: 4, endByte: 5 }], [{ startByte: 3, endByte: 9 }], 5],
  [[{ startByte: 0, endByte: 50 }], [{ startByte: 3, endByte: 9 }], 0],
  [
    [
      { startByte: 4, endByte: 5 },
      { startByte: 7, endByte: 20 },
    ],
    [
      { startByte: 3, endByte: 9 },
      { startByte: 18, endByte: 25 },
    ],
    8,
  ],
])("%j have not %j: %d bytes", (kept, ranges, bytes) => {
  expect(countMissing(kept, ranges)).toBe(bytes);
});
