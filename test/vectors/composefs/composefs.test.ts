// Every composefs vector: images byte for byte by their digests, in all versions and both dialects,
// and the way back from the real tools' images. How the vectors were made: README.md beside this.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { ErofsFormat } from "../../../shared/format/erofs/format.ts";
import { collectObjects, readErofs } from "../../../shared/format/erofs/reader.ts";
import { writeErofs } from "../../../shared/format/erofs/writer.ts";
import { parseDump } from "../../../shared/format/tree/dump.ts";
import { formatDump } from "../../../shared/format/tree/dump-format.ts";
import {
  computeVerityDigest,
  type VerityAlgorithm,
  VerityHasher,
} from "../../../shared/format/verity/digest.ts";
import { writeErofsFromDump } from "../../support/dump-image.ts";

interface Digests {
  readonly fsverity_sha256?: string;
  readonly fsverity_sha512?: string;
  readonly image_sha256?: string;
  readonly image_bytes?: number;
}
interface Variant extends Digests {
  readonly composefs_version: 0 | 1;
  readonly image_gz?: string;
}
interface Index {
  readonly vectors: readonly {
    readonly name: string;
    readonly dump: string;
    readonly variants: Readonly<Record<string, Variant>>;
    readonly rust_v2_reference: Digests & { readonly skipped?: string };
  }[];
  readonly fsverity_vectors: readonly {
    readonly bytes?: number;
    readonly content?: string;
    readonly fsverity_sha256_4096: string;
    readonly fsverity_sha512_4096: string;
  }[];
  readonly composefs_rs_pinned: readonly {
    readonly case: string;
    readonly format: "V0" | "V1" | "V2";
    readonly fsverity_sha256: string;
  }[];
  readonly composefs_rs_pinned_inputs: Readonly<Record<string, string>>;
  readonly sha512_reference: readonly {
    readonly name: string;
    readonly dump: string;
    readonly V1: Digests;
    readonly V2: Digests;
  }[];
}

const here = import.meta.dirname;
const index = JSON.parse(readFileSync(join(here, "index.json"), "utf8")) as Index;
const readVector = (path: string) => readFileSync(join(here, path));

/** What a digest entry says about an image, computed for `image`. */
function describeImage(image: Uint8Array, expected: Digests): Digests {
  return {
    ...(expected.fsverity_sha256 && { fsverity_sha256: computeVerityDigest(image, "sha256") }),
    ...(expected.fsverity_sha512 && { fsverity_sha512: computeVerityDigest(image, "sha512") }),
    ...(expected.image_sha256 && {
      image_sha256: createHash("sha256").update(image).digest("hex"),
    }),
    ...(expected.image_bytes && { image_bytes: image.length }),
  };
}

function dumpText(root: ReturnType<typeof parseDump>, dialect: "c" | "rust"): string {
  return [...formatDump(root, { dialect })].join("");
}

test("the vectors are all there", () => {
  expect(index.vectors.length).toBe(63);
  expect(index.fsverity_vectors.length).toBe(11);
});

describe.each(index.vectors)("$name", ({ dump, variants, rust_v2_reference: version2 }) => {
  const text = readVector(dump);
  const root = parseDump(text);

  test.each(Object.entries(variants))("C %s", (_name, expected) => {
    const format: ErofsFormat = { version: expected.composefs_version, dialect: "c" };
    const image = writeErofs(root, format);
    expect(describeImage(image, expected)).toEqual(expect.objectContaining(digestsOf(expected)));
    expect(Buffer.compare(image, writeErofsFromDump(text, {}, format))).toBe(0);
  });

  test("Rust version 2", () => {
    if (version2.skipped !== undefined) return;
    const image = writeErofs(root, { version: 2, dialect: "rust" });
    expect(describeImage(image, version2)).toEqual(expect.objectContaining(digestsOf(version2)));
  });

  const images = Object.values(variants).filter(({ image_gz }) => image_gz !== undefined);
  test.each(images)("reads the tool's image, version $composefs_version", (variant) => {
    const image = gunzipSync(readVector(variant.image_gz!));
    const read = readErofs(image);
    expect(read.version).toBe(variant.composefs_version);
    const again = writeErofs(read.root, { version: read.version, dialect: "c" });
    expect(Buffer.compare(again, image)).toBe(0);
    expect(collectObjects(image)).toEqual(objectsNamedIn(read.root));
  });

  test("dumps and parses again to the same image", () => {
    const printed = dumpText(root, "c");
    const again = parseDump(Buffer.from(printed, "latin1"));
    expect(dumpText(again, "c")).toBe(printed);
    for (const dialect of ["c", "rust"] as const) {
      if (dialect === "rust" && dump.includes("067")) continue; // Rust refuses linked whiteouts
      const format: ErofsFormat = { version: 1, dialect };
      expect(Buffer.compare(writeErofs(again, format), writeErofs(root, format))).toBe(0);
    }
  });
});

