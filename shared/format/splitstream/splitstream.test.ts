// Round trips through writer and reader, both header layouts, and damaged files.

import { createHash, randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import type { VerityAlgorithm } from "../verity/digest.ts";
import { OldSplitStreamHeader, SplitStreamHeader } from "./format.ts";
import { readSplitStream, readSplitStreamRefs } from "./reader.ts";
import { SplitStreamWriter } from "./writer.ts";
import { checkZstdFrame } from "./zstd-frame.ts";

type Piece =
  | { readonly inline: Buffer }
  | { readonly external: string; readonly sizeBytes: number };

const digestOf = (text: string, algorithm: VerityAlgorithm = "sha512"): string =>
  createHash(algorithm).update(text).digest("hex");

async function writeStream(
  pieces: readonly Piece[],
  named: Readonly<Record<string, string>> = {},
  algorithm: VerityAlgorithm = "sha512",
): Promise<Buffer> {
  using writer = new SplitStreamWriter(algorithm, "ocilayer");
  for (const piece of pieces) {
    if ("inline" in piece) writer.writeInline(piece.inline);
    else writer.writeExternal(piece.external, piece.sizeBytes);
    await writer.drain();
  }
  for (const [name, digest] of Object.entries(named)) writer.addNamedRef(name, digest);
  return Buffer.concat(await writer.finish());
}

/** Pieces with neighbouring literals joined. */
function normalise(pieces: readonly Piece[]): Piece[] {
  const result: Piece[] = [];
  for (const piece of pieces) {
    const last = result.at(-1);
    if ("inline" in piece && last !== undefined && "inline" in last) {
      result[result.length - 1] = { inline: Buffer.concat([last.inline, piece.inline]) };
    } else if (!("inline" in piece) || piece.inline.length > 0) {
      result.push(piece);
    }
  }
  return result;
}

/** Comparing megabytes byte by byte is slow. */
function summarise(piece: Piece): string {
  if ("external" in piece) return piece.external;
  return `${piece.inline.length} ${createHash("sha1").update(piece.inline).digest("hex")}`;
}

async function readPieces(file: Uint8Array, sizes: ReadonlyMap<string, number>): Promise<Piece[]> {
  const pieces: Piece[] = [];
  await readSplitStream(file, "ocilayer", {
    inline: (bytes) => void pieces.push({ inline: Buffer.from(bytes) }),
    external: (external) => {
      const sizeBytes = sizes.get(external)!;
      pieces.push({ external, sizeBytes });
      return sizeBytes;
    },
  });
  return normalise(pieces);
}

const EXTERNALS = ["a", "b", "c"].map((text) => digestOf(text));
const SIZES = new Map(EXTERNALS.map((digest, i) => [digest, 65 + i * 1e10]));

describe("round trip", () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }).map((bytes) => ({ inline: Buffer.from(bytes) })),
    // Long literals cross the writer's buffers.
    fc.integer({ min: 250_000, max: 600_000 }).map((size) => ({ inline: randomBytes(size) })),
    fc
      .constantFrom(...EXTERNALS)
      .map((external) => ({ external, sizeBytes: SIZES.get(external)! })),
  );
  test("any stream", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const file = await writeStream(pieces);
        const read = await readPieces(file, SIZES);
        expect(read.map(summarise)).toEqual(normalise(pieces).map(summarise));
        const used = pieces.flatMap((p) => ("external" in p ? [p.external] : []));
        expect(readSplitStreamRefs(file).objectRefs).toEqual([...new Set(used)]);
      }),
      { numRuns: 40 },
    );
  });

  test("thousands of references, more than one buffer of them", async () => {
    const pieces = Array.from({ length: 80_000 }, (_, i) => ({
      external: EXTERNALS[i % 3]!,
      sizeBytes: SIZES.get(EXTERNALS[i % 3]!)!,
    }));
    const file = await writeStream(pieces);
    const read = await readPieces(file, SIZES);
    expect(read.map(summarise)).toEqual(pieces.map(summarise));
  });

  test.each(["sha256", "sha512"] as const)("named references, %s", async (algorithm) => {
    const [layer, image] = [digestOf("layer", algorithm), digestOf("image", algorithm)];
    const named = {
      "config:sha256:ab": layer,
      "composefs.image.v1": image,
      "sha256:0": layer,
      ünïcode: image,
    };
    const { objectRefs, namedRefs } = readSplitStreamRefs(await writeStream([], named, algorithm));
    expect(objectRefs).toEqual([]);
    expect(Object.fromEntries(namedRefs)).toEqual(named);
    // Sorted by bytes, as upstream writes them.
    expect([...namedRefs.keys()]).toEqual([
      "composefs.image.v1",
      "config:sha256:ab",
      "sha256:0",
      "ünïcode",
    ]);
  });

  test("the file begins as composefs-rs lays it out", async () => {
    const file = await writeStream([{ inline: Buffer.from("hi") }], {}, "sha256");
    expect(file.subarray(0, 48).toString("hex")).toBe(
      `${Buffer.from("SplitStream").toString("hex")}000000010c20000000000000007000000000000000` +
        // stream_refs: empty, after the info block
        "70000000000000007000000000000000",
    );
    expect(file.subarray(96, 104).toString()).toBe("ocilayer");
    expect(file.readBigUInt64LE(104)).toBe(2n);
  });
});

