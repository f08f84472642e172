// A layer whose tar comes in pieces is stored as the whole tar would be.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeError, FormatError, IntegrityError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { storeObject } from "../../shared/store/objects.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { importLayer } from "../../updater/image/layers.ts";
import { importTarPieces, type TarPiece } from "../../updater/image/tar-pieces.ts";
import { findDamage, listObjects } from "../support/repository-listing.ts";
import { TAR_END, tarMember } from "../support/tar-builder.ts";
import { type TarPart, takeApart } from "../support/tar-split.ts";

let scratch: string;
let repo: Repository;
let plain: Repository;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "pieces-"));
  const options = { algorithm: "sha512", secure: false } as const;
  repo = ensureRepository(null, join(scratch, "repo"), options);
  plain = ensureRepository(null, join(scratch, "plain"), options);
});
afterEach(() => {
  repo[Symbol.dispose]();
  plain[Symbol.dispose]();
  rmSync(scratch, { recursive: true, force: true });
});

const contents = [
  Buffer.alloc(0),
  Buffer.from("x"),
  Buffer.alloc(64, "a"),
  Buffer.alloc(65, "b"),
  Buffer.alloc(4096, "c"),
  Buffer.alloc(3_000_001, "d"),
];
const tar = Buffer.concat([
  tarMember({ name: "usr/", type: "5", mode: 0o755 }),
  ...contents.map((content, i) => tarMember({ name: `usr/${i}`, content })),
  tarMember({ name: "usr/again", content: contents[5]! }),
  tarMember({ name: "usr/hard", type: "1", linkName: "usr/5" }),
  TAR_END,
]);
const what = "Layer x";

/** `place` says where the content of a file lies. */
async function* cut(
  archive: Buffer,
  place: (content: Buffer, path: string) => TarPiece,
): AsyncGenerator<TarPiece> {
  for (const part of takeApart(archive)) yield makePiece(part, place);
}

function makePiece(part: TarPart, place: (content: Buffer, path: string) => TarPiece): TarPiece {
  if (part.kind === "literal") return bytesPiece(part.bytes);
  return part.content.length === 0 ? bytesPiece(part.content) : place(part.content, part.path);
}

const bytesPiece = (bytes: Buffer): TarPiece => ({ kind: "bytes", bytes });

const file = (sizeBytes: number, content: (TarPiece & { kind: "file" })["content"]): TarPiece => ({
  kind: "file",
  sizeBytes,
  content,
});

const asObject = (content: Buffer) =>
  file(content.length, { kind: "object", digest: storeObject(repo, content) });

function asPath(content: Buffer, path: string): TarPiece {
  const target = join(scratch, path.replaceAll("/", "-"));
  writeFileSync(target, content);
  return file(content.length, { kind: "path", path: target });
}

async function* inChunks(content: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += 7000) yield content.subarray(at, at + 7000);
}

const asStream = (content: Buffer) =>
  file(content.length, { kind: "stream", chunks: inChunks(content) });

async function importWhole(): Promise<string> {
  const digest = computeDigest(tar);
  const chunks = inChunks(tar);
  const sizes = { compressedBytes: tar.length, blobDigest: digest };
  return await importLayer(plain, { chunks, ...sizes, diffId: digest, what });
}

const names = (of: Repository) =>
  listObjects(of)
    .map((path) => path.slice(of.path.length))
    .sort();

const importPieces = (pieces: AsyncIterable<TarPiece>, limitBytes?: number) =>
  importTarPieces(repo, pieces, {
    diffId: computeDigest(tar),
    what,
    ...(limitBytes !== undefined && { limitBytes }),
  });

describe("the same splitstream and the same objects", () => {
  test.each<[string, (content: Buffer, path: string) => TarPiece]>([
    ["from bytes", bytesPiece],
    ["from objects", asObject],
    ["from paths", asPath],
    ["from streams", asStream],
    [
      "from all of them",
      (content, path) => [bytesPiece, asPath, asStream][content.length % 3]!(content, path),
    ],
  ])("%s", async (name, place) => {
    const stream = await importPieces(cut(tar, place));
    expect(stream).toBe(await importWhole());
    // Small files are objects only when the test made them so.
    if (name !== "from objects") expect(names(repo)).toEqual(names(plain));
    expect(findDamage(repo)).toEqual([]);
  });
});

describe("refused", () => {
  const refuse = async (pieces: AsyncIterable<TarPiece>, limitBytes?: number) =>
    await importPieces(pieces, limitBytes).then(
      () => expect.unreachable(),
      (error: unknown) => error as Error,
    );
  const large = (change: (content: Buffer, path: string) => TarPiece) =>
    cut(tar, (content, path) =>
      content.length > 1e6 ? change(content, path) : bytesPiece(content),
    );

  test("another content of the same size", async () => {
    const error = await refuse(large((content) => asObject(Buffer.alloc(content.length, "e"))));
    expect(error).toBeInstanceOf(IntegrityError);
    expect(error.message).toMatch(/Layer x is a tar with digest .* the image promises sha256:/);
  });

  test.each<[string, (content: Buffer, path: string) => TarPiece]>([
    [
      "an object",
      (content) => ({ ...asObject(content), sizeBytes: content.length + 1 }) as TarPiece,
    ],
    ["a path", (content, path) => ({ ...asPath(content, path), sizeBytes: 3_000_000 }) as TarPiece],
    ["a stream", (content) => ({ ...asStream(content), sizeBytes: 3_000_002 }) as TarPiece],
  ])("%s of another size than said", async (_, place) => {
    const error = await refuse(large(place));
    expect(error).toMatchObject({ kind: "integrity", code: "size-mismatch" });
  });

  test("an object that is not there", async () => {
    const digest = "0".repeat(128);
    const error = await refuse(
      large((content) => file(content.length, { kind: "object", digest })),
    );
    expect(error).toMatchObject({ kind: "integrity", code: "missing-object" });
  });

  test.each<[string, (path: string) => void]>([
    ["nothing", () => {}],
    ["a directory", (path) => mkdirSync(path)],
    ["a symlink", (path) => symlinkSync("/etc/passwd", path)],
  ])("%s at a path", async (_, make) => {
    const path = join(scratch, "there");
    make(path);
    const error = await refuse(large((content) => file(content.length, { kind: "path", path })));
    expect(error).toMatchObject({ kind: "integrity", code: "missing-object" });
    expect(describeError(error)).toContain(path);
  });

  test("a tar that is malformed, though it is the one that was promised", async () => {
    const bad = Buffer.concat([tarMember({ name: "../evil", content: "x" }), TAR_END]);
    const pieces = (async function* () {
      yield bytesPiece(bad);
    })();
    const importing = importTarPieces(repo, pieces, { diffId: computeDigest(bad), what });
    await expect(importing).rejects.toThrow(FormatError);
  });

  test("more than it may be", async () => {
    const error = await refuse(large(asStream), 1_000_000);
    expect(error).toMatchObject({ kind: "format", code: "limit" });
  });

  test("pieces that end early", async () => {
    const pieces = (async function* () {
      for await (const piece of cut(tar, bytesPiece)) {
        yield piece;
        return;
      }
    })();
    expect(await refuse(pieces)).toBeInstanceOf(IntegrityError);
  });
});
