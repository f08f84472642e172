// An OCI layout of a made-up operating system of 1.5 GB for the pull benchmark: as many small files as a
// distribution has, some large ones, text, program code and incompressible data. Same bytes every time.

import { createHash } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createGzip, createZstdCompress } from "node:zlib";
import { TAR_END, tarMember } from "../../test/support/tar-builder.ts";

export type Compression = "gzip" | "zstd";

const MEDIA_TYPES = {
  gzip: "application/vnd.oci.image.layer.v1.tar+gzip",
  zstd: "application/vnd.oci.image.layer.v1.tar+zstd",
} as const;
const POOL_BYTES = 64 << 20;
const MEDIAN_FILE_BYTES = 5000;
const MAX_FILE_BYTES = 96 << 20;
const FILES_PER_DIRECTORY = 200;

interface LayerSpec {
  readonly name: string;
  readonly seed: number;
  readonly sizeBytes: number;
}

const BASE: LayerSpec = { name: "base", seed: 1, sizeBytes: 1_050_000_000 };
const MIDDLE: LayerSpec = { name: "middle", seed: 2, sizeBytes: 400_000_000 };
/** Two versions of the image differ in their last layer. */
const TOPS: readonly LayerSpec[] = [
  { name: "top", seed: 3, sizeBytes: 50_000_000 },
  { name: "top", seed: 4, sizeBytes: 50_000_000 },
];

