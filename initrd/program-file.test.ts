import { closeSync, openSync, readSync } from "node:fs";
import { expect, test } from "vitest";
import { type ReadAt, readProgramNeeds } from "./program-file.ts";

const NOTHING = { interpreter: null, libraries: [], searchPath: [] };

function readerOf(bytes: Uint8Array): ReadAt {
  return (offset, length) => bytes.subarray(offset, offset + length);
}

function readFile<T>(path: string, use: (readAt: ReadAt) => T): T {
  const fd = openSync(path, "r");
  try {
    return use((offset, length) => {
      const part = new Uint8Array(length);
      return part.subarray(0, readSync(fd, part, 0, length, offset));
    });
  } finally {
    closeSync(fd);
  }
}

/** A program of two segments: the string table, and what points into it. */
function makeProgram(tags: readonly (readonly [number, number])[], strings: string): Uint8Array {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(32, 64n, true); // e_phoff
  view.setUint16(56, 2, true); // e_phnum
  const putSegment = (at: number, type: number, offset: number, address: number, size: number) => {
    view.setUint32(at, type, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(address), true);
    view.setBigUint64(at + 32, BigInt(size), true);
  };
  putSegment(64, 1, 0x800, 0x10800, 0x100); // PT_LOAD
  putSegment(120, 2, 0x400, 0x10400, (tags.length + 1) * 16); // PT_DYNAMIC
  tags.forEach(([tag, value], index) => {
    view.setBigUint64(0x400 + index * 16, BigInt(tag), true);
    view.setBigUint64(0x408 + index * 16, BigInt(value), true);
  });
  bytes.set(Buffer.from(strings), 0x800);
  return bytes;
}

test("readProgramNeeds reads the executable that runs this test", () => {
  const needs = readFile(process.execPath, readProgramNeeds);
  expect(needs.interpreter).toMatch(/\/ld-linux/);
  expect(needs.libraries).toContain("libc.so.6");
});

test("readProgramNeeds finds libraries and search path through the load segments", () => {
  const tags = [
    [1, 1],
    [1, 6],
    [29, 11],
    [5, 0x10800],
    [10, 32],
  ] as const;
  const program = makeProgram(tags, "\0lib1\0lib2\0/a:/b/c\0");
  expect(readProgramNeeds(readerOf(program))).toEqual({
    interpreter: null,
    libraries: ["lib1", "lib2"],
    searchPath: ["/a", "/b/c"],
  });
});

test.each([
  ["an empty file", new Uint8Array()],
  ["a script", Buffer.from("#!/bin/sh\nexec true\n")],
  ["a cut header", makeProgram([], "").subarray(0, 40)],
  ["cut program headers", makeProgram([], "").subarray(0, 100)],
  ["big-endian", makeProgram([[1, 1]], "\0x").map((byte, index) => (index === 5 ? 2 : byte))],
  ["no dynamic section", makeProgram([], "")],
])("readProgramNeeds gives nothing for %s", (_, bytes) => {
  expect(readProgramNeeds(readerOf(bytes))).toEqual(NOTHING);
});

test("readProgramNeeds takes no memory for tables of absurd size", () => {
  const tags = [
    [1, 1],
    [5, 0x10800],
    [10, 2 ** 40],
  ] as const;
  expect(readProgramNeeds(readerOf(makeProgram(tags, "\0x"))).libraries).toEqual([""]);
});

test("readProgramNeeds passes read errors on", () => {
  const failing = () => {
    throw Object.assign(new Error("read: Input/output error"), { code: "EIO" });
  };
  expect(() => readProgramNeeds(failing)).toThrow("Input/output error");
});