/** The same file with the header of bootc <= 1.15. */
function withOldHeader(file: Buffer): Buffer {
  const header = OldSplitStreamHeader.encode(SplitStreamHeader.decode(file));
  return Buffer.concat([header, file.subarray(32)]);
}

test("the old header layout is read", async () => {
  const pieces: Piece[] = [
    { inline: Buffer.from("x") },
    { external: EXTERNALS[0]!, sizeBytes: 65 },
  ];
  const file = withOldHeader(await writeStream(pieces, { a: EXTERNALS[1]! }));
  expect(file.subarray(18, 29).toString()).toBe("SplitStream");
  expect(await readPieces(file, SIZES)).toEqual(pieces);
  expect(readSplitStreamRefs(file).namedRefs).toEqual(new Map([["a", EXTERNALS[1]!]]));
});

test("a longer info block is read", async () => {
  const file = await writeStream([{ inline: Buffer.from("x") }]);
  const info = Buffer.concat([file.subarray(32, 112), Buffer.alloc(16, 1)]);
  const longer = Buffer.concat([file, info]);
  longer.writeBigUInt64LE(BigInt(file.length), 16);
  longer.writeBigUInt64LE(BigInt(longer.length), 24);
  expect(await readPieces(longer, SIZES)).toEqual([{ inline: Buffer.from("x") }]);
});

