import { describe, expect, it } from "vitest";
import { formatMetadata, parseMetadata } from "./metadata.ts";

const base = { version: 1, algorithm: "fsverity-sha512-12" };
const read = (value: unknown) => parseMetadata(JSON.stringify(value));
const features = (names: Record<string, string[]>) => ({ ...base, features: names });

describe("meta.json", () => {
  it("is written as bootc 1.16 writes it", () => {
    expect(formatMetadata("sha512")).toBe(`{
  "version": 1,
  "algorithm": "fsverity-sha512-12",
  "features": {
    "compatible": [],
    "read-only-compatible": [
      "v1_erofs"
    ],
    "incompatible": []
  },
  "erofs_formats": {
    "default": 1
  }
}
`);
    expect(parseMetadata(formatMetadata("sha256"))).toEqual({
      algorithm: "sha256",
      erofsVersion: 1,
      extraErofsVersions: [],
      readOnlyFeatures: [],
    });
  });

  it.each([
    ["no erofs_formats and no flag", base, 2],
    ["no erofs_formats but the flag", features({ "read-only-compatible": ["v1_erofs"] }), 1],
    ["an explicit default", { ...base, erofs_formats: { default: 0 } }, 0],
    ["an extra format", { ...base, erofs_formats: { default: 1, extra: [2] } }, 1],
    [
      "the explicit old default with the flag",
      { ...features({ "read-only-compatible": ["v1_erofs"] }), erofs_formats: { default: 2 } },
      1,
    ],
    [
      "an extra equal to the default, which does not count",
      {
        ...features({ "read-only-compatible": ["v1_erofs"] }),
        erofs_formats: { default: 2, extra: [2] },
      },
      1,
    ],
    [
      "V2 with a real extra, in spite of the flag",
      {
        ...features({ "read-only-compatible": ["v1_erofs"] }),
        erofs_formats: { default: 2, extra: [1] },
      },
      2,
    ],
  ])("means the right image format with %s", (_, value, expected) => {
    expect(read(value).erofsVersion).toBe(expected);
  });

  it.each([
    [{ default: 1, extra: [2] }, [2]],
    [{ default: 1, extra: [2, 1, 0, 2] }, [0, 2]],
    [{ default: 2, extra: [1] }, [1]],
    [{ default: 2 }, []],
  ])("knows the other formats of %j", (formats, expected) => {
    expect(read({ ...base, erofs_formats: formats }).extraErofsVersions).toEqual(expected);
  });

  it("ignores unknown compatible features and names unknown read-only ones", () => {
    expect(
      read(features({ compatible: ["x"], "read-only-compatible": ["v1_erofs", "y"] })),
    ).toMatchObject({ readOnlyFeatures: ["y"] });
  });

  it.each([
    ["not JSON", "{", "meta.json is not JSON"],
    ["a list", "[]", '"(document)" is []'],
    ["no version", '{"algorithm":"fsverity-sha512-12"}', '"version" is missing'],
    ["another algorithm", '{"version":1,"algorithm":"fsverity-sha512-16"}', '"algorithm" is'],
    [
      "a feature that is no text",
      JSON.stringify(features({ incompatible: [1] as never })),
      "incompatible",
    ],
    ["features as a list", '{"version":1,"features":[]}', '"features" is []'],
    ["an unknown format", JSON.stringify({ ...base, erofs_formats: { default: 3 } }), "default"],
    [
      "extra that is no list",
      JSON.stringify({ ...base, erofs_formats: { default: 1, extra: 2 } }),
      "extra",
    ],
  ])("refuses %s", (_, text, message) => {
    expect(() => parseMetadata(text)).toThrow(expect.objectContaining({ kind: "format" }));
    expect(() => parseMetadata(text)).toThrow(message);
  });

  it.each([
    ["version 2", { ...base, version: 2 }],
    ['feature "zstd"', features({ incompatible: ["zstd"] })],
  ])("sends the user to a newer bootc for %s", (what, value) => {
    expect(() => read(value)).toThrow(expect.objectContaining({ code: "newer-format" }));
    expect(() => read(value)).toThrow(`made by a newer program (${what}); update bootc`);
  });
});
