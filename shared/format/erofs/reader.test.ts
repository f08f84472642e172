import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { writeErofsFromDump } from "../../../test/support/dump-image.ts";
import { makeRandomDump } from "../../../test/support/random-dump.ts";
import { FormatError } from "../../error.ts";
import { parseDump } from "../tree/dump.ts";
import { formatDump } from "../tree/dump-format.ts";
import type { DirectoryNode, FileNode } from "../tree/node.ts";
import type { ErofsFormat } from "./format.ts";
import { DirectoryEntry, INODES_AT, InodeCompact, LAYOUT_CHUNK_BASED } from "./layout.ts";
import { collectObjects, readErofs } from "./reader.ts";
import { writeErofs } from "./writer.ts";

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
  test("random trees: write, read, write again is the same", { timeout: 60_000 }, () => {
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

  test("damaged images are refused or read, never more", { timeout: 60_000 }, () => {
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

  test("a directory whose data would be in the object store (found by fuzzing)", () => {
    const bytes = image();
    const view = new DataView(bytes.buffer);
    const childAt = [...Array(bytes.length / 32).keys()]
      .map((slot) => slot * 32)
      .find((at) => at > INODES_AT && view.getUint16(at + 4, true) === 0o040755)!;
    view.setUint16(childAt, (view.getUint16(childAt, true) & 1) | LAYOUT_CHUNK_BASED, true);
    expect(() => readErofs(bytes)).toThrow(/Only files can be external/);
    expect(() => collectObjects(bytes)).toThrow(/Only files can be external/);
  });

  test("a root of versions 0 and 1 without one of the names 00 to ff", () => {
    for (const version of [0, 1] as const) {
      const bytes = Buffer.from(
        writeErofs(parseDump(Buffer.from(dump)), { version, dialect: "c" }),
      );
      expect(readErofs(bytes).version).toBe(version);
      const namesAt = bytes.indexOf("7e7f80");
      bytes.write("g", namesAt + 3);
      expect(() => readErofs(bytes)).toThrow(/255 of the names 00 to ff/);
      expect(() => collectObjects(bytes)).toThrow(/255 of the names 00 to ff/);
    }
  });

  test("a root whose own entries take some of these names is fine", () => {
    const own = "/a0 0 40755 2 0 0 0 0.0 - - -\n/b1 1 100644 1 0 0 0 0.0 - x -\n";
    const bytes = writeErofs(parseDump(Buffer.from(dump + own)), { version: 1, dialect: "c" });
    expect([...readErofs(bytes).root.entries.keys()]).toEqual(["a0", "b1", "d"]);
  });

  test("contents longer than any writer puts into an image", () => {
    const root = parseDump(Buffer.from(dump));
    const { entries } = root.entries.get("d") as DirectoryNode;
    const file = entries.get("f") as FileNode;
    for (const [sizeBytes, isRefused] of [
      [5000, false],
      [5001, true],
    ] as const) {
      file.content = { kind: "inline", bytes: new Uint8Array(sizeBytes).fill(0x61) };
      const bytes = writeErofs(root, { version: 1, dialect: "c" });
      if (isRefused) expect(() => readErofs(bytes)).toThrow(/longer than 5000 bytes/);
      else
        expect(
          Buffer.compare(writeErofs(readErofs(bytes).root, { version: 1, dialect: "c" }), bytes),
        ).toBe(0);
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

test("xattr values that files share are there once, as views of the image", () => {
  const xattrs = `user.a=${"v".repeat(3000)} trusted.overlay.b=${"w".repeat(3000)} user.c=`;
  const names = ["/a", "/b", "/c"];
  const lines = names.map((name) => `${name} 0 100644 1 0 0 0 0.0 - - - ${xattrs}\n`).join("");
  const text = Buffer.from(`/ 0 40755 2 0 0 0 0.0 - - -\n${lines}`);
  for (const version of [1, 2] as const) {
    const image = writeErofs(parseDump(text, { dialect: "rust" }), { version, dialect: "rust" });
    const files = [...readErofs(image).root.entries.values()];
    expect(files.length).toBe(3);
    for (const name of ["user.a", "trusted.overlay.b"]) {
      const values = files.map((file) => file.xattrs.get(name)!);
      expect(values.every(({ length, buffer }) => length === 3000 && buffer === image.buffer)).toBe(
        true,
      );
      expect(new Set(values.map(({ byteOffset }) => byteOffset)).size).toBe(1);
    }
  }
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
