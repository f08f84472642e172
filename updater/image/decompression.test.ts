// Real compressed data: many members, many frames, skippable frames, cut and damaged streams.

import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError, IntegrityError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { verifyBlob } from "./blob.ts";
import { decompress } from "./decompression.ts";

async function* chunked(bytes: Buffer, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

async function unpackWith(bytes: Buffer, chunkBytes: number, inThread: boolean): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  const chunks = decompress(chunked(bytes, chunkBytes), "Layer x", { inThread });
  for await (const part of chunks) parts.push(part);
  return Buffer.concat(parts);
}

/** In both ways, which must agree. */
async function unpack(bytes: Buffer, chunkBytes = 65_536): Promise<Buffer> {
  const [here, there] = await Promise.allSettled(
    [false, true].map((inThread) => unpackWith(bytes, chunkBytes, inThread)),
  );
  if (here!.status === "rejected" || there!.status === "rejected") {
    expect(there!.status).toBe(here!.status);
    expect(String((there as PromiseRejectedResult).reason)).toBe(
      String((here as PromiseRejectedResult).reason),
    );
    throw (here as PromiseRejectedResult).reason;
  }
  expect(here!.value.equals(there!.value)).toBe(true);
  return here!.value;
}

function skippable(sizeBytes: number): Buffer {
  const frame = Buffer.alloc(8 + sizeBytes, 0x55);
  frame.writeUInt32LE(0x184d2a50 + (sizeBytes % 16), 0);
  frame.writeUInt32LE(sizeBytes, 4);
  return frame;
}

const part = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(65_536, 131_072, 131_073, 400_000).map((size) => randomBytes(size)),
  fc.constantFrom(16_384, 1_048_576, 3_000_000).map((size) => Buffer.alloc(size, 0x41)),
);
const chunkBytes = fc.constantFrom(17, 1000, 16_384, 65_536, 1_048_576);
const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

describe("whole streams", () => {
  test.each<[string, (bytes: Buffer) => Buffer]>([
    ["gzip members", (bytes) => gzipSync(bytes, { level: 1 })],
    ["zstd frames", (bytes) => zstdCompressSync(bytes)],
    [
      "zstd frames and skippable frames",
      (bytes) =>
        Buffer.concat([skippable(bytes.length % 300), zstdCompressSync(bytes), skippable(0)]),
    ],
  ])(
    "any number of %s, any chunking",
    async (_name, compress) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(part, { minLength: 1, maxLength: 4 }),
          chunkBytes,
          async (parts, size) => {
            const packed = Buffer.concat(parts.map(compress));
            expect(sha(await unpack(packed, size))).toBe(sha(Buffer.concat(parts)));
          },
        ),
        { numRuns: 25 },
      );
    },
    30_000,
  );

  // `npm test` installs zstd; without it (`npm run check` elsewhere) these count as skipped.
  test.for(["gzip -9", "zstd -19 --long=27", "zstd -T2 --adapt"])(
    "what %s itself writes",
    async (command, { skip }) => {
      const [program, ...args] = command.split(" ");
      if (Bun.which(program!) === null) skip(`${program} is not installed`);
      const data = Buffer.concat([randomBytes(300_000), Buffer.alloc(700_000)]);
      const packed = spawnSync(program!, [...args, "-c"], { input: data }).stdout;
      expect(sha(await unpack(packed))).toBe(sha(data));
    },
  );

  test.each([0, 1, 3, 4, 5, 100_000])("uncompressed, %i bytes", async (size) => {
    const data = Buffer.alloc(size, 0x61);
    expect(await unpack(data, 2)).toEqual(data);
  });

  test("a chunk may be the same memory again, when asked for", async () => {
    const data = randomBytes(1_000_000);
    for (const packed of [gzipSync(data), zstdCompressSync(data)]) {
      const hash = createHash("sha256");
      const memory = new Set<unknown>();
      const options = { reusesChunks: true };
      for await (const part of decompress(chunked(packed, 65_536), "Layer x", options)) {
        hash.update(part);
        memory.add(part.buffer);
      }
      expect(hash.digest("hex")).toBe(sha(data));
      expect(memory.size).toBe(1);
    }
  });

  test("a little that becomes much lets timers run meanwhile", async () => {
    const packed = zstdCompressSync(Buffer.alloc(256 << 20));
    let [ticks, size] = [0, 0];
    const timer = setInterval(() => {
      ticks += 1;
    }, 1);
    for await (const part of decompress(chunked(packed, packed.length), "Layer x")) {
      size += part.length;
    }
    clearInterval(timer);
    expect(size).toBe(256 << 20);
    expect(ticks).toBeGreaterThan(4);
  });

  const empty = Buffer.alloc(0);
  const a = Buffer.from("a");
  test.each<[string, readonly Buffer[], string]>([
    ["an empty member", [gzipSync(empty)], ""],
    ["empty members around one", [gzipSync(empty), gzipSync(a), gzipSync(empty)], "a"],
    ["an empty frame", [zstdCompressSync(empty)], ""],
    [
      "empty frames around one",
      [zstdCompressSync(empty), zstdCompressSync(a), zstdCompressSync(empty)],
      "a",
    ],
    ["nothing but skippable frames", [skippable(0), skippable(70_000), skippable(3)], ""],
    ["a skippable frame at the end", [zstdCompressSync(a), skippable(200_000)], "a"],
  ])("%s", async (_name, parts, expected) => {
    for (const size of [1, 7, 65_536]) {
      expect((await unpack(Buffer.concat(parts), size)).toString()).toBe(expected);
    }
  });

  test("zeros after a gzip member are padding", async () => {
    expect(await unpack(Buffer.concat([gzipSync("a"), Buffer.alloc(512)]))).toEqual(
      Buffer.from("a"),
    );
  });
});

