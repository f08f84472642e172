// Archives that no image layer may contain: malformed, oversized, ambiguous.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  paxMember,
  TAR_END,
  type TarMember,
  tarMember,
} from "../../../test/support/tar-builder.ts";
import { readTar } from "../../../test/support/tar-listing.ts";
import { FormatError } from "../../error.ts";

function readError(...blocks: Buffer[]): FormatError {
  try {
    readTar(Buffer.concat(blocks));
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

const file = (fields: Partial<TarMember> = {}): Buffer =>
  tarMember({ name: "f", content: "data", ...fields });

describe("bad archives are refused", () => {
  const rawPax = (text: string): Buffer => tarMember({ name: "x", type: "x", content: text });
  test.each<[string, Buffer[], FormatError["code"], RegExp]>([
    ["wrong checksum", [file({ checksumError: 1 })], "bad-value", /checksum/],
    ["no octal", [file({ patch: [124, Buffer.from("00000000009\0")] })], "bad-value", /octal/],
    [
      "size over 2^53",
      [file({ patch: [124, Buffer.from("800000010000000000000000", "hex")] })],
      "limit",
      /53 bits/,
    ],
    ["negative size", [file({ patch: [124, Buffer.alloc(12, 0xff)] })], "bad-value", /size/],
    ["negative uid", [file({ patch: [108, Buffer.alloc(8, 0xff)] })], "bad-value", /uid/],
    ["truncated header", [file().subarray(0, 300)], "truncated", /middle/],
    [
      "truncated content",
      [file({ content: "x".repeat(900) }).subarray(0, 1000)],
      "truncated",
      /middle/,
    ],
    ["truncated padding", [file().subarray(0, 600)], "truncated", /middle/],
    ["entry after a zero block", [Buffer.alloc(512), file()], "bad-value", /zero block/],
    ["extension without an entry", [paxMember([["path", "x"]]), TAR_END], "truncated", /no entry/],
    ["extension at the end", [paxMember([["path", "x"]])], "truncated", /middle/],
    ["GNU sparse", [file({ type: "S" })], "unsupported", /sparse/],
    ["PAX sparse", [paxMember([["GNU.sparse.major", "1"]]), file()], "unsupported", /sparse/],
    ["unknown type", [file({ type: "V" })], "unsupported", /type "V"/],
    [
      "directory with data",
      [tarMember({ name: "d", type: "5", sizeBytes: 512 })],
      "bad-value",
      /size/,
    ],
    [
      "hard link with data",
      [tarMember({ name: "l", type: "1", linkName: "f", content: "x" })],
      "bad-value",
      /size/,
    ],
    [
      "symlink with PAX size",
      [paxMember([["size", "512"]]), tarMember({ name: "l", type: "2", linkName: "f" })],
      "bad-value",
      /size/,
    ],
    ["symlink without target", [tarMember({ name: "l", type: "2" })], "bad-value", /target/],
    [
      "device number",
      [tarMember({ name: "c", type: "3", device: [0x1000, 0] })],
      "bad-value",
      /device/,
    ],
    [
      "huge PAX header",
      [tarMember({ name: "x", type: "x", sizeBytes: 2 ** 31 })],
      "limit",
      /extension/,
    ],
    [
      "huge long name",
      [tarMember({ name: "x", type: "L", sizeBytes: 2 ** 33 - 1 })],
      "limit",
      /extension/,
    ],
    [
      "many extensions for one entry",
      Array.from({ length: 20 }, (_, i) =>
        paxMember([[`SCHILY.xattr.user.${i}`, Buffer.alloc(60_000)]]),
      ),
      "limit",
      /extension/,
    ],
    ["path over PATH_MAX", [paxMember([["path", "a/".repeat(2049)]]), file()], "limit", /4096/],
    [
      "link target over PATH_MAX",
      [paxMember([["linkpath", "a".repeat(4097)]]), tarMember({ name: "l", type: "2" })],
      "limit",
      /4096/,
    ],
    [
      "xattr over 64 KiB",
      [paxMember([["SCHILY.xattr.user.a", Buffer.alloc(65537)]]), file()],
      "limit",
      /xattr/,
    ],
    ["xattr without a name", [paxMember([["SCHILY.xattr.", "x"]]), file()], "bad-value", /xattr/],
    ["NUL in a PAX path", [paxMember([["path", "a\0b"]]), file()], "bad-value", /NUL/],
    ["PAX uid with a sign", [paxMember([["uid", "+1"]]), file()], "bad-value", /uid/],
    ["PAX size in hex", [paxMember([["size", "0x10"]]), file()], "bad-value", /size/],
    [
      "PAX size too large",
      [paxMember([["size", "9007199254740993"]]), file()],
      "bad-value",
      /size/,
    ],
    ["PAX uid too large", [paxMember([["uid", "4294967296"]]), file()], "bad-value", /uid/],
    ["PAX mtime is text", [paxMember([["mtime", "now"]]), file()], "bad-value", /mtime/],
    [
      "PAX record longer than the header",
      [rawPax("99 path=x\n"), file()],
      "bad-value",
      /malformed/,
    ],
    ["PAX record too short", [rawPax("5 path=x\n"), file()], "bad-value", /malformed/],
    ["PAX record without newline", [rawPax("9 path=xy"), file()], "bad-value", /malformed/],
    ["PAX record without =", [rawPax("8 pathx\n"), file()], "bad-value", /malformed/],
    ["PAX record without key", [rawPax("5 =x\n"), file()], "bad-value", /malformed/],
    ["PAX length no number", [rawPax("-9 path=x\n"), file()], "bad-value", /malformed/],
    ["PAX length zero", [rawPax("0 path=x\n"), file()], "bad-value", /malformed/],
    ["PAX header of spaces", [rawPax("          "), file()], "bad-value", /malformed/],
  ])("%s", (_name, blocks, code, message) => {
    const error = readError(...blocks);
    expect(error).toMatchObject({ code, context: { format: "tar" } });
    expect(error.message).toMatch(message);
  });

  test("the error names entry and offset", () => {
    const error = readError(file(), tarMember({ name: "bad/dir", type: "5", sizeBytes: 3 }));
    expect(error.context).toEqual({ format: "tar", entry: "bad/dir", offset: 1024 });
    expect(error.message).toContain("at byte 1024");
  });

  test("an archive inside a file stays inside, whichever size counts (CVE-2025-62518)", () => {
    const inner = Buffer.concat([file({ name: "smuggled" }), TAR_END]);
    const { members } = readTar(
      Buffer.concat([
        paxMember([["size", String(inner.length)]]),
        tarMember({ name: "outer.tar", sizeBytes: 0, content: inner }),
        file({ name: "after" }),
      ]),
    );
    expect(members.map(({ path }) => path)).toEqual(["outer.tar", "after"]);
  });
});

test("any damage is either refused or reproduced", () => {
  const archive = Buffer.concat([
    paxMember([
      ["path", "p".repeat(120)],
      ["SCHILY.xattr.user.x", "value"],
      ["mtime", "1.5"],
    ]),
    file({ content: "c".repeat(700) }),
    tarMember({ name: "L", type: "L", content: `${"n".repeat(150)}\0` }),
    tarMember({ name: "d", type: "5" }),
    tarMember({ name: "l", type: "1", linkName: "f" }),
    TAR_END,
  ]);
  const damage = fc.array(
    fc.tuple(fc.nat(archive.length - 1), fc.constantFrom(0, 0x20, 0x31, 0x37, 0x78, 0x80, 0xff)),
    { minLength: 1, maxLength: 4 },
  );
  fc.assert(
    fc.property(damage, fc.nat(archive.length), (changes, length) => {
      const damaged = Buffer.from(archive);
      for (const [at, byte] of changes) damaged[at] = byte;
      repairChecksums(damaged);
      const cut = damaged.subarray(0, length % 3 === 0 ? length : archive.length);
      let bytes: Buffer | null = null;
      try {
        bytes = readTar(cut, 600).bytes;
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
      }
      if (bytes !== null) expect(bytes.equals(cut)).toBe(true);
    }),
    { numRuns: 1500 },
  );
});

/** Makes damage reach further than the checksum of the blocks that were headers. */
function repairChecksums(archive: Buffer): void {
  for (let at = 0; at < archive.length; at += 512) {
    if (!archive.subarray(at + 257, at + 262).equals(Buffer.from("ustar"))) continue;
    archive.fill(0x20, at + 148, at + 156);
    const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148, "latin1");
  }
}