describe("damaged files are refused", () => {
  const chunk = (n: number, data = ""): Buffer => {
    const header = Buffer.alloc(8);
    header.writeBigInt64LE(BigInt(n));
    return Buffer.concat([header, Buffer.from(data)]);
  };
  /** Replaces the stream part and the size the file states. */
  const withStream = (file: Buffer, stream: Buffer, sizeBytes: number): Buffer => {
    const start = Number(file.readBigUInt64LE(64));
    const result = Buffer.concat([file.subarray(0, start), stream]);
    result.writeBigUInt64LE(BigInt(result.length), 72);
    result.writeBigUInt64LE(BigInt(sizeBytes), 104);
    return result;
  };
  const pack = (...parts: Buffer[]): Buffer => zstdCompressSync(Buffer.concat(parts));
  const withU64 = (file: Buffer, offset: number, value: bigint): Buffer => {
    const result = Buffer.from(file);
    result.writeBigUInt64LE(value, offset);
    return result;
  };

  test.each<[string, (file: Buffer) => Buffer, FormatError["code"]]>([
    ["empty", () => Buffer.alloc(0), "truncated"],
    ["other magic", (f) => Buffer.concat([Buffer.from("X"), f.subarray(1)]), "bad-magic"],
    [
      "version 1",
      (f) => Buffer.concat([f.subarray(0, 11), Buffer.of(1), f.subarray(12)]),
      "bad-value",
    ],
    [
      "algorithm 3",
      (f) => Buffer.concat([f.subarray(0, 14), Buffer.of(3), f.subarray(15)]),
      "unsupported",
    ],
    ["info beyond the end", (f) => withU64(f, 24, 1n << 40n), "truncated"],
    ["info too short", (f) => withU64(f, 24, 100n), "truncated"],
    ["start after end", (f) => withU64(f, 48, 1n << 20n), "truncated"],
    ["half a digest", (f) => withU64(f, 56, f.readBigUInt64LE(56) - 1n), "bad-value"],
    ["other content type", (f) => withU64(f, 96, 1n), "bad-value"],
    ["size over 2^53", (f) => withU64(f, 104, 1n << 60n), "bad-value"],
    ["cut stream", (f) => withU64(f, 72, f.readBigUInt64LE(72) - 3n), "truncated"],
    ["no stream", (f) => withStream(f, Buffer.alloc(0), 0), "truncated"],
    [
      "damaged compression",
      (f) =>
        withStream(
          f,
          Buffer.concat([pack(chunk(-1, "a")).subarray(0, 6), Buffer.from("01000000", "hex")]),
          1,
        ),
      "bad-value",
    ],
    ["stream is no zstd", (f) => withStream(f, Buffer.from("plainly not zstd"), 0), "bad-value"],
    ["two frames", (f) => withStream(f, Buffer.concat([pack(), pack()]), 0), "bad-value"],
    ["literal cut", (f) => withStream(f, pack(chunk(-5, "abcd")), 5), "truncated"],
    [
      "chunk header cut",
      (f) => withStream(f, pack(chunk(-1, "a"), Buffer.alloc(4)), 1),
      "truncated",
    ],
    ["stream too short", (f) => withStream(f, pack(chunk(-1, "a")), 2), "bad-value"],
    ["stream too long", (f) => withStream(f, pack(chunk(-2, "ab")), 1), "bad-value"],
    ["unknown object", (f) => withStream(f, pack(chunk(1)), 65), "bad-value"],
    [
      "literal of 2^63",
      (f) => withStream(f, pack(Buffer.from("0000000000000080", "hex")), 5),
      "bad-value",
    ],
  ])("%s", async (_name, damage, code) => {
    const file = damage(await writeStream([{ external: EXTERNALS[0]!, sizeBytes: 65 }]));
    const error = await readPieces(file, SIZES).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect(error).toMatchObject({ code });
  });

  test.each<[string, Buffer]>([
    ["index out of range", Buffer.from("1:name\0")],
    ["no index", Buffer.from("name\0")],
    ["no final NUL", Buffer.from("0:name")],
    ["bomb", Buffer.alloc(5 << 20)],
  ])("named references: %s", async (_name, text) => {
    const file = await writeStream([], { a: EXTERNALS[0]! });
    const named = zstdCompressSync(text);
    const result = Buffer.concat([file, named]);
    result.writeBigUInt64LE(BigInt(file.length), 80);
    result.writeBigUInt64LE(BigInt(result.length), 88);
    expect(() => readSplitStreamRefs(result)).toThrow(FormatError);
  });
});

test("a whole zstd frame is told from a cut one", () => {
  for (const size of [0, 1, 300, 70_000, 1_000_000]) {
    for (const data of [randomBytes(size), Buffer.alloc(size)]) {
      const frame = zstdCompressSync(data);
      expect(() => checkZstdFrame(frame, "x")).not.toThrow();
      for (const cut of [1, 2, 3, Math.floor(frame.length / 2), frame.length]) {
        expect(() => checkZstdFrame(frame.subarray(0, frame.length - cut), "x")).toThrow(
          FormatError,
        );
      }
      expect(() => checkZstdFrame(Buffer.concat([frame, Buffer.of(0)]), "x")).toThrow(FormatError);
    }
  }
});