describe("bad streams", () => {
  const data = randomBytes(3_000_000);
  const gzip = gzipSync(data, { level: 1 });
  const zstd = zstdCompressSync(data);
  const damaged = (bytes: Buffer): Buffer => {
    const result = Buffer.from(bytes);
    result.fill(0xff, 1000, 1100);
    result.fill(0xff, 1_500_000, 1_502_000);
    return result;
  };

  test.each<[string, Buffer]>([
    ["damaged gzip", damaged(gzip)],
    ["cut gzip", gzip.subarray(0, -5)],
    ["wrong gzip checksum", Buffer.concat([gzip.subarray(0, -8), Buffer.alloc(8)])],
    ["gzip magic only", Buffer.from("1f8b0000", "hex")],
    ["zstd magic and nonsense", Buffer.concat([zstd.subarray(0, 4), Buffer.alloc(500, 0xff)])],
  ])("%s is a FormatError", async (_name, bytes) => {
    const error = await unpack(bytes).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toMatch(/^Layer x is not valid (gzip|zstd) data$/);
  });

  test("a zstd frame that wants more than 128 MiB of memory", async () => {
    // Frame header only (RFC 8878, 3.1.1.1.2): window descriptors of 2^27 and 2^28 bytes.
    const frame = (windowLog: number) =>
      Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, (windowLog - 10) << 3, 0x09, 0x00, 0x00, 0x61);
    expect((await unpack(frame(27))).toString()).toBe("a");
    await expect(unpack(frame(28))).rejects.toThrow("Layer x is not valid zstd data");
  });

  test.each<[string, Buffer, Buffer]>([
    ["gzip", gzip, damaged(gzip)],
    ["zstd", zstd, damaged(zstd)],
    [
      "cut zstd, which the decoder does not notice",
      zstd,
      Buffer.concat([zstd.subarray(0, -9), Buffer.alloc(9)]),
    ],
  ])("a wrong digest is reported rather than its symptom: %s", async (_name, good, bad) => {
    const descriptor = { mediaType: "x", digest: computeDigest(good), size: good.length };
    const source = verifyBlob(chunked(bad, 65_536), descriptor, "Layer x");
    const error = await (async () => {
      for await (const _ of decompress(source, "Layer x"));
    })().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(IntegrityError);
    expect(error).toMatchObject({ code: "digest-mismatch" });
  });

  test("an error of the source comes through", async () => {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield gzip.subarray(0, 100_000);
      throw new Error("medium removed");
    }
    const unpacking = (async () => {
      for await (const _ of decompress(failing(), "Layer x"));
    })();
    await expect(unpacking).rejects.toThrow("medium removed");
  });

  test("stopping early closes the source", async () => {
    let isClosed = false;
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        yield* chunked(gzip, 10_000);
      } finally {
        isClosed = true;
      }
    }
    for await (const _ of decompress(source(), "Layer x")) break;
    expect(isClosed).toBe(true);
  });
});
