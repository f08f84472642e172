// Certificates in signatures of programs: what openssl writes, and everything else, refused in order.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  attachSignatures,
  type EfiSigner,
  formatSignatureList,
  formatSignatureTable,
  HASH_LIST,
  makeEfiSigner,
} from "../../../test/support/efi-keys.ts";
import { buildUki } from "../../../test/support/uki-builder.ts";
import { FormatError } from "../../error.ts";
import { parseSignatureCertificates } from "./certificates.ts";
import { readSignatureTable } from "./signature.ts";
import { parseSignatureLists } from "./signature-list.ts";

let directory: string;
let one: EfiSigner;
let other: EfiSigner;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "efi-certificates-"));
  one = makeEfiSigner(directory, "one");
  other = makeEfiSigner(directory, "other");
});
afterAll(() => rmSync(directory, { recursive: true }));

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const asFile = (bytes: Uint8Array) => ({
  name: "x.efi",
  sizeBytes: bytes.length,
  readAt: (target: Uint8Array, offset: number) =>
    Buffer.from(bytes).copy(target, 0, offset, offset + Math.min(target.length, 999)),
});

describe("certificates of a program", () => {
  test("of all its signatures", () => {
    const program = attachSignatures(buildUki([[".linux", "x"]]), one.sign(), other.sign());
    const found = parseSignatureCertificates(readSignatureTable(asFile(program)));
    expect(found.map(hex)).toEqual([hex(one.certificate), hex(other.certificate)]);
  });

  test("a program that is not signed has no table", () => {
    expect(readSignatureTable(asFile(buildUki([[".linux", "x"]])))).toHaveLength(0);
  });

  test("a table of megabytes is not read", () => {
    const program = attachSignatures(buildUki([[".linux", "x"]]), Buffer.alloc(2 << 20));
    expect(() => readSignatureTable(asFile(program))).toThrow(/more than 1 MiB/);
  });

  test.each<[string, (table: Buffer) => Buffer, RegExp]>([
    ["nothing", () => Buffer.alloc(0), /no certificate/],
    ["half a header", (table) => table.subarray(0, 5), /cut short/],
    ["half a signature", (table) => table.subarray(0, table.length >> 1), /cut short/],
    ["another kind", (table) => table.fill(0xef, 6, 7), /no PKCS #7/],
    ["a size of nothing", (table) => table.fill(0, 0, 4), /cut short/],
    ["a length beyond the end", (table) => table.fill(0xff, 10, 12), /cut short/],
    ["an unbounded length", (table) => table.fill(0x80, 9, 10), /malformed/],
    ["noise", (table) => table.fill(0x55, 8), /malformed|cut short/],
  ])("%s", (_, change, expected) => {
    const table = change(formatSignatureTable([one.sign()]));
    expect(() => parseSignatureCertificates(table)).toThrow(expected);
  });

  test("whatever is changed: certificates, or a FormatError", () => {
    const table = formatSignatureTable([one.sign(), other.sign()]);
    const change = fc.tuple(fc.nat(table.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        const copy = Buffer.from(table);
        for (const [at, value] of changes) copy[at] = value;
        try {
          expect(parseSignatureCertificates(copy).length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("lists of keys", () => {
  test("certificates, and that there is something else", () => {
    const lists = [formatSignatureList(one.certificate), formatSignatureList(other.certificate)];
    const expected = [hex(one.certificate), hex(other.certificate)];
    const read = (...parts: readonly Buffer[]) => {
      const { certificates, hasOthers } = parseSignatureLists(Buffer.concat(parts));
      return [certificates.map(hex), hasOthers];
    };
    expect(read(...lists)).toEqual([expected, false]);
    expect(read(lists[0]!, HASH_LIST, lists[1]!)).toEqual([expected, true]);
    expect(read()).toEqual([[], false]);
  });

  test.each<[string, (list: Buffer) => Buffer]>([
    ["cut short", (list) => list.subarray(0, -1)],
    ["half a header", (list) => list.subarray(0, 20)],
    ["entries of no size", (list) => list.fill(0, 24, 28)],
    ["a list of no size", (list) => list.fill(0, 16, 20)],
    ["a header beyond the end", (list) => list.fill(0xff, 20, 24)],
    ["part of an entry", (list) => list.fill(1, 24, 25)],
  ])("%s", (_, change) => {
    const list = change(formatSignatureList(Buffer.alloc(300)));
    expect(() => parseSignatureLists(list)).toThrow(/list of Secure Boot keys is malformed/);
  });
});