/** Writes one layout for each version, `<path>/1` and `<path>/2`, which share their blobs. */
export async function writeLargeLayouts(path: string, compression: Compression): Promise<void> {
  const blobs = join(path, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const below: WrittenLayer[] = [];
  for (const spec of [BASE, MIDDLE]) below.push(await writeLayer(blobs, spec, compression));
  for (const [index, top] of TOPS.entries()) {
    const layers = [...below, await writeLayer(blobs, top, compression)];
    const layout = join(path, String(index + 1));
    mkdirSync(layout);
    symlinkSync("../blobs", join(layout, "blobs"));
    writeFileSync(join(layout, "index.json"), writeManifest(blobs, layers, compression));
    writeFileSync(join(layout, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  }
}

interface WrittenLayer {
  readonly digest: string;
  readonly size: number;
  readonly diffId: string;
}

/** Returns the text of an index that leads to the manifest. */
function writeManifest(
  blobs: string,
  layers: readonly WrittenLayer[],
  compression: Compression,
): string {
  const config = writeDocument(blobs, {
    architecture: process.arch === "x64" ? "amd64" : process.arch,
    os: "linux",
    config: { Labels: { "containers.bootc": "1" } },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  const manifest = writeDocument(blobs, {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
    layers: layers.map(({ digest, size }) => ({
      mediaType: MEDIA_TYPES[compression],
      digest,
      size,
    })),
  });
  return JSON.stringify({ schemaVersion: 2, manifests: [{ mediaType, ...manifest }] });
}

function writeDocument(blobs: string, document: object): { digest: string; size: number } {
  const bytes = Buffer.from(JSON.stringify(document));
  const hex = createHash("sha256").update(bytes).digest("hex");
  writeFileSync(join(blobs, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}

async function writeLayer(
  blobs: string,
  spec: LayerSpec,
  compression: Compression,
): Promise<WrittenLayer> {
  const tarHash = createHash("sha256");
  const blobHash = createHash("sha256");
  const partial = join(blobs, "partial");
  const fd = openSync(partial, "w");
  let size = 0;
  const compressor = compression === "gzip" ? createGzip() : createZstdCompress();
  function* hashed(): Generator<Buffer> {
    for (const bytes of makeTar(spec)) {
      tarHash.update(bytes);
      yield bytes;
    }
  }
  for await (const chunk of Readable.from(hashed()).pipe(compressor)) {
    blobHash.update(chunk);
    size += writeSync(fd, chunk);
  }
  closeSync(fd);
  const hex = blobHash.digest("hex");
  renameSync(partial, join(blobs, hex));
  return { digest: `sha256:${hex}`, size, diffId: `sha256:${tarHash.digest("hex")}` };
}

function* makeTar({ name, seed, sizeBytes }: LayerSpec): Generator<Buffer> {
  const random = makeRandom(seed);
  const directory = (path: string) => tarMember({ name: `${path}/`, type: "5", mode: 0o755 });
  for (const path of ["usr", "usr/lib", `usr/lib/${name}`]) yield directory(path);
  if (name === "base") yield* makeSystem(directory);
  let parent = "";
  for (let total = 0, count = 0; total < sizeBytes; count++) {
    if (count % FILES_PER_DIRECTORY === 0) {
      parent = `usr/lib/${name}/${count / FILES_PER_DIRECTORY}`;
      yield directory(parent);
    }
    const size = chooseSize(random);
    total += size;
    yield tarMember({ name: `${parent}/file${count}`, content: makeContent(random, size) });
  }
  yield TAR_END;
}

/** What an image must have to boot. */
function* makeSystem(directory: (path: string) => Buffer): Generator<Buffer> {
  const paths = ["etc", "boot", "sysroot", "var", "usr/lib/modules", "usr/lib/modules/6.12.0"];
  for (const path of paths) yield directory(path);
  const module = "usr/lib/modules/6.12.0";
  const random = makeRandom(9);
  yield tarMember({ name: `${module}/vmlinuz`, content: makeContent(random, 12_000_000) });
  yield tarMember({ name: `${module}/initramfs.img`, content: makeContent(random, 40_000_000) });
  yield tarMember({ name: "usr/lib/os-release", content: "ID=bench\nVERSION_ID=1\n" });
}

/** 32-bit numbers (Numerical Recipes' generator). */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  };
}

/** Log-normal, as file sizes are: half of all are below 5 kB, most bytes are in large ones. */
function chooseSize(random: () => number): number {
  const uniform = () => (random() + 1) / 2 ** 32;
  const normal = Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Math.min(Math.ceil(MEDIAN_FILE_BYTES * Math.exp(2.4 * normal)), MAX_FILE_BYTES);
}

let pools: readonly Buffer[] | null = null;

/** A piece of one of three pools, begun anywhere, so that hardly two files are the same. */
function makeContent(random: () => number, sizeBytes: number): Buffer {
  pools ??= [makeText(), makeCode(), makeNoise()];
  const pool = pools[[0, 0, 0, 1, 1, 1, 1, 1, 2, 2][random() % 10]!]!;
  const content = Buffer.allocUnsafe(sizeBytes);
  for (let at = 0; at < sizeBytes; ) {
    at += pool.copy(content, at, random() % (POOL_BYTES >> 1));
  }
  return content;
}

function makeText(): Buffer {
  const random = makeRandom(11);
  const words = Array.from({ length: 4000 }, () => (random() % 2 ** 28).toString(36));
  const pool = Buffer.alloc(POOL_BYTES, " ");
  for (let at = 0; at < POOL_BYTES - 8; ) {
    at += pool.write(words[Math.floor((random() % 4000) * ((random() % 100) / 100))]!, at) + 1;
  }
  return pool;
}

/** As program code compresses: to about half. */
function makeCode(): Buffer {
  const random = makeRandom(12);
  const pool = Buffer.alloc(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES; at += 4) {
    const value = random() >>> 3;
    pool.writeUInt32LE((value & 1) === 0 ? value & 0xff_ff_ff : 0x48_00_00_00 | (value & 0x3f), at);
  }
  return pool;
}

function makeNoise(): Buffer {
  const random = makeRandom(13);
  const pool = Buffer.alloc(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES; at += 4) {
    const value = random();
    // The low bits of this generator are weak: mixed as Murmur3 ends.
    let mixed = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    pool.writeUInt32LE((mixed ^ (mixed >>> 16)) >>> 0, at);
  }
  return pool;
}
