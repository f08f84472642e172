// Manifests, indexes, configs, layouts and platforms: what is accepted and what is refused.

import { describe, expect, test } from "vitest";
import { FormatError, UnsupportedError } from "../../error.ts";
import { parseImageConfig } from "./config.ts";
import { computeDigest, createDigestHash, digestSchema } from "./digest.ts";
import { checkLayoutFile, selectTag } from "./layout.ts";
import { parseImageIndex, parseManifestDocument } from "./manifest.ts";
import { selectPlatform } from "./platform.ts";

const OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
const DIGEST = `sha256:${"ab".repeat(32)}`;
const OTHER = `sha256:${"cd".repeat(32)}`;

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const layer = (mediaType = "application/vnd.oci.image.layer.v1.tar+gzip"): object => ({
  mediaType,
  digest: DIGEST,
  size: 5,
});
const manifest = (changes: object = {}): object => ({
  schemaVersion: 2,
  mediaType: OCI_MANIFEST,
  config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: OTHER, size: 2 },
  layers: [layer()],
  ...changes,
});

function errorOf(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("was accepted");
}

describe("digests", () => {
  test.each([DIGEST, `sha512:${"0f".repeat(64)}`])("%s is accepted", (digest) => {
    expect(digestSchema.safeParse(digest).success).toBe(true);
  });
  test.each([
    "sha256:../../../etc/passwd",
    "sha256:",
    `sha256:${"AB".repeat(32)}`,
    `sha256:${"ab".repeat(31)}`,
    `sha256:${"ab".repeat(33)}`,
    `sha512:${"ab".repeat(32)}`,
    `md5:${"ab".repeat(16)}`,
    `${DIGEST}\n`,
    `${DIGEST}/..`,
    "ab".repeat(32),
  ])("%j is refused (CVE-2024-3727)", (digest) => {
    expect(digestSchema.safeParse(digest).success).toBe(false);
    const bad = manifest({ layers: [{ ...layer(), digest }] });
    expect(errorOf(() => parseManifestDocument(json(bad), OCI_MANIFEST, "M"))).toMatchObject({
      code: "bad-value",
      context: { field: "layers.0.digest" },
    });
  });
  test("hashing", () => {
    const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    expect(computeDigest(Buffer.from("abc"))).toBe(abc);
    expect(createDigestHash(abc).update("abc").digest("hex")).toBe(abc.slice(7));
  });
});