function digestsOf({ fsverity_sha256, fsverity_sha512, image_sha256, image_bytes }: Digests) {
  const all = { fsverity_sha256, fsverity_sha512, image_sha256, image_bytes };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

/** Object digests by way of the dump text, not of the reader's own helper. */
function objectsNamedIn(root: ReturnType<typeof parseDump>): Set<string> {
  const objects = new Set<string>();
  for (const line of formatDump(root)) {
    const [, , , , , , , , payload = "-", , digest = "-"] = line.trimEnd().split(" ");
    if (digest !== "-") objects.add(digest);
    const named = payload.replace(/^\/*/, "").replace("/", "");
    if (/^([0-9a-f]{64}|[0-9a-f]{128})$/.test(named)) objects.add(named);
  }
  return objects;
}

describe("digests pinned by composefs-rs", () => {
  test.each(
    index.composefs_rs_pinned.filter(({ case: name }) => name in index.composefs_rs_pinned_inputs),
  )("$case $format", ({ case: name, format, fsverity_sha256 }) => {
    const version = Number(format.slice(1)) as 0 | 1 | 2;
    const input = Buffer.from(index.composefs_rs_pinned_inputs[name]!);
    const root = parseDump(input, { dialect: "rust" });
    const image = writeErofs(root, { version, dialect: "rust" }, "sha256");
    expect(computeVerityDigest(image, "sha256")).toBe(fsverity_sha256);
    const read = readErofs(image);
    expect(Buffer.compare(writeErofs(read.root, { version, dialect: "rust" }), image)).toBe(0);
  });
});

describe("SHA-512 objects", () => {
  test.each(index.sha512_reference)("$name", ({ dump, V1, V2 }) => {
    const root = parseDump(readVector(dump));
    for (const [version, expected] of [
      [1, V1],
      [2, V2],
    ] as const) {
      const image = writeErofs(root, { version, dialect: "rust" }, "sha512");
      expect(describeImage(image, expected)).toEqual(expected);
      const read = readErofs(image);
      expect(Buffer.compare(writeErofs(read.root, { version, dialect: "rust" }), image)).toBe(0);
    }
  });
});

describe("fs-verity", () => {
  const algorithms: readonly VerityAlgorithm[] = ["sha256", "sha512"];
  test.each(index.fsverity_vectors)("$bytes bytes / $content", (vector) => {
    const content =
      vector.content === undefined ? pattern(vector.bytes!) : Buffer.from(vector.content);
    for (const algorithm of algorithms) {
      const expected = vector[`fsverity_${algorithm}_4096`];
      expect(computeVerityDigest(content, algorithm)).toBe(expected);
      const hasher = new VerityHasher(algorithm);
      for (let at = 0; at < content.length; at += 5001)
        hasher.update(content.subarray(at, at + 5001));
      expect(hasher.digestHex()).toBe(expected);
    }
  });
});

/** The vectors' content: byte i is (i * 31 + (i >> 8) * 7) mod 256. */
function pattern(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i * 31 + (i >> 8) * 7;
  return bytes;
}
