// The case "securePieces" of kernel-cases.ts: a layer of which only what is missing is fetched, and one whose
// files lie elsewhere, in a repository whose objects have fs-verity. Both must be what whole layers give.

import { closeSync, mkdirSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { inspectObject } from "../../shared/store/object-inspection.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { planImagePull, pullImage } from "../../updater/image/pull.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import type { ImageSource } from "../../updater/image/resolved-image.ts";
import { openSource } from "../../updater/image/source.ts";
import { importTarPieces, type TarPiece } from "../../updater/image/tar-pieces.ts";
import { makeChunkedLayer } from "./chunked-layer.ts";
import { blobFile, type TestLayer, writeLayout } from "./oci-builder.ts";
import { listObjects } from "./repository-listing.ts";
import { TAR_END, tarMember } from "./tar-builder.ts";
import { takeApart } from "./tar-split.ts";

export const SECURE_PIECES_RESULT = {
  secure: true,
  method: "partial",
  fetched: "as planned",
  partial: "as whole",
  pieces: "as whole",
  bad: [],
} as const;

const content = (name: string, sizeBytes: number) => Buffer.alloc(sizeBytes, `${name}.`);

function makeTar(names: readonly string[]): Buffer {
  const members = names.map((name, i) =>
    tarMember({ name: `usr/${name}`, content: content(name, 50 + i * 30_000) }),
  );
  return Buffer.concat([tarMember({ name: "usr/", type: "5" }), ...members, TAR_END]);
}

export async function securePieces(path: string): Promise<unknown> {
  using repo = openRepo(join(path, "parts"));
  using plain = openRepo(join(path, "whole"));
  const old = makeTar(["a", "b", "c", "d", "e", "f"]);
  const tar = makeTar(["a", "b", "new", "d", "e", "f"]);
  const first = write(path, "first", { tar: old });
  const second = write(path, "second", makeChunkedLayer(tar));
  await pull(repo, first);
  await pull(plain, second);
  const whole = streamObject(plain, `oci-layer-${computeDigest(tar)}`);

  const counted = countRanges(second);
  const image = await counted.source.resolve();
  const plan = await planImagePull(repo, counted.source, image);
  const before = counted.bytes();
  await pullImage(repo, counted.source, { plan });
  const partial = streamObject(repo, `oci-layer-${computeDigest(tar)}`);
  const pieces = await importTarPieces(repo, fromPaths(path, old), {
    diffId: computeDigest(old),
    what: "layer",
  });
  return {
    secure: repo.secure,
    method: plan.layers[0]!.method,
    fetched: counted.bytes() - before === plan.fetchBytes ? "as planned" : "otherwise",
    partial: partial !== null && partial === whole ? "as whole" : "otherwise",
    pieces:
      pieces === streamObject(repo, `oci-layer-${computeDigest(old)}`) ? "as whole" : "otherwise",
    bad: listBad(repo),
  };
}

function openRepo(path: string): Repository {
  return ensureRepository(null, path, { algorithm: "sha512", secure: true });
}

function write(path: string, name: string, layer: TestLayer): string {
  const layout = join(path, name);
  writeLayout(layout, [{ layers: [layer] }]);
  return layout;
}

async function pull(repo: Repository, layout: string): Promise<void> {
  await using source = openSource(makeImageReference("oci", layout));
  await pullImage(repo, source);
}

/** A layout as if it were a server with ranges. */
function countRanges(layout: string): { source: ImageSource; bytes: () => number } {
  let bytes = 0;
  const openRange: NonNullable<ImageSource["openRange"]> = async function* (layer, range) {
    const fd = openSync(blobFile(layout, layer.digest), "r");
    const buffer = Buffer.alloc(range.endByte - range.startByte);
    readSync(fd, buffer, 0, buffer.length, range.startByte);
    closeSync(fd);
    bytes += buffer.length;
    yield buffer;
  };
  return {
    source: { ...openSource(makeImageReference("oci", layout)), openRange },
    bytes: () => bytes,
  };
}

async function* fromPaths(path: string, tar: Buffer): AsyncGenerator<TarPiece> {
  mkdirSync(join(path, "files"));
  for (const part of takeApart(tar)) {
    const bytes = part.kind === "literal" ? part.bytes : part.content;
    if (part.kind === "literal" || bytes.length === 0) {
      yield { kind: "bytes", bytes };
      continue;
    }
    const file = join(path, "files", part.path.replaceAll("/", "-"));
    writeFileSync(file, bytes);
    yield { kind: "file", sizeBytes: bytes.length, content: { kind: "path", path: file } };
  }
}

/** Objects that are not what their names say, or lack fs-verity. */
function listBad(repo: Repository): string[] {
  const start = join(repo.path, "objects/").length;
  return listObjects(repo)
    .map((path) => path.slice(start).replace("/", ""))
    .filter((digest) => inspectObject(repo, digest, { deep: true }) !== "good");
}