describe("manifests", () => {
  test.each<[string, string, object]>([
    ["OCI", OCI_MANIFEST, {}],
    ["without its own type", OCI_MANIFEST, { mediaType: undefined }],
    ["annotations", OCI_MANIFEST, { annotations: { a: "b" } }],
    ["null annotations, unknown fields", OCI_MANIFEST, { annotations: null, extra: [1] }],
    [
      "zstd, plain and foreign layers",
      OCI_MANIFEST,
      {
        layers: [
          layer("application/vnd.oci.image.layer.v1.tar"),
          layer("application/vnd.oci.image.layer.v1.tar+zstd"),
          layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        ],
      },
    ],
    [
      "Docker",
      "application/vnd.docker.distribution.manifest.v2+json",
      {
        mediaType: "application/vnd.docker.distribution.manifest.v2+json",
        config: {
          mediaType: "application/vnd.docker.container.image.v1+json",
          digest: OTHER,
          size: 2,
        },
        layers: [layer("application/vnd.docker.image.rootfs.diff.tar.gzip")],
      },
    ],
  ])("%s", (_name, mediaType, changes) => {
    const document = parseManifestDocument(json(manifest(changes)), mediaType, "M");
    expect(document).toMatchObject({ kind: "manifest", manifest: { config: { digest: OTHER } } });
  });

  test.each<[string, string, unknown, FormatError["code"]]>([
    ["no JSON", OCI_MANIFEST, undefined, "bad-value"],
    ["schema 1", OCI_MANIFEST, manifest({ schemaVersion: 1 }), "bad-value"],
    ["no layers", OCI_MANIFEST, manifest({ layers: [] }), "bad-value"],
    ["too many layers", OCI_MANIFEST, manifest({ layers: Array(4097).fill(layer()) }), "bad-value"],
    ["negative size", OCI_MANIFEST, manifest({ layers: [{ ...layer(), size: -1 }] }), "bad-value"],
    ["size as text", OCI_MANIFEST, manifest({ layers: [{ ...layer(), size: "5" }] }), "bad-value"],
    ["both kinds in one (CVE-2021-41190)", OCI_MANIFEST, manifest({ manifests: [] }), "bad-value"],
    [
      "both kinds, seen as index",
      OCI_INDEX,
      manifest({ mediaType: OCI_INDEX, manifests: [] }),
      "bad-value",
    ],
    [
      "an index said to be a manifest",
      OCI_MANIFEST,
      { schemaVersion: 2, manifests: [] },
      "bad-value",
    ],
    [
      "a manifest that calls itself an index",
      OCI_MANIFEST,
      manifest({ mediaType: OCI_INDEX }),
      "bad-value",
    ],
    ["unknown type", "text/html", manifest(), "unsupported"],
    [
      "Docker schema 1",
      "application/vnd.docker.distribution.manifest.v1+prettyjws",
      manifest(),
      "unsupported",
    ],
    [
      "artifact",
      OCI_MANIFEST,
      manifest({
        config: { mediaType: "application/vnd.oci.empty.v1+json", digest: DIGEST, size: 2 },
      }),
      "unsupported",
    ],
    [
      "layer that is no tar",
      OCI_MANIFEST,
      manifest({ layers: [layer("text/plain")] }),
      "unsupported",
    ],
    [
      "encrypted layer",
      OCI_MANIFEST,
      manifest({ layers: [layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")] }),
      "unsupported",
    ],
  ])("%s is refused", (_name, mediaType, value, code) => {
    const bytes = value === undefined ? Buffer.from("<html>") : json(value);
    const error = errorOf(() => parseManifestDocument(bytes, mediaType, "M"));
    expect(error).toBeInstanceOf(FormatError);
    expect(error).toMatchObject({ code });
  });

  test("bytes that are not UTF-8 are refused", () => {
    const bytes = Buffer.from('{"a":"\xff"}', "latin1");
    expect(() => parseManifestDocument(bytes, OCI_MANIFEST, "M")).toThrow("M is not JSON");
  });
});

describe("configs", () => {
  const config = {
    architecture: "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: [DIGEST] },
  };
  test("the fields that matter", () => {
    const full = {
      ...config,
      config: { Labels: { v: "1" }, Env: [] },
      created: "2025-01-01T00:00:00Z",
    };
    expect(parseImageConfig(json(full), 1, "C")).toEqual(full);
    expect(parseImageConfig(json({ ...config, config: null }), 1, "C").config).toBeNull();
  });
  test.each<[string, unknown]>([
    ["wrong number of layers", { ...config, rootfs: { type: "layers", diff_ids: [] } }],
    ["no rootfs", { architecture: "amd64" }],
    ["bad diff_id", { ...config, rootfs: { type: "layers", diff_ids: ["sha256:../x"] } }],
    ["list", []],
  ])("%s", (_name, value) => {
    expect(() => parseImageConfig(json(value), 1, "C")).toThrow(FormatError);
  });
});

const platformed = (architecture: string, digest: string, os = "linux"): object => ({
  mediaType: OCI_MANIFEST,
  digest,
  size: 1,
  platform: { architecture, os },
});
const index = (...manifests: object[]): ReturnType<typeof parseImageIndex> =>
  parseImageIndex(json({ schemaVersion: 2, manifests }), "I");

describe("platforms", () => {
  test("the one for this machine, wherever it is (CVE-2022-24778)", () => {
    const list = index(
      platformed("s390x", DIGEST),
      platformed("amd64", DIGEST, "windows"),
      platformed("amd64", OTHER),
    );
    expect(selectPlatform(list, "amd64", "I").digest).toBe(OTHER);
  });
  test("one manifest without a platform", () => {
    expect(
      selectPlatform(index({ mediaType: OCI_MANIFEST, digest: DIGEST, size: 1 }), "amd64", "I")
        .digest,
    ).toBe(DIGEST);
  });
  test("none fits", () => {
    const list = index(platformed("s390x", DIGEST), platformed("unknown", OTHER, "unknown"));
    const error = errorOf(() => selectPlatform(list, "arm64", 'Image "x"'));
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error).toMatchObject({
      code: "architecture",
      message: 'Image "x" has no image for linux/arm64, only for linux/s390x',
    });
  });
  test("empty", () => {
    expect(() => selectPlatform(index(), "arm64", "I")).toThrow("I lists no images");
  });
});

describe("layouts", () => {
  const tagged = (tag: string, digest: string): object => ({
    mediaType: OCI_MANIFEST,
    digest,
    size: 1,
    annotations: { "org.opencontainers.image.ref.name": tag },
  });
  test("marker file", () => {
    expect(() => checkLayoutFile(json({ imageLayoutVersion: "1.0.0" }), "L")).not.toThrow();
    expect(() => checkLayoutFile(json({ imageLayoutVersion: "2.0.0" }), "L")).toThrow(FormatError);
  });
  test.each<[string, string | null, object[], string]>([
    ["the only one", null, [tagged("a", DIGEST)], DIGEST],
    ["by tag", "b", [tagged("a", DIGEST), tagged("b", OTHER)], OTHER],
    ["the same twice", "a", [tagged("a", DIGEST), tagged("a", DIGEST)], DIGEST],
  ])("%s", (_name, tag, manifests, digest) => {
    expect(selectTag(index(...manifests), tag, "L").digest).toBe(digest);
  });
  test.each<[string, string | null, object[], RegExp]>([
    ["no images", null, [], /has no images/],
    [
      "several",
      null,
      [tagged("a", DIGEST), tagged("b", OTHER)],
      /has 2 images; choose .* "a", "b"/,
    ],
    [
      "unknown tag",
      "c",
      [tagged("a", DIGEST), tagged("b", OTHER)],
      /no tag "c"; its tags are "a", "b"/,
    ],
    ["no tags at all", "c", [layer(OCI_MANIFEST)], /no tag "c"; it has no tags/],
    ["ambiguous", "a", [tagged("a", DIGEST), tagged("a", OTHER)], /more than once/],
  ])("%s is refused", (_name, tag, manifests, message) => {
    expect(() => selectTag(index(...manifests), tag, "L")).toThrow(message);
  });
});
