import { describe, expect, test } from "vitest";
import { buildUki } from "../../../test/support/uki-builder.ts";
import type { ByteFile } from "./reader.ts";
import { findProgramDifference, isSignedProgram } from "./signature.ts";

const OPTIONAL_AT = 128 + 24;
const CHECKSUM_AT = OPTIONAL_AT + 64;
const DIRECTORY_AT = OPTIONAL_AT + 112 + 4 * 8;

/** A program as a linker makes it: with an optional header and places for 16 directories. */
function makeProgram(text = "kernel", tailBytes = 0): Buffer {
  const file = Buffer.concat([
    buildUki([
      [".linux", text],
      [".initrd", "i".repeat(3000)],
    ]),
    Buffer.alloc(tailBytes, "t"),
  ]);
  file.writeUInt16LE(0x20b, OPTIONAL_AT);
  file.writeUInt32LE(16, OPTIONAL_AT + 108);
  return file;
}

/** As sbsign does: padded to 8, the table appended, its place and a checksum written. */
function signProgram(program: Buffer, signature = "PKCS7 ".repeat(20)): Buffer {
  const padded = Buffer.concat([program, Buffer.alloc(-program.length & 7)]);
  const signed = Buffer.concat([padded, Buffer.from(signature)]);
  signed.writeUInt32LE(0xdecade, CHECKSUM_AT);
  signed.writeUInt32LE(padded.length, DIRECTORY_AT);
  signed.writeUInt32LE(signature.length, DIRECTORY_AT + 4);
  return signed;
}

const asFile = (bytes: Buffer): ByteFile => ({
  name: "x.efi",
  sizeBytes: bytes.length,
  readAt: (target, offset) => bytes.copy(target, 0, offset, offset + Math.min(target.length, 999)),
});

const change = (bytes: Buffer, at: number): Buffer => {
  const changed = Buffer.from(bytes);
  changed[at]! ^= 1;
  return changed;
};

const compare = (one: Buffer, other: Buffer) => findProgramDifference(asFile(one), asFile(other));

describe("signatures of EFI programs", () => {
  test("are seen", () => {
    expect(isSignedProgram(asFile(makeProgram()))).toBe(false);
    expect(isSignedProgram(asFile(signProgram(makeProgram())))).toBe(true);
  });

  test.each([0, 1, 5, 8, 4000])(
    "do not count when programs are compared (%i bytes more)",
    (tail) => {
      const program = makeProgram("kernel", tail);
      const signed = signProgram(program);
      expect(compare(program, signed)).toBe(null);
      expect(compare(signed, program)).toBe(null);
      expect(compare(signed, signProgram(program, "another".repeat(9)))).toBe(null);
      expect(compare(program, program)).toBe(null);
    },
  );

  test("every other byte does", () => {
    const program = makeProgram("kernel", 5);
    const signed = signProgram(program);
    const masked = new Set([...range(CHECKSUM_AT, 4), ...range(DIRECTORY_AT, 8)]);
    for (let at = 0; at < program.length; at += at < 700 ? 1 : 97) {
      // Without its magic it is no program at all.
      if (masked.has(at) || at < 2 || range(60, 4).includes(at)) continue;
      if (range(OPTIONAL_AT, 2).includes(at) || range(OPTIONAL_AT + 108, 4).includes(at)) continue;
      expect(compare(change(program, at), signed), String(at)).toBe(at);
    }
  });

  test("also what a signer pads with, and what is missing or too much", () => {
    const program = makeProgram("kernel", 5);
    const signed = signProgram(program);
    expect(compare(program, change(signed, program.length))).toBe(program.length);
    expect(compare(makeProgram("kernel", 13), signed)).not.toBe(null);
    expect(compare(makeProgram("kernel", 0), signed)).not.toBe(null);
  });

  test.each<[string, Buffer, string]>([
    ["nothing", Buffer.alloc(0), "no complete headers"],
    ["headers cut short", makeProgram().subarray(0, 200), "no complete headers"],
    [
      "another kind of optional header",
      makeProgram().fill(0, OPTIONAL_AT, OPTIONAL_AT + 2),
      "no EFI program",
    ],
    [
      "bytes after the signatures",
      Buffer.concat([signProgram(makeProgram()), Buffer.from("x")]),
      "other than its end",
    ],
    ["a table inside the headers", moveTable(8), "other than its end"],
    ["a table without bytes", moveTable(makeProgram().length), "other than its end"],
    ["no directory for signatures", fewDirectories(), "no place for signatures"],
  ])("%s is refused", (_, bytes, message) => {
    expect(() => isSignedProgram(asFile(bytes))).toThrow(message);
  });
});

function range(start: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => start + index);
}

function moveTable(to: number): Buffer {
  const program = makeProgram();
  program.writeUInt32LE(to, DIRECTORY_AT);
  program.writeUInt32LE(program.length - to, DIRECTORY_AT + 4);
  return program;
}

function fewDirectories(): Buffer {
  const program = makeProgram();
  program.writeUInt32LE(4, OPTIONAL_AT + 108);
  return program;
}
