// Fuzz target: archives of images, as oci-archive and as docker-archive. Whatever is in one: what is given
// as a layer is the tar (or blob) with the digest that was promised, and nothing outside the archive is opened.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { computeDigest } from "../../../shared/format/oci/digest.ts";
import { openDockerArchive } from "../../../updater/image/docker-archive.ts";
import { openOciArchive } from "../../../updater/image/oci-archive.ts";
import type { ImageSource } from "../../../updater/image/resolved-image.ts";
import { dockerMembers, listMembers, packMembers } from "../../support/archive-builder.ts";
import { writeLayout } from "../../support/oci-builder.ts";
import { TAR_END, type TarMember, tarMember } from "../../support/tar-builder.ts";
import { changeTarHeader, fixTarChecksums } from "../tar-blocks.ts";
import { checkEqual, type FuzzTarget } from "../target.ts";

const TAR = Buffer.concat([tarMember({ name: "a", content: "hello" }), TAR_END]);

export const target: FuzzTarget = {
  focus: /^updater\/image\/(?:archive-|docker-archive|oci-archive|layout-source)/,
  maxBytes: 24_576,
  // Buffers for reading have one size, whatever is read.
  memoryPerByte: 4096,
  stepsPerByte: 200,
  errors: ["FormatError", "IntegrityError", "UnsupportedError"],
  words: [
    ..."manifest.json|oci-layout|index.json|layer.tar|blobs/sha256/|../|/etc/passwd|./|@0|[]|{}".split(
      "|",
    ),
    ...'"Config":|"RepoTags":|"Layers":|"manifests":|"digest":"sha256:|\0|\xff'.split("|"),
  ],
  mutate: changeTarHeader,
  repair: fixTarChecksums,
  *seeds() {
    yield packMembers(layoutMembers());
    yield packMembers(dockerMembers([{ tars: [TAR], tags: ["os:v1"] }]));
    yield packMembers(dockerMembers([{ tars: [TAR, TAR_END], blobs: { 0: gzipSync(TAR) } }]));
    const [config, layer, list] = dockerMembers([{ tars: [TAR] }]) as [
      TarMember,
      TarMember,
      TarMember,
    ];
    const link = { name: layer.name, type: "2", linkName: "../real" };
    yield packMembers([config, { ...layer, name: "real" }, link, list]);
    yield packMembers([
      { ...config, name: "c" },
      { name: config.name, type: "1", linkName: "c" },
      layer,
      list,
    ]);
  },
  async check(input) {
    const scratch = mkdtempSync(join(tmpdir(), "fuzz-archive-"));
    try {
      const path = join(scratch, "x.tar");
      writeFileSync(path, input);
      const isDocker = await isAccepted(openDockerArchive(path, "amd64"));
      return (await isAccepted(openOciArchive(path, "amd64"))) || isDocker;
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  },
};

/** Reads everything; the code's own errors mean no. */
async function isAccepted(source: ImageSource): Promise<boolean> {
  try {
    const { manifest, config } = await source.resolve();
    for (const [i, layer] of manifest.layers.entries()) {
      const parts: Uint8Array[] = [];
      for await (const part of source.openLayer(layer, config.rootfs.diff_ids[i]!))
        parts.push(part);
      const bytes = Buffer.concat(parts);
      checkEqual(bytes.length, layer.size, "Size of a layer");
      const [algorithm] = layer.digest.split(":");
      checkEqual(computeDigest(bytes, algorithm), layer.digest, "Digest of a layer");
    }
    return true;
  } catch (error) {
    if (target.errors!.includes((error as Error).name)) return false;
    throw error;
  } finally {
    await source[Symbol.asyncDispose]!();
  }
}

function layoutMembers(): TarMember[] {
  const scratch = mkdtempSync(join(tmpdir(), "fuzz-layout-"));
  try {
    writeLayout(scratch, [{ layers: [{ tar: TAR, compression: "none" }], architecture: "amd64" }]);
    return listMembers(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
