import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { makeRandomDump } from "../../../test/support/random-dump.ts";
import { FormatError } from "../../error.ts";
import { parseDump } from "../tree/dump.ts";
import { formatDump } from "../tree/dump-format.ts";
import type { ErofsFormat } from "./format.ts";
import { DirectoryEntry, INODES_AT, InodeCompact } from "./layout.ts";
import { collectObjects, readErofs } from "./reader.ts";
import { writeErofs, writeErofsFromDump } from "./writer.ts";

const FORMATS: readonly ErofsFormat[] = [
  { version: 0, dialect: "c" },
  { version: 1, dialect: "c" },
  { version: 0, dialect: "rust" },
  { version: 1, dialect: "rust" },
  { version: 2, dialect: "rust" },
];
const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });

/** C's formats take everything; the others what composefs-rs can hold. */
function randomDump(seed: number, { dialect }: ErofsFormat, maxEntries: number): Buffer {
  return Buffer.from(makeRandomDump(seed, { maxEntries, portable: dialect === "rust" }), "latin1");
}

describe.each(FORMATS)("version $version, dialect $dialect", (format) => {
  test("random trees: write, read, write again is the same", () => {
    fc.assert(
      fc.property(seeds, (seed) => {
        const dump = randomDump(seed, format, 120);
        const image = writeErofs(parseDump(dump), format);
        expect(Buffer.compare(writeErofsFromDump(dump, {}, format), image)).toBe(0);
        const read = readErofs(image);
        expect(read.version).toBe(format.version);
        expect(Buffer.compare(writeErofs(read.root, format), image)).toBe(0);
        const printed = [...formatDump(read.root)].join("");
        const reparsed = parseDump(Buffer.from(printed, "latin1"));
        expect([...formatDump(reparsed)].join("")).toBe(printed);
      }),
      { numRuns: 40 },
    );
  });

  test("damaged images are refused or read, never more", () => {
    fc.assert(
      fc.property(
        seeds,
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
        (seed, damage) => {
          const image = writeErofs(parseDump(randomDump(seed, format, 20)), format);
          for (const [at, value] of damage) {
            // Mostly where the inodes are; an image of stubs only has most of its bytes there.
            const range = at % 3 === 0 ? image.length : Math.min(image.length, 9000);
            image[at % range] = value;
          }
          readSafely(image);
        },
      ),
      { numRuns: 120 },
    );
  });
});

function readSafely(image: Uint8Array): void {
  try {
    const { root, version } = readErofs(image);
    collectObjects(image);
    Array.from(formatDump(root));
    writeErofs(root, { version, dialect: "c" });
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
}

describe("hostile images", () => {
  const dump =
    "/ 0 40755 2 0 0 0 0.0 - - -\n/d 0 40755 2 0 0 0 0.0 - - -\n/d/f 1 100644 1 0 0 0 0.0 - x -\n";
  const image = () => writeErofs(parseDump(Buffer.from(dump)), { version: 2, dialect: "rust" });

  test.each([
    ["empty", () => new Uint8Array(0)],
    ["not whole blocks", () => image().subarray(0, 4095)],
    ["another magic", () => image().fill(0, 0, 4)],
    ["an unknown version", () => image().fill(3, 12, 13)],
    ["an unknown flag", () => image().fill(2, 8, 9)],
    ["zeros after the headers", () => image().fill(0, INODES_AT)],
  ])("%s", (_name, make) => {
    expect(() => readErofs(make())).toThrow(FormatError);
    expect(() => collectObjects(make())).toThrow(FormatError);
  });

  /** Version 2 puts the root first and its child directory right behind it. */
  function withEntryOfRoot(index: number, change: (bytes: Uint8Array, at: number) => void) {
    const bytes = image();
    const rootTailAt = INODES_AT + 64;
    change(bytes, rootTailAt + index * DirectoryEntry.sizeBytes);
    return bytes;
  }

  test("a directory that contains itself", () => {
    const bytes = withEntryOfRoot(2, (b, at) => b.set(b.subarray(at - 24, at - 16), at));
    expect(() => readErofs(bytes)).toThrow(FormatError);
  });

  test("a wrong parent, a wrong type, a name with a slash", () => {
    const wrongParent = withEntryOfRoot(1, (b, at) => (b[at]! += 1));
    const wrongType = withEntryOfRoot(2, (b, at) => (b[at + DirectoryEntry.offsets.fileType] = 1));
    const slash = withEntryOfRoot(0, (b, at) => (b[at + 3 * 12 + 3] = 0x2f));
    for (const bytes of [wrongParent, wrongType, slash]) {
      expect(() => readErofs(bytes)).toThrow(FormatError);
    }
  });

  test("a thousand directories that share one large block run out of budget", () => {
    const names = (prefix: string) =>
      Array.from({ length: 1000 }, (_, i) => `/${prefix}${i} 0 40755 2 0 0 0 0.0 - - -\n`);
    const text = `/ 0 40755 2 0 0 0 0.0 - - -\n${names("d").join("")}`;
    const bytes = writeErofs(parseDump(Buffer.from(text)), { version: 0, dialect: "c" });
    const view = new DataView(bytes.buffer);
    const root = INODES_AT;
    for (let at = root + 32; at + 32 < bytes.length; at += 32) {
      const isDirectory = view.getUint16(at + InodeCompact.offsets.mode, true) === 0o040755;
      if (!isDirectory) continue;
      // FLAT_PLAIN with the root's size and blocks.
      view.setUint16(at, 0, true);
      bytes.copyWithin(at + 8, root + 8, root + 12);
      bytes.copyWithin(at + 16, root + 16, root + 20);
    }
    expect(() => readErofs(bytes)).toThrow(/overlap/);
    expect(() => collectObjects(bytes)).toThrow(/overlap/);
  });
});

test("objects come from digests, and from paths where there is no digest", () => {
  const digest = (char: string) => char.repeat(64);
  const path = (char: string) => `${char.repeat(2)}/${char.repeat(62)}`;
  const text = [
    "/ 0 40755 2 0 0 0 0.0 - - -",
    `/a 9 100644 1 0 0 0 0.0 ${path("a")} - ${digest("a")}`,
    `/b 9 100644 1 0 0 0 0.0 ${path("b")} - -`,
    "/c 9 100644 1 0 0 0 0.0 elsewhere - -",
    "/d 9 100644 1 0 0 0 0.0 - - -",
    "",
  ].join("\n");
  const bytes = writeErofs(parseDump(Buffer.from(text)), { version: 1, dialect: "c" });
  expect(collectObjects(bytes)).toEqual(new Set([digest("a"), digest("b")]));
});
