import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../shared/error.ts";
import { parseContentRange } from "./content-range.ts";
import { settleMediaType } from "./manifest-type.ts";

const OCI = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";
const DOCKER = "application/vnd.docker.distribution.manifest.v2+json";
const settle = (contentType: string | null, document: unknown) =>
  settleMediaType(contentType, Buffer.from(JSON.stringify(document)), "r.example");

describe("media types", () => {
  test.each<[string | null, object, string]>([
    [OCI, {}, OCI],
    [OCI, { mediaType: OCI }, OCI],
    [`${OCI}; charset=utf-8`, { mediaType: OCI }, OCI],
    [OCI.toUpperCase(), { mediaType: OCI }, OCI],
    [null, { mediaType: DOCKER }, DOCKER],
    ["", { mediaType: INDEX }, INDEX],
    ["application/json", { mediaType: OCI }, OCI],
    ["text/plain", { layers: [] }, OCI],
    ["application/octet-stream", { manifests: [] }, INDEX],
    ["application/x-else", {}, "application/x-else"],
  ])("%j and %j are %s", (contentType, document, expected) => {
    expect(settle(contentType, document)).toBe(expected);
  });

  test.each<[string | null, unknown]>([
    [OCI, { mediaType: INDEX }],
    [OCI, { mediaType: DOCKER }],
    [INDEX, { mediaType: OCI }],
    [null, { layers: [], manifests: [] }],
    [null, {}],
    [null, []],
    [null, 5],
    [null, null],
  ])("%j and %j are refused", (contentType, document) => {
    expect(() => settle(contentType, document)).toThrow(FormatError);
  });

  test("Docker's schema 1 is not supported", () => {
    const type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    expect(() => settle(type, {})).toThrow(UnsupportedError);
  });
});

describe("Content-Range", () => {
  test.each([
    ["bytes 0-0/1", { startByte: 0, endByte: 1, sizeBytes: 1 }],
    ["bytes 10-19/100", { startByte: 10, endByte: 20, sizeBytes: 100 }],
    ["Bytes 10-19/*", { startByte: 10, endByte: 20, sizeBytes: null }],
  ])("%s", (field, expected) => {
    expect(parseContentRange(field)).toEqual(expected);
  });

  test.each([
    [null],
    [""],
    ["bytes */100"],
    ["bytes 10-9/100"],
    ["bytes 10-100/100"],
    ["bytes 0-1"],
    ["bytes -1-2/3"],
    ["bytes 0x1-2/3"],
    ["bytes 1-2/9999999999999999"],
    ["bytes 1-2/3, 4-5/6"],
    ["items 1-2/3"],
  ])("%j is none", (field) => {
    expect(parseContentRange(field)).toBe(null);
  });
});
