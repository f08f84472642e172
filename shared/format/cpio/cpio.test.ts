import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CpioReader } from "./reader.ts";
import { type CpioFile, writeCpio } from "./writer.ts";

const file = (path: string, text: string): CpioFile => ({
  path,
  mode: 0o644,
  sizeBytes: Buffer.byteLength(text),
  content: [Buffer.from(text)],
});

const archive = (files: readonly CpioFile[]) => Buffer.concat([...writeCpio(files)]);

/** In pieces of this many bytes; what is read and what is left. */
function read(bytes: Uint8Array, pieceBytes = bytes.length) {
  const contents = new Map<string, string>();
  const passed: string[] = [];
  const reader = new CpioReader({
    wants: ({ path }) => {
      if (!passed.includes(path)) passed.push(path);
      return !path.endsWith("skipped");
    },
    content: ({ path }, content) => void contents.set(path, Buffer.from(content).toString()),
  });
  for (let at = 0; at < bytes.length && reader.foreign === null; at += pieceBytes) {
    reader.write(bytes.subarray(at, at + pieceBytes));
  }
  return { reader, contents, passed };
}

describe("cpio", () => {
  test("an archive has the bytes that cpio(5) describes", () => {
    const bytes = archive([file("a/b", "xyz")]);
    const headers = bytes.toString("latin1").match(/070701[0-9A-F]{104}[^\0]*/g);
    expect(headers).toEqual([
      `070701${"00000001 000041ED 00000000 00000000 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000002 00000000".replaceAll(" ", "")}a`,
      `070701${"00000002 000081A4 00000000 00000000 00000001 00000000 00000003 00000000 00000000 00000000 00000000 00000004 00000000".replaceAll(" ", "")}a/b`,
      `070701${"00000000 00000000 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 0000000B 00000000".replaceAll(" ", "")}TRAILER!!!`,
    ]);
    expect(bytes.length % 4).toBe(0);
  });

  test("directories are there once, before what is in them", () => {
    const bytes = archive([file("a/b/c", ""), file("a/b/d", "")]);
    const names = [...bytes.toString("latin1").matchAll(/070701[0-9A-F]{104}([^\0]*)/g)];
    expect(names.map(([, name]) => name)).toEqual(["a", "a/b", "a/b/c", "a/b/d", "TRAILER!!!"]);
  });

  test("a file of another size than it says is an error", () => {
    expect(() => archive([{ ...file("a", "abc"), sizeBytes: 4 }])).toThrow("has not the 4 bytes");
    expect(() => archive([{ ...file("a", "abc"), sizeBytes: 2 }])).toThrow("has not the 2 bytes");
  });

  test("archives one after the other, with zeros between them, are read in pieces of any size", () => {
    const parts = [
      archive([file("x", "one"), file("y/skipped", "s".repeat(999))]),
      Buffer.alloc(512),
      archive([file("z", "")]),
      Buffer.alloc(3),
    ];
    const bytes = Buffer.concat(parts);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: bytes.length }), (pieceBytes) => {
        const { reader, contents, passed } = read(bytes, pieceBytes);
        reader.finish();
        expect([...contents]).toEqual([
          ["x", "one"],
          ["z", ""],
        ]);
        expect(passed).toEqual(["x", "y", "y/skipped", "z"]);
      }),
    );
  });

  test.each([
    ["gzip", Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0])],
    ["few bytes", Buffer.from("BZ")],
  ])("what is no archive is handed back: %s", (_, foreign) => {
    const { reader, contents } = read(Buffer.concat([archive([file("x", "one")]), foreign]));
    expect(contents.get("x")).toBe("one");
    expect(Buffer.from(reader.foreign!)).toEqual(foreign);
  });

  test("a cut archive is an error at the end", () => {
    const bytes = archive([file("x", "one")]);
    for (const length of [5, 50, 115, bytes.length - 20]) {
      const { reader } = read(bytes.subarray(0, length));
      expect(() => reader.finish(), String(length)).toThrow("cut short");
    }
  });

  test("malformed headers are errors", () => {
    const bytes = archive([file("x", "one")]);
    const bad = Buffer.from(bytes);
    bad.write("zzzz", 20);
    expect(() => read(bad)).toThrow("malformed");
    const long = Buffer.from(bytes);
    long.write("0000FFFF", 94);
    expect(() => read(long)).toThrow("A name of 65535 bytes");
  });
});
