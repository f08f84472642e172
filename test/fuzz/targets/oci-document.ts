// Fuzz target: OCI manifests, indexes, configurations and layout files.

import { parseImageConfig } from "../../../shared/format/oci/config.ts";
import { splitDigest } from "../../../shared/format/oci/digest.ts";
import { blobPath, checkLayoutFile, selectTag } from "../../../shared/format/oci/layout.ts";
import { type ImageIndex, parseManifestDocument } from "../../../shared/format/oci/manifest.ts";
import { selectPlatform } from "../../../shared/format/oci/platform.ts";
import { attempt, checkEqual, type FuzzTarget, PropertyError } from "../target.ts";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const INDEX = "application/vnd.oci.image.index.v1+json";
const digest = (char: string) => `sha256:${char.repeat(64)}`;
const layer = {
  mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
  digest: digest("a"),
  size: 5,
};
const config = {
  mediaType: "application/vnd.oci.image.config.v1+json",
  digest: digest("b"),
  size: 7,
};
const platform = { os: "linux", architecture: "amd64" };
const annotations = { "org.opencontainers.image.ref.name": "latest" };

const SEEDS = [
  { schemaVersion: 2, mediaType: MANIFEST, config, layers: [layer, layer], annotations },
  {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [{ mediaType: MANIFEST, digest: digest("c"), size: 9, platform, annotations }],
  },
  {
    architecture: "amd64",
    os: "linux",
    created: "2026-01-02T03:04:05Z",
    config: { Labels: { "org.opencontainers.image.version": "14" } },
    rootfs: { type: "layers", diff_ids: [digest("d")] },
  },
  { imageLayoutVersion: "1.0.0" },
];

export const target: FuzzTarget = {
  focus: /^shared\/format\/oci\//,
  maxBytes: 4096,
  errors: ["FormatError", "UnsupportedError"],
  // zod walks the value through many small functions, which are not counted; JSON.parse is linear.
  words: [
    ...'{|}|[|]|:|,|null|true|0|-1|1e999|9007199254740993|""|"layers":[]|"manifests":[]|"size":-1'.split(
      "|",
    ),
    ...`"mediaType":"${INDEX}"|"mediaType":"${MANIFEST}"|"__proto__":{}|"config":null|\\ud800`.split(
      "|",
    ),
    ..."sha512:|sha256:|../|\xff|\ufeff".split("|"),
  ],
  seeds: () => SEEDS.map((value) => Buffer.from(JSON.stringify(value))),
  check(input) {
    const results = [
      attempt(() => checkManifest(input)),
      attempt(() => checkIndex(input)),
      attempt(() => parseImageConfig(input, 1, "config")),
      attempt(() => checkLayoutFile(input, "layout")),
    ];
    // A document is one thing only.
    const [manifest, index] = results.map((result) => !("error" in result));
    if (manifest && index) throw new PropertyError("Both a manifest and an index");
    for (const result of results) {
      const allowed = ["FormatError", "UnsupportedError"];
      if ("error" in result && !allowed.includes(result.error.name)) throw result.error;
    }
    return results.some((result) => !("error" in result));
  },
};

function checkManifest(input: Uint8Array): void {
  const document = parseManifestDocument(input, MANIFEST, "manifest");
  if (document.kind !== "manifest") throw new PropertyError("A manifest is read as an index");
  const { manifest } = document;
  for (const descriptor of [manifest.config, ...manifest.layers]) checkDigest(descriptor.digest);
}

function checkIndex(input: Uint8Array): void {
  const document = parseManifestDocument(input, INDEX, "index");
  if (document.kind !== "index") throw new PropertyError("An index is read as a manifest");
  for (const descriptor of document.index.manifests) checkDigest(descriptor.digest);
  checkSelection(document.index);
}

function checkSelection(index: ImageIndex): void {
  for (const select of [
    () => selectTag(index, null, "layout"),
    () => selectTag(index, "latest", "layout"),
    () => selectPlatform(index, "amd64", "index"),
  ]) {
    const selected = attempt(select);
    if ("error" in selected) continue;
    checkEqual(
      index.manifests.includes(selected.value),
      true,
      "Selected manifest is one of the index",
    );
  }
}

/** It becomes part of a path. */
function checkDigest(text: string): void {
  const { algorithm, hex } = splitDigest(text);
  checkEqual(/^sha(256|512)$/.test(algorithm) && /^[0-9a-f]+$/.test(hex), true, "Digest");
  checkEqual(blobPath(text), `blobs/${algorithm}/${hex}`, "Path of a blob");
}
