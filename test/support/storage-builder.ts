// A containers-storage with one image, written by hand, for tests that damage it. The real tools make theirs in
// test/integration/transports.test.ts.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { TarReader } from "../../shared/format/tar/reader.ts";
import { fromByteString } from "../../shared/format/tree/node.ts";

export interface BuiltStorage {
  readonly graphRoot: string;
  readonly imageId: string;
  readonly manifestDigest: string;
  /** From the lowest up. */
  readonly layers: readonly { readonly id: string; readonly diffId: string }[];
}

/** Image `name` ("example.com/os:v1") with one layer for each tar. */
export function writeStorage(
  graphRoot: string,
  name: string,
  tars: readonly Buffer[],
): BuiltStorage {
  const write = (path: string, content: string | Uint8Array) => {
    mkdirSync(dirname(join(graphRoot, path)), { recursive: true });
    writeFileSync(join(graphRoot, path), content);
  };
  const layers = tars.map((tar, i) => {
    const id = computeDigest(Buffer.from(`layer ${i}`)).slice(7);
    const { split, files } = takeApart(tar);
    write(`overlay-layers/${id}.tar-split.gz`, gzipSync(split));
    mkdirSync(join(graphRoot, `overlay/${id}/diff`), { recursive: true });
    for (const [path, content] of files) write(`overlay/${id}/diff/${path}`, content);
    return { id, diffId: computeDigest(tar), size: tar.length };
  });
  const config = JSON.stringify({
    architecture: "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const configDigest = computeDigest(Buffer.from(config));
  const type = "application/vnd.oci.image";
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: `${type}.manifest.v1+json`,
    config: { mediaType: `${type}.config.v1+json`, digest: configDigest, size: config.length },
    layers: layers.map(({ diffId: digest, size }) => ({
      mediaType: `${type}.layer.v1.tar`,
      digest,
      size,
    })),
  });
  const manifestDigest = computeDigest(Buffer.from(manifest));
  const imageId = configDigest.slice(7);
  const directory = `overlay-images/${imageId}`;
  write(`${directory}/manifest`, manifest);
  write(`${directory}/=${Buffer.from(configDigest).toString("base64")}`, config);
  const image = {
    id: imageId,
    digest: manifestDigest,
    names: [name],
    layer: layers.at(-1)!.id,
    "big-data-names": ["manifest", configDigest],
    "big-data-digests": { manifest: manifestDigest, [configDigest]: configDigest },
  };
  write("overlay-images/images.json", JSON.stringify([image]));
  const records = layers.map(({ id, diffId }, i) => ({
    id,
    ...(i > 0 && { parent: layers[i - 1]!.id }),
    "diff-digest": diffId,
  }));
  write("overlay-layers/layers.json", JSON.stringify(records));
  return { graphRoot, imageId, manifestDigest, layers };
}

/** tar-split data of a tar, and the files it leaves out. */
function takeApart(tar: Buffer): { split: string; files: readonly (readonly [string, Buffer])[] } {
  const lines: object[] = [];
  const files: [string, Buffer][] = [];
  let name = "";
  let content: Buffer[] = [];
  const reader = new TarReader({
    raw: (bytes) => lines.push({ type: 2, payload: Buffer.from(bytes).toString("base64") }),
    entry: ({ path }) => {
      name = fromByteString(path);
    },
    content: (bytes) => content.push(Buffer.from(bytes)),
    contentEnd: () => {
      const whole = Buffer.concat(content);
      content = [];
      files.push([name, whole]);
      lines.push({ type: 1, name, size: whole.length, payload: "AAAAAAAAAAA=" });
    },
  });
  reader.write(tar);
  reader.finish();
  const split = lines.map((line, position) => `${JSON.stringify({ ...line, position })}\n`);
  return { split: split.join(""), files };
}
