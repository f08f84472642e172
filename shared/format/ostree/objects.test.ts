// ostree objects with wrong parts. Good ones, made by the real ostree, are in test/vectors/ostree.

import { expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { encodeGVariant } from "../gvariant/encode.ts";
import type { GVariant } from "../gvariant/value.ts";
import { swap32, swap64, swapToNumber } from "./byte-order.ts";
import { encodeCommit, parseCommit } from "./commit.ts";
import { encodeDirtree, parseDirtree } from "./dirtree.ts";
import { archiveHeaderBytes, makeFileHeader, parseArchiveHeader } from "./file-header.ts";
import { encodeOwnership, parseDirmeta, parseFileMetadata } from "./metadata.ts";
import { checksumFromBytes, isChecksum, loosePath, parseLooseName } from "./object.ts";

const SUM = new Uint8Array(32).fill(7);
const HEX = "07".repeat(32);
const SHORT = new Uint8Array(31);
const NO_XATTRS = new Map<string, Uint8Array>();

function refuses(parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array, problem: string): void {
  expect(() => parse(bytes)).toThrow(FormatError);
  expect(() => parse(bytes)).toThrow(problem);
}

test.each<[readonly GVariant[], readonly GVariant[], string]>([
  [[["", SUM]], [], "cannot be the name"],
  [[[".", SUM]], [], "cannot be the name"],
  [[], [["..", SUM, SUM]], "cannot be the name"],
  [[["a/b", SUM]], [], "cannot be the name"],
  [[["x".repeat(256), SUM]], [], "longer than 255 bytes"],
  [[["ü".repeat(128), SUM]], [], "longer than 255 bytes"],
  [
    [
      ["b", SUM],
      ["a", SUM],
    ],
    [],
    "out of order",
  ],
  [
    [
      ["a", SUM],
      ["a", SUM],
    ],
    [],
    "out of order",
  ],
  [
    [
      ["\u{1f600}", SUM],
      ["\ufb01", SUM],
    ],
    [],
    "out of order",
  ], // bytes, not UTF-16 units
  [[["a", SUM]], [["a", SUM, SUM]], "both a file and a directory"],
  [[["a", SHORT]], [], 'The checksum of "a" has 31 bytes'],
  [[], [["a", SUM, new Uint8Array(0)]], 'metadata checksum of "a" has 0 bytes'],
])("refuses a dirtree %#", (files, directories, problem) => {
  refuses(parseDirtree, encodeGVariant("(a(say)a(sayay))", [files, directories]), problem);
});

test("a dirtree is written in the order of its names' bytes", () => {
  const names = ["\u{1f600}", "\ufb01", "b", "a"].map((text) =>
    Buffer.from(text).toString("latin1"),
  );
  const files = names.map((name) => ({ name, checksum: HEX }));
  const again = parseDirtree(encodeDirtree({ files, directories: [] }));
  expect(again.files.map(({ name }) => name)).toEqual([...names].sort());
  for (const name of ["\xff", "a/b", ""]) {
    expect(() => encodeDirtree({ files: [{ name, checksum: HEX }], directories: [] })).toThrow(
      FormatError,
    );
  }
});

test.each<[number, GVariant, string]>([
  [0o100644, [], "has the mode 0100644"],
  [0o240755, [], "has the mode"],
  [0o755, [], "has the mode 0755"],
  [0o40755, [[Buffer.from("user.a"), SUM]], "NUL in the wrong place"],
  [0o40755, [[Buffer.from("\0"), SUM]], "empty or has a NUL"],
  [0o40755, [[Buffer.from(""), SUM]], "empty or has a NUL"],
  [0o40755, [[Buffer.from("a\0b\0"), SUM]], "NUL in the wrong place"],
  [
    0o40755,
    [
      [Buffer.from("b\0"), SUM],
      [Buffer.from("a\0"), SUM],
    ],
    "out of order",
  ],
  [
    0o40755,
    [
      [Buffer.from("a\0"), SUM],
      [Buffer.from("a\0"), SUM],
    ],
    "out of order",
  ],
])("refuses a dirmeta %#", (mode, xattrs, problem) => {
  refuses(parseDirmeta, encodeGVariant("(uuua(ayay))", [0, 0, swap32(mode), xattrs]), problem);
});

test("xattrs are written in order", () => {
  const xattrs = new Map([
    ["user.b", SUM],
    ["user.ab", SUM],
    ["user.a", new Uint8Array(0)],
  ]);
  const bytes = encodeOwnership({ mode: 0o40755, uid: 1, gid: 0xffffffff, xattrs });
  const again = parseDirmeta(bytes);
  expect([...again.xattrs.keys()]).toEqual(["user.a", "user.ab", "user.b"]);
  expect(again).toMatchObject({ mode: 0o40755, uid: 1, gid: 0xffffffff });
  expect(() => parseFileMetadata(bytes)).toThrow("user.ostreemeta has the mode");
});

function archived(fields: readonly GVariant[], length?: number): Uint8Array {
  const header = encodeGVariant("(tuuuusa(ayay))", fields);
  const prefix = Buffer.alloc(8);
  prefix.writeUInt32BE(length ?? header.length);
  return Buffer.concat([prefix, header]);
}
const REGULAR = swap32(0o100644);
const LINK = swap32(0o120777);

test.each<[Uint8Array, string]>([
  [new Uint8Array(7), "is cut off"],
  [Buffer.from("0000000000000001", "hex"), "zeros after its length"],
  [Buffer.from("ffffffff00000000", "hex"), "claims 4294967295 bytes"],
  [archived([0n, 0, 0, REGULAR, 0, "", []], 500), "is cut off"],
  [archived([0n, 0, 0, REGULAR, 5, "", []]), "is of a device"],
  [archived([0n, 0, 0, REGULAR, 0, "t", []]), "regular file with a link target"],
  [archived([0n, 0, 0, swap32(0o10644), 0, "", []]), "has the mode 010644"],
  [archived([swap64(1n), 0, 0, LINK, 0, "t", []]), "symlink with content"],
  [archived([swap64(1n << 60n), 0, 0, REGULAR, 0, "", []]), "too large"],
])("refuses an archived header %#", (bytes, problem) => {
  refuses(parseArchiveHeader, bytes, problem);
});

test("an archived header tells its length first", () => {
  const bytes = archived([swap64(5n), swap32(7), 0, REGULAR, 0, "", []]);
  expect(archiveHeaderBytes(bytes)).toBe(bytes.length);
  const { header, sizeBytes } = parseArchiveHeader(Buffer.concat([bytes, Buffer.from("more")]));
  expect(header).toMatchObject({ uid: 7, mode: 0o100644, target: null });
  expect(sizeBytes).toBe(5);
  expect(() => makeFileHeader({ mode: 0o100644, uid: 0, gid: 0, xattrs: NO_XATTRS }, "t")).toThrow(
    "link target",
  );
});

test.each<[number, GVariant, string]>([
  [1, SHORT, "The parent of a commit has 31 bytes"],
  [2, [["x", SHORT]], "A related commit has 31 bytes"],
  [5, swap64(1n << 60n), "The time of a commit is"],
  [6, SHORT, "The root directory of a commit has 31"],
  [7, new Uint8Array(0), "The root directory's metadata of a commit has 0"],
])("refuses a commit with a wrong field %i", (index, value, problem) => {
  const fields: GVariant[] = [[], SUM, [], "s", "b", 0n, SUM, SUM];
  fields[index] = value;
  refuses(parseCommit, encodeGVariant("(a{sv}aya(say)sstayay)", fields), problem);
});

test("a commit survives a round trip; times before 1970 do not exist", () => {
  const commit = {
    metadata: [["k", { type: "v", value: { type: "s", value: "x" } }]] as const,
    related: [["r", HEX]] as const,
    ...{ parent: null, subject: "", body: "ü", timestampSec: 2 ** 40, tree: HEX, meta: HEX },
  };
  expect(parseCommit(encodeCommit(commit))).toEqual(commit);
  expect(() => encodeCommit({ ...commit, timestampSec: -1 })).toThrow("the time -1");
});

test("byte order", () => {
  expect(swap32(0x01020304)).toBe(0x04030201);
  expect(swap32(0xff000000)).toBe(0xff);
  expect(swap64(0x0102030405060708n)).toBe(0x0807060504030201n);
  expect(swapToNumber(swap64(2n ** 53n - 1n), "x")).toBe(2 ** 53 - 1);
});

test("names of loose objects", () => {
  expect(isChecksum(HEX)).toBe(true);
  expect(["", "07", HEX.toUpperCase().replace("0", "A"), `${HEX}0`].some(isChecksum)).toBe(false);
  expect(loosePath(HEX, "commit")).toBe(`07/${HEX.slice(2)}.commit`);
  expect(parseLooseName("07", `${HEX.slice(2)}.file-xattrs-link`)).toEqual({
    checksum: HEX,
    type: "file-xattrs-link",
  });
  for (const name of [HEX.slice(2), `${HEX.slice(2)}.`, `${HEX.slice(2)}.tmp`, `${HEX}.commit`]) {
    expect(parseLooseName("07", name)).toBe(null);
  }
  expect(() => checksumFromBytes(SHORT, "It")).toThrow("It has 31 bytes, not 32");
});
