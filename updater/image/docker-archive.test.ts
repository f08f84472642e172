import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { dockerMembers, packMembers } from "../../test/support/archive-builder.ts";
import { TAR_END, type TarMember, tarMember } from "../../test/support/tar-builder.ts";
import { openDockerArchive } from "./docker-archive.ts";

const tar = Buffer.concat([tarMember({ name: "a", content: Buffer.alloc(4000, "a") }), TAR_END]);
const one = { tags: ["example.com/os:v1", "debian:13"], tars: [tar] };
const two = { tags: null, tars: [tar, TAR_END] };
let scratch: string;
let archive: string;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "docker-archive-"));
  archive = join(scratch, "image.tar");
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const put = (members: readonly TarMember[]) => writeFileSync(archive, packMembers(members));

/** Digests of the manifest and of the layers' tars. */
async function read(suffix = ""): Promise<{ manifest: string; tars: string[]; types: string[] }> {
  const source = openDockerArchive(`${archive}${suffix}`, "amd64");
  try {
    const { manifestDigest, manifest, config } = await source.resolve();
    const tars: string[] = [];
    for (const [i, layer] of manifest.layers.entries()) {
      const parts: Uint8Array[] = [];
      for await (const part of source.openLayer(layer, config.rootfs.diff_ids[i]!))
        parts.push(part);
      tars.push(computeDigest(Buffer.concat(parts)));
    }
    const types = [manifest.mediaType!, ...manifest.layers.map(({ mediaType }) => mediaType)];
    return { manifest: manifestDigest, tars, types };
  } finally {
    await source[Symbol.asyncDispose]!();
  }
}

describe("good archives", () => {
  test("by name, by number, alone", async () => {
    put(dockerMembers([one, two]));
    const named = await read(":example.com/os:v1");
    expect(named).toEqual({
      manifest: expect.stringMatching(/^sha256:/),
      tars: [computeDigest(tar)],
      types: [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
      ],
    });
    for (const suffix of [":debian:13", ":docker.io/library/debian:13", ":@0"])
      expect(await read(suffix)).toEqual(named);
    expect((await read(":@1")).tars).toEqual([tar, TAR_END].map((each) => computeDigest(each)));
    put(dockerMembers([two]));
    expect((await read()).tars).toHaveLength(2);
  });

  test("without a tag, latest is meant", async () => {
    put(dockerMembers([{ tags: ["debian:latest"], tars: [tar] }]));
    expect((await read(":debian")).tars).toHaveLength(1);
  });

  test.each([
    ["gzip", gzipSync(tar)],
    ["zstd", zstdCompressSync(tar)],
  ])("layers packed with %s have the same manifest", async (_name, blob) => {
    put(dockerMembers([one]));
    const plain = await read();
    put(dockerMembers([{ ...one, blobs: { 0: blob } }]));
    expect(await read()).toEqual(plain);
  });

  test("layers and config behind links", async () => {
    const [config, layer, manifest] = dockerMembers([one]);
    put([
      { ...layer!, name: "layers/1.tar" },
      { ...config!, name: "real.json" },
      { name: String(layer!.name), type: "2", linkName: "../layers/1.tar" },
      { name: String(config!.name), type: "1", linkName: "real.json" },
      manifest!,
    ]);
    expect((await read()).tars).toEqual([computeDigest(tar)]);
  });
});

describe("bad archives", () => {
  const manifest = (value: unknown): TarMember => ({
    name: "manifest.json",
    content: JSON.stringify(value),
  });
  /** manifest.json with a field of its image changed. */
  const withField = (field: string, value: unknown) => {
    const members = dockerMembers([one]);
    const [image] = JSON.parse(String(members.pop()!.content));
    return [...members, manifest([{ ...image, [field]: value }])];
  };
  const [config, layer, list] = dockerMembers([one]) as [TarMember, TarMember, TarMember];

  test.each<[string, string, readonly TarMember[], RegExp]>([
    ["no manifest", "", [layer], /is not an archive of "docker save": it has no file "manifest/],
    [
      "an OCI archive",
      "",
      [{ name: "oci-layout", content: "{}" }],
      /for an archive in OCI format use transport "oci-archive"/,
    ],
    ["no list", "", [manifest({})], /manifest\.json" of ".*" is malformed/],
    ["no images", "", [manifest([])], /has no images/],
    [
      "two images and no name",
      "",
      dockerMembers([one, two]),
      /has 2 images; choose one with ":name:tag" or ":@number".*"example\.com\/os:v1", "debian:13"/,
    ],
    [
      "an unknown tag",
      ":debian:14",
      dockerMembers([one]),
      /no image "docker\.io\/library\/debian:14"; its images are "example\.com\/os:v1", "debian:13"/,
    ],
    ["no names at all", ":debian", dockerMembers([two]), /its images have no names/],
    ["a number too high", ":@2", dockerMembers([one, two]), /no image "@2"; it has 2/],
    [
      "a name twice",
      ":debian:13",
      dockerMembers([one, { ...two, tags: ["debian:13"] }]),
      /more than one image "docker\.io\/library\/debian:13"/,
    ],
    ["a config gone", "", [layer, list], /which "manifest\.json" names, is missing/],
    ["a layer gone", "", [config, list], /which "manifest\.json" names, is missing/],
    [
      "a changed config",
      "",
      [{ ...config, content: String(config.content).replace("linux", "Linux") }, layer, list],
      /Config ".*" in ".*" is corrupt/,
    ],
    [
      "a changed layer",
      "",
      [config, { ...layer, content: tarMember({ name: "b" }) }, list],
      /of ".*" (?:is corrupt|is cut short|has more)/,
    ],
    [
      "a layer with a path out of the archive",
      "",
      withField("Layers", ["../../etc/passwd"]),
      /"\.\.\/\.\.\/etc\/passwd" in the archive ".*" leads out of the archive/,
    ],
    [
      "a config with an absolute path",
      "",
      withField("Config", "/etc/passwd"),
      /"\/etc\/passwd", which "manifest\.json" names, is missing/,
    ],
    ["a layer too few", "", withField("Layers", []), /malformed at "0\.Layers"/],
    ["a layer too many", "", withField("Layers", ["a", "b"]), /lists 1 layers, the manifest 2/],
    ["for another machine", "", dockerMembers([{ ...one, architecture: "s390x" }]), /linux\/s390x/],
  ])("%s", async (_name, suffix, members, message) => {
    put(members);
    await expect(read(suffix)).rejects.toThrow(message);
  });

  test.each([
    [`:debian@sha256:${"0".repeat(64)}`, /has a digest; images in such an archive have names only/],
    [":Debian", /lower case/],
  ])("%s is no reference", (suffix, message) => {
    expect(() => openDockerArchive(`${archive}${suffix}`, "amd64")).toThrow(message);
  });
});
