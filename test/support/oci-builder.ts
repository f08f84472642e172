// OCI image layouts in a directory, for tests.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { computeDigest } from "../../shared/format/oci/digest.ts";

export interface TestLayer {
  readonly tar: Buffer;
  readonly compression?: "gzip" | "zstd" | "none";
  /** Instead of the compressed tar. */
  readonly blob?: Buffer;
  readonly mediaType?: string;
  /** Instead of the tar's digest. */
  readonly diffId?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface TestImage {
  readonly layers: readonly TestLayer[];
  readonly tag?: string;
  readonly architecture?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface TestDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly os: string; readonly architecture: string };
}

export interface BuiltImage {
  readonly manifest: TestDescriptor;
  readonly config: TestDescriptor;
  readonly layers: readonly (TestDescriptor & { readonly diffId: string })[];
}

const COMPRESS = {
  gzip: (tar: Buffer) => gzipSync(tar, { level: 1 }),
  zstd: (tar: Buffer) => zstdCompressSync(tar),
  none: (tar: Buffer) => tar,
};
const HOST = process.arch === "x64" ? "amd64" : process.arch;
const OCI = "application/vnd.oci.image";

/** Writes the layout and its index.json; returns what was written. */
export function writeLayout(directory: string, images: readonly TestImage[]): BuiltImage[] {
  mkdirSync(join(directory, "blobs/sha256"), { recursive: true });
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  const built = images.map((image) => writeImage(directory, image));
  writeIndex(
    directory,
    built.map(({ manifest }) => manifest),
  );
  return built;
}

export function writeIndex(directory: string, manifests: readonly TestDescriptor[]): void {
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
}

/** Path of a blob in the layout. */
export function blobFile(directory: string, digest: string): string {
  return join(directory, "blobs", digest.replace(":", "/"));
}

export function writeBlob(directory: string, mediaType: string, bytes: Buffer): TestDescriptor {
  const digest = computeDigest(bytes);
  writeFileSync(blobFile(directory, digest), bytes);
  return { mediaType, digest, size: bytes.length };
}

export function writeJson(directory: string, mediaType: string, value: unknown): TestDescriptor {
  return writeBlob(directory, mediaType, Buffer.from(JSON.stringify(value)));
}

function writeImage(directory: string, image: TestImage): BuiltImage {
  const layers = image.layers.map((layer) => {
    const compression = layer.compression ?? "gzip";
    const suffix = compression === "none" ? "" : `+${compression}`;
    const mediaType = layer.mediaType ?? `${OCI}.layer.v1.tar${suffix}`;
    const blob = layer.blob ?? COMPRESS[compression](layer.tar);
    const diffId = layer.diffId ?? computeDigest(layer.tar);
    const { annotations } = layer;
    return {
      ...writeBlob(directory, mediaType, blob),
      diffId,
      ...(annotations && { annotations }),
    };
  });
  const config = writeJson(directory, `${OCI}.config.v1+json`, {
    architecture: image.architecture ?? HOST,
    os: "linux",
    created: "2025-01-02T03:04:05Z",
    config: { Labels: { "org.opencontainers.image.version": "1" } },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = writeJson(directory, `${OCI}.manifest.v1+json`, {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config,
    layers: layers.map(({ diffId: _, ...descriptor }) => descriptor),
    ...(image.annotations === undefined ? {} : { annotations: image.annotations }),
  });
  const annotations =
    image.tag === undefined
      ? {}
      : { annotations: { "org.opencontainers.image.ref.name": image.tag } };
  return { manifest: { ...manifest, ...annotations }, config, layers };
}
