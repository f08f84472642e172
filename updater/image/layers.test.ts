// The threads are real ones. Whatever their number, a layer comes to the same objects and the same stream.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { computeVerityDigest, objectPath } from "../../shared/format/verity/digest.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { TAR_END, tarMember } from "../../test/support/tar-builder.ts";
import { importLayer, type LayerInput } from "./layers.ts";
import { createObjectPool } from "./object-pool.ts";

const scratch = mkdtempSync(join(tmpdir(), "layers-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const KIB = 1 << 10;
const MIB = 1 << 20;
/** Around every limit, and a file that is larger than the pool's memory. */
const SIZES = [
  ...[0, 1, 64, 65, 4095, 4096, 4097, 512 * KIB - 1, 512 * KIB, 512 * KIB + 1],
  ...[MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5, 21 * MIB + 4097],
];

function content(seed: number, sizeBytes: number): Buffer {
  let state = seed + 1;
  const bytes = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, Math.min(at, Math.max(0, sizeBytes - 4)));
  }
  return bytes;
}

const files = [
  ...SIZES.map((size, index) => content(index, size < 4 ? 0 : size)),
  ...Array.from({ length: 300 }, (_, index) => content(index % 250, 100 + index * 37)),
];
const tar = Buffer.concat([
  ...files.map((bytes, index) => tarMember({ name: `file${index}`, content: bytes })),
  TAR_END,
]);
const diffId = computeDigest(tar);

async function* inChunks(bytes: Buffer, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    yield bytes.subarray(at, at + chunkBytes);
    await Promise.resolve();
  }
}

function layer(blob: Buffer, chunkBytes = 65_536): LayerInput {
  return {
    chunks: inChunks(blob, chunkBytes),
    compressedBytes: blob.length,
    blobDigest: computeDigest(blob),
    diffId,
    what: "Layer x",
  };
}

function openScratch(name: string): Repository {
  const path = mkdtempSync(join(scratch, `${name}-`));
  return ensureRepository(null, join(path, "composefs"), { algorithm: "sha512", secure: false });
}

const listObjects = (repo: Repository) =>
  readdirSync(join(repo.path, "objects"), { recursive: true })
    .map(String)
    .filter((name) => name.length > 2)
    .sort();

let expected: { readonly digest: string; readonly objects: readonly string[] } | null = null;
async function importAlone() {
  if (expected !== null) return expected;
  using repo = openScratch("alone");
  using pool = createObjectPool(repo, 1);
  const digest = await importLayer(repo, { ...layer(tar), pool });
  expect(pool.helpers).toEqual([]);
  const objects = listObjects(repo);
  for (const name of objects) {
    const bytes = readFileSync(join(repo.path, "objects", name));
    expect(objectPath(computeVerityDigest(bytes, "sha512"))).toBe(name);
  }
  expected = { digest, objects };
  return expected;
}

describe.each([2, 5])("%i threads", { timeout: 60_000 }, (threads) => {
  test.each<[string, Buffer, number]>([
    ["uncompressed", tar, 65_536],
    ["uncompressed in odd chunks", tar, 1_234_567],
    ["gzip", gzipSync(tar, { level: 1 }), 65_536],
    ["zstd", zstdCompressSync(tar), 65_536],
  ])("as one thread does it: %s", async (_, blob, chunkBytes) => {
    const { digest, objects } = await importAlone();
    using repo = openScratch("several");
    using pool = createObjectPool(repo, threads);
    expect(await importLayer(repo, { ...layer(blob, chunkBytes), pool })).toBe(digest);
    expect(pool.helpers.length).toBe(Math.min(threads - 1, 4));
    expect(listObjects(repo)).toEqual(objects);
  });

  test("two layers at once", async () => {
    const { digest, objects } = await importAlone();
    using repo = openScratch("both");
    using pool = createObjectPool(repo, threads);
    const both = [layer(tar), layer(zstdCompressSync(tar))];
    const digests = await Promise.all(both.map((one) => importLayer(repo, { ...one, pool })));
    expect(digests).toEqual([digest, digest]);
    expect(listObjects(repo)).toEqual(objects);
  });

  test("a file system without files that have no name", async () => {
    const { digest } = await importAlone();
    using repo = openScratch("named");
    repo.hasTmpfile = false;
    using pool = createObjectPool(repo, threads);
    expect(await importLayer(repo, { ...layer(tar), pool })).toBe(digest);
  });

  test("what fails in another thread is reported, and nothing is left open", async () => {
    using repo = openScratch("failing");
    // Any object whose digest begins with these digits cannot be stored.
    mkdirSync(join(repo.path, "objects"));
    for (let n = 0; n < 256; n += 2) {
      writeFileSync(join(repo.path, "objects", n.toString(16).padStart(2, "0")), "");
    }
    const before = readdirSync("/proc/self/fd").length;
    const importing = importLayer(repo, layer(tar));
    await expect(importing).rejects.toThrow(/ENOTDIR|Not a directory/);
    expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 4);
  });

  test("a source that breaks off in a large file", async () => {
    using repo = openScratch("cut");
    using pool = createObjectPool(repo, threads);
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield* inChunks(tar.subarray(0, 20 * MIB), 65_536);
      throw new Error("the network is gone");
    }
    const importing = importLayer(repo, { ...layer(tar), chunks: broken(), pool });
    await expect(importing).rejects.toThrow("the network is gone");
    // Other layers may go on.
    const { digest } = await importAlone();
    expect(await importLayer(repo, { ...layer(tar), pool })).toBe(digest);
  });
});

test("nobody is started for little", async () => {
  using repo = openScratch("little");
  using pool = createObjectPool(repo, 8);
  const little = Buffer.concat([tarMember({ name: "a", content: "b".repeat(MIB) }), TAR_END]);
  await importLayer(repo, { ...layer(little), diffId: computeDigest(little), pool });
  expect(pool.helpers).toEqual([]);
});
