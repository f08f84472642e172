import { describe, expect, test } from "vitest";
import { FormatError } from "../../error.ts";
import { readChunkedPositions } from "./positions.ts";
import { parseChunkedToc } from "./toc.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;
const OTHER = `sha256:${"b".repeat(64)}`;
const PREFIX = "io.github.containers.zstd-chunked.";

describe("annotations", () => {
  const good = {
    "manifest-checksum": DIGEST,
    "manifest-position": "100:20:300:1",
    "tarsplit-position": "128:10:400",
  };
  const read = (annotations: Readonly<Record<string, string>> | undefined, size = 1000) =>
    readChunkedPositions({
      mediaType: "application/vnd.oci.image.layer.v1.tar+zstd",
      digest: DIGEST,
      size,
      annotations:
        annotations &&
        Object.fromEntries(Object.entries(annotations).map(([key, text]) => [PREFIX + key, text])),
    });

  test("positions", () => {
    expect(read(good)).toEqual({
      toc: { startByte: 100, endByte: 120, sizeBytes: 300 },
      tocDigest: DIGEST,
      tarSplit: { startByte: 128, endByte: 138, sizeBytes: 400 },
    });
  });

  test.each([
    ["no annotations", undefined],
    ["others", { x: "y" }],
    ["no checksum", { ...good, "manifest-checksum": undefined }],
    ["no tar-split data", { ...good, "tarsplit-position": undefined }],
  ])("%s: not zstd:chunked", (_, annotations) => {
    expect(read(annotations && JSON.parse(JSON.stringify(annotations)))).toBeNull();
  });

  test.each([
    ["a checksum that is none", { "manifest-checksum": "sha256:../x" }],
    ["no number", { "manifest-position": "x:20:300:1" }],
    ["a negative offset", { "manifest-position": "-1:20:300:1" }],
    ["too few numbers", { "manifest-position": "100:20" }],
    ["no type", { "manifest-position": "100:20:300" }],
    ["another type", { "manifest-position": "100:20:300:2" }],
    ["an empty table", { "manifest-position": "100:0:300:1" }],
    ["a table past the end", { "manifest-position": "990:20:300:1" }],
    ["tar-split data past the end", { "tarsplit-position": "990:20:300" }],
    ["a giant number", { "tarsplit-position": `${"9".repeat(30)}:20:300` }],
    ["spaces", { "tarsplit-position": " 1:20:300" }],
  ])("%s is refused", (_, change) => {
    expect(() => read({ ...good, ...change })).toThrow(FormatError);
  });

  test.each([
    ["a table of a gigabyte", { "manifest-position": `0:100:${2 ** 30}:1` }],
    ["a compressed table of a gigabyte", { "manifest-position": `0:${2 ** 30}:100:1` }],
    ["tar-split data of a terabyte", { "tarsplit-position": `0:100:${2 ** 40}` }],
  ])("%s is too much", (_, change) => {
    expect(() => read({ ...good, ...change }, 2 ** 42)).toThrow(/more than is accepted/);
  });
});

describe("table of contents", () => {
  const file = { type: "reg", name: "a", size: 5, digest: DIGEST, offset: 10, endOffset: 20 };
  const parse = (entries: readonly object[], rest: object = {}) =>
    parseChunkedToc(Buffer.from(JSON.stringify({ version: 1, entries, ...rest })), 100, "Table");

  test("files with content, in order", () => {
    const entries = [
      { type: "dir", name: "usr/", mode: 493, modtime: "1970-01-01T00:00:00Z" },
      { type: "reg", name: "empty", digest: OTHER },
      file,
      { type: "chunk", name: "a", offset: 15, chunkSize: 2, chunkOffset: 3, chunkDigest: OTHER },
      { type: "hardlink", name: "b", linkName: "a" },
      { type: "symlink", name: "c", linkName: "a" },
      { ...file, name: "d", digest: OTHER, offset: 20, endOffset: 100, xattrs: { user: "eA==" } },
    ];
    const { files, tarSplitDigest } = parse(entries, { tarSplitDigest: DIGEST });
    expect(files).toEqual([
      { name: "a", sizeBytes: 5, digest: DIGEST, startByte: 10, endByte: 20 },
      { name: "d", sizeBytes: 5, digest: OTHER, startByte: 20, endByte: 100 },
    ]);
    expect(tarSplitDigest).toBe(DIGEST);
    expect(parse(entries).tarSplitDigest).toBeNull();
  });

  test.each<[string, object, RegExp]>([
    ["no digest", { digest: undefined }, /file "a" has no sha256 digest/],
    ["a digest that is a path", { digest: "sha256:../../x" }, /has no sha256 digest/],
    ["another algorithm", { digest: `sha512:${"a".repeat(128)}` }, /has no sha256 digest/],
    ["no offset", { offset: undefined }, /has no bytes in the layer/],
    ["no end", { endOffset: undefined }, /has no bytes in the layer/],
    ["an end before its start", { endOffset: 9 }, /has no bytes in the layer/],
    ["an end after the files", { endOffset: 101 }, /lies where it cannot/],
    ["a negative offset", { offset: -1 }, /offset/],
    ["a fraction", { offset: 1.5 }, /offset/],
    ["a negative size", { size: -5 }, /size/],
    ["a size beyond 2^53", { size: 2 ** 60 }, /size/],
    ["a text as its size", { size: "5" }, /size/],
  ])("%s is refused", (_, change, message) => {
    expect(() => parse([{ ...file, ...change }])).toThrow(message);
    expect(() => parse([{ ...file, ...change }])).toThrow(FormatError);
  });

  test("files that overlap or come in another order are refused", () => {
    expect(() => parse([file, { ...file, offset: 19, endOffset: 30 }])).toThrow(/lies where/);
    expect(() => parse([{ ...file, offset: 30, endOffset: 40 }, file])).toThrow(/lies where/);
  });

  test.each([
    ["no JSON", "{"],
    ["no table", "[]"],
    ["another version", '{"version":2,"entries":[]}'],
    ["no entries", '{"version":1}'],
    ["bad UTF-8", Buffer.from([0x22, 0xff, 0x22])],
    ["a bad tar-split digest", '{"version":1,"entries":[],"tarSplitDigest":"x"}'],
  ])("%s is refused", (_, text) => {
    expect(() => parseChunkedToc(Buffer.from(text), 100, "Table")).toThrow(FormatError);
  });
});
