import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ESP_TYPE, GptEntry, GptHeader, parseGptEntries, parseGptHead } from "./table.ts";

const ESP_TYPE_BYTES = Buffer.from("28732ac11ff8d211ba4b00a0c93ec93b", "hex");
const head = (changes = {}) =>
  GptHeader.encode({
    signature: Buffer.from("EFI PART"),
    entriesBlock: 2,
    entryCount: 128,
    entryBytes: 128,
    ...changes,
  });

describe("the head of a table", () => {
  test("says where the entries are", () => {
    const expected = { entriesAtBytes: 1024, count: 128, entryBytes: 128 };
    expect(parseGptHead(head(), 512)).toEqual(expected);
    expect(parseGptHead(head(), 4096)?.entriesAtBytes).toBe(8192);
  });

  test.each([
    ["another signature", head({ signature: Buffer.from("EFI PARK") })],
    ["thousands of entries", head({ entryCount: 1025 })],
    ["entries of an odd size", head({ entryBytes: 100 })],
    ["too few bytes", head().subarray(0, 91)],
    ["a block beyond all disks", head({ entriesBlock: Number.MAX_SAFE_INTEGER })],
    ["nothing", new Uint8Array()],
  ])("is none with %s", (_, block) => {
    expect(parseGptHead(block, 512)).toBeNull();
  });
});

test("entries that are used, by number, with GUIDs as people write them", () => {
  const table = new Uint8Array(128 * 4);
  const id = Buffer.from("78563412bc9af0de1122334455667788", "hex");
  table.set(GptEntry.encode({ type: ESP_TYPE_BYTES, id }), 128);
  const found = parseGptEntries(table, { entriesAtBytes: 0, count: 128, entryBytes: 128 });
  expect(found).toEqual([
    { number: 2, type: ESP_TYPE, id: "12345678-9abc-def0-1122-334455667788" },
  ]);
});

test("noise is never an error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 4096 }), fc.boolean(), (bytes, hasHead) => {
      const block = hasHead ? Buffer.concat([head(), bytes]) : bytes;
      const found = parseGptHead(block, 512);
      if (found !== null) parseGptEntries(bytes, found);
    }),
  );
});
