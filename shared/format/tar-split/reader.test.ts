import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TAR_END, tarMember } from "../../../test/support/tar-builder.ts";
import { takeApart, writeTarSplit } from "../../../test/support/tar-split.ts";
import { FormatError } from "../../error.ts";
import { type TarSplitEntry, TarSplitReader } from "./reader.ts";

/** All entries of a document that comes in pieces of `pieceBytes`. */
function read(document: Buffer | string, pieceBytes = 1 << 20): TarSplitEntry[] {
  const bytes = Buffer.from(document);
  const reader = new TarSplitReader();
  const entries: TarSplitEntry[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    // A copy that is overwritten afterwards, as buffers of streams are.
    const piece = Buffer.from(bytes.subarray(at, at + pieceBytes));
    entries.push(...reader.read(piece));
    piece.fill(0);
  }
  return [...entries, ...reader.finish()];
}

const segment = (text: string) => ({ kind: "segment", bytes: Buffer.from(text) });
const line = (value: object) => `${JSON.stringify(value)}\n`;

describe("a document", () => {
  test.each<[string, string, readonly object[]]>([
    ["nothing", "", []],
    ["a segment", line({ type: 2, payload: "YWI=", position: 0 }), [segment("ab")]],
    ["no position", line({ type: 2, payload: "YWI=" }), [segment("ab")]],
    ["an empty segment", line({ type: 2, payload: null }), [segment("")]],
    ["no last newline", '{"type":2,"payload":"YWI="}', [segment("ab")]],
    ["an empty line", `\n${line({ type: 2, payload: "YWI=" })}\n`, [segment("ab")]],
    [
      "a file",
      line({ type: 1, name: "./é", size: 5, payload: "AAAAAAAAAAA=", position: 0 }),
      [{ kind: "file", name: "./\xc3\xa9", sizeBytes: 5 }],
    ],
    [
      "a directory",
      line({ type: 1, name: "usr/", payload: null, position: 0 }),
      [{ kind: "file", name: "usr/", sizeBytes: 0 }],
    ],
    [
      "a name that is not UTF-8",
      line({ type: 1, name_raw: "Yf9i", size: 1, position: 0 }),
      [{ kind: "file", name: "a\xffb", sizeBytes: 1 }],
    ],
  ])("%s", (_, document, entries) => {
    expect(read(document)).toEqual(entries);
    expect(read(document, 1)).toEqual(entries);
  });

  test.each<[string, string, RegExp]>([
    ["no JSON", "{", /at byte 0: a line is not JSON/],
    ["no object", "3\n", /Invalid input/],
    ["another type", line({ type: 3 }), /"type"/],
    ["a negative size", line({ type: 1, name: "a", size: -1 }), /"size"/],
    ["a fractional size", line({ type: 1, name: "a", size: 1.5 }), /"size"/],
    ["a size beyond 2^53", '{"type":1,"name":"a","size":9007199254740993}\n', /"size"/],
    ["a wrong position", line({ type: 2, payload: "", position: 1 }), /position 1 where 0/],
    ["no base64", line({ type: 2, payload: "Y!I=" }), /not base64/],
    ["base64 cut short", line({ type: 2, payload: "YWI" }), /not base64/],
    ["the second line", `${line({ type: 2 })}x\n`, /at byte 11: a line is not JSON/],
  ])("%s is refused", (_, document, message) => {
    expect(() => read(document)).toThrow(FormatError);
    expect(() => read(document, 3)).toThrow(message);
  });

  test("a line without an end is bounded", () => {
    const reader = new TarSplitReader();
    const piece = Buffer.alloc(1 << 20, "x");
    const readOn = () => {
      for (let i = 0; i < 64; i++) [...reader.read(piece)];
    };
    expect(readOn).toThrow(/a line is longer than 33554432 bytes/);
  });
});

test("a tar taken apart is the tar when put together", () => {
  const file = fc.record({
    name: fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
    content: fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
  });
  const members = fc.array(
    file.filter(({ name }) => !name.includes(0)),
    { maxLength: 8 },
  );
  const sizes = fc.integer({ min: 1, max: 600 });
  fc.assert(
    fc.property(members, sizes, sizes, (tarMembers, segmentBytes, pieceBytes) => {
      const tar = Buffer.concat([...tarMembers.map(tarMember), TAR_END]);
      const parts = takeApart(tar);
      const files = parts.filter((part) => part.kind === "file");
      const entries = read(writeTarSplit(parts, segmentBytes), pieceBytes);
      const bytes = entries.map((entry) => {
        if (entry.kind === "segment") return entry.bytes;
        const { path, content } = files.shift()!;
        expect(entry).toEqual({ kind: "file", name: path, sizeBytes: content.length });
        return content;
      });
      expect(Buffer.concat(bytes).equals(tar)).toBe(true);
      expect(files).toEqual([]);
    }),
  );
});
