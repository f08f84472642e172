// Writes an OCI image layout from layers that are packed already.
// Invariants: blobs are hard links to the cached layers (nothing is copied); the same layers and
// texts give the same manifest digest, so a rebuilt image is recognised as the same.

import { createHash } from "node:crypto";
import { link, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { LayerFile } from "./layer-tar.ts";

export type PackedLayer = LayerFile & { readonly file: string; readonly createdBy: string };

export type ImageText = {
  readonly created: string;
  readonly version: string;
  readonly refName: string;
  readonly labels: Readonly<Record<string, string>>;
};

type Descriptor = { mediaType: string; digest: string; size: number };

const media = "application/vnd.oci.image";

/** Fills `dir` with an OCI layout that holds one image; returns the manifest's digest. */
export async function writeOciLayout(
  dir: string,
  layers: readonly PackedLayer[],
  text: ImageText,
): Promise<string> {
  const blobs = join(dir, "blobs/sha256");
  await mkdir(blobs, { recursive: true });
  for (const layer of layers) await link(layer.file, join(blobs, hexOf(layer.digest)));
  const config = await putJson(blobs, `${media}.config.v1+json`, imageConfig(layers, text));
  const manifest = await putJson(blobs, `${media}.manifest.v1+json`, {
    schemaVersion: 2,
    mediaType: `${media}.manifest.v1+json`,
    config,
    layers: layers.map(({ digest, size }) => ({
      mediaType: `${media}.layer.v1.tar+zstd`,
      digest,
      size,
    })),
    annotations: { "org.opencontainers.image.version": text.version },
  });
  const index = {
    schemaVersion: 2,
    mediaType: `${media}.index.v1+json`,
    manifests: [
      { ...manifest, annotations: { "org.opencontainers.image.ref.name": text.refName } },
    ],
  };
  await writeFile(join(dir, "index.json"), JSON.stringify(index));
  await writeFile(join(dir, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  return manifest.digest;
}

function imageConfig(layers: readonly PackedLayer[], text: ImageText): unknown {
  return {
    created: text.created,
    architecture: process.arch === "arm64" ? "arm64" : "amd64",
    os: "linux",
    config: { Labels: text.labels, Cmd: ["/sbin/init"] },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map((layer) => ({ created: text.created, created_by: layer.createdBy })),
  };
}

async function putJson(blobs: string, mediaType: string, value: unknown): Promise<Descriptor> {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  await writeFile(join(blobs, hexOf(digest)), bytes);
  return { mediaType, digest, size: bytes.length };
}

function hexOf(digest: string): string {
  return digest.slice("sha256:".length);
}
