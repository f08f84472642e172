import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listMembers, packMembers } from "../../test/support/archive-builder.ts";
import { type BuiltImage, writeLayout } from "../../test/support/oci-builder.ts";
import { TAR_END, type TarMember, tarMember } from "../../test/support/tar-builder.ts";
import { openArchive } from "./archive-file.ts";
import { openOciArchive } from "./oci-archive.ts";

const layer = Buffer.concat([tarMember({ name: "a", content: Buffer.alloc(4000, "a") }), TAR_END]);
let scratch: string;
let archive: string;
let members: TarMember[];
let images: readonly BuiltImage[];
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "archive-"));
  archive = join(scratch, "image.tar");
  const architecture = "amd64";
  images = writeLayout(join(scratch, "layout"), [
    { layers: [{ tar: layer }], tag: "v1", architecture },
    { layers: [{ tar: TAR_END }], tag: "example.com/os:v2", architecture },
  ]);
  members = listMembers(join(scratch, "layout"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

/** Manifest digest and size of the first layer. */
async function read(suffix = ":v1"): Promise<[string, number]> {
  const source = openOciArchive(`${archive}${suffix}`, "amd64");
  try {
    const { manifestDigest, manifest } = await source.resolve();
    let sizeBytes = 0;
    for await (const chunk of source.openLayer(manifest.layers[0]!, "")) sizeBytes += chunk.length;
    return [manifestDigest, sizeBytes];
  } finally {
    await source[Symbol.asyncDispose]!();
  }
}

const put = (bytes: Uint8Array) => writeFileSync(archive, bytes);
const isManifest = ({ name }: TarMember) => name === blobName(images[0]!.manifest.digest);
const blobName = (digest: string) => `blobs/${digest.replace(":", "/")}`;
/** The archive with the first layer's member changed. */
const changeLayer = (change: (member: TarMember) => readonly TarMember[]) =>
  members.flatMap((member) =>
    member.name === blobName(images[0]!.layers[0]!.digest) ? change(member) : [member],
  );

test("images are chosen by tag and number", async () => {
  put(packMembers(members));
  const [first, second] = images.map(({ manifest }) => manifest.digest);
  expect(await read(":v1")).toEqual([first, images[0]!.layers[0]!.size]);
  expect((await read(":@0"))[0]).toBe(first);
  expect((await read(":example.com/os:v2"))[0]).toBe(second);
  expect((await read(":@1"))[0]).toBe(second);
});

test.each<[string, (name: string) => string]>([
  ["with ./ before the names", (name) => `./${name}`],
  ["with absolute names", (name) => `/${name}`],
  ["with roundabout names", (name) => name.replace("blobs/", "x/.././blobs//")],
])("an archive %s", async (_name, rename) => {
  put(packMembers(members.map((member) => ({ ...member, name: rename(String(member.name)) }))));
  expect((await read())[0]).toBe(images[0]!.manifest.digest);
});

test("links inside the archive are followed", async () => {
  const moved = changeLayer((member) => [
    { ...member, name: "shared/layer" },
    { name: "hard", type: "1", linkName: "shared/layer" },
    { name: member.name, type: "2", linkName: "../../hard" },
  ]);
  put(packMembers(moved));
  expect((await read())[1]).toBe(images[0]!.layers[0]!.size);
});

describe("bad archives", () => {
  test.each<[string, () => Uint8Array | null, RegExp]>([
    ["missing", () => null, /There is no archive ".*image\.tar"; check the path/],
    ["empty", () => Buffer.alloc(0), /is not an OCI image archive: it has no file "oci-layout"/],
    ["another file", () => Buffer.alloc(3000, "x"), /is not a whole tar archive; copy it again/],
    [
      "cut short in a header",
      () => packMembers(members).subarray(0, 700),
      /is not a whole tar archive/,
    ],
    [
      "cut short in a blob",
      () => packMembers(members).subarray(0, -2600),
      /is not a whole tar archive|misses|missing from the archive/,
    ],
    [
      "a tar whose sizes are a lie",
      () => packMembers([{ name: "x", sizeBytes: 2 ** 32, content: "" }]),
      /is not a whole tar archive/,
    ],
    ["packed with xz", () => Buffer.from("fd377a585a0000", "hex"), /packed with xz.*"xz -d"/],
    ["packed with bzip2", () => Buffer.from("BZh91AY"), /packed with bzip2.*"bzip2 -d"/],
    [
      "packed and cut short",
      () => gzipSync(packMembers(members)).subarray(0, 300),
      /is not valid gzip data|is not a whole tar/,
    ],
    ["no layout", () => packMembers([{ name: "a" }]), /no file "oci-layout"$/],
    [
      "Docker's",
      () => packMembers([{ name: "manifest.json", content: "[]" }]),
      /for an archive of "docker save" use "docker-archive"/,
    ],
    [
      "a layer too short",
      () => packMembers(changeLayer((member) => [{ ...member, content: "x" }])),
      /has 1 bytes instead of \d+; copy the image again/,
    ],
    [
      "a changed layer",
      () =>
        packMembers(
          changeLayer((member) => {
            const content = Buffer.from(member.content!);
            content[content.length >> 1]! ^= 1;
            return [{ ...member, content }];
          }),
        ),
      /is corrupt: its bytes have digest/,
    ],
    ["a layer gone", () => packMembers(changeLayer(() => [])), /missing from the archive/],
    [
      "a manifest gone",
      () => packMembers(members.filter((member) => !isManifest(member))),
      /missing from the archive/,
    ],
    [
      "a layer twice",
      () => packMembers(changeLayer((member) => [member, { ...member, content: "other" }])),
      /is there more than once/,
    ],
    [
      "a link out of the archive",
      () =>
        packMembers(
          changeLayer(({ name }) => [{ name, type: "2", linkName: "../../../../etc/passwd" }]),
        ),
      /leads out of the archive/,
    ],
    [
      "a link to an absolute path",
      () => packMembers(changeLayer(({ name }) => [{ name, type: "2", linkName: "/etc/passwd" }])),
      /missing from the archive/,
    ],
    [
      "links in a circle",
      () =>
        packMembers(
          changeLayer(({ name }) => [
            { name, type: "2", linkName: "../../loop" },
            { name: "loop", type: "1", linkName: String(name) },
          ]),
        ),
      /behind more than 8 links/,
    ],
    [
      "a device as a layer",
      () => packMembers(changeLayer(({ name }) => [{ name, type: "3", device: [1, 5] }])),
      /is not a regular file/,
    ],
    [
      "a huge index.json",
      () =>
        packMembers(
          members.map((member) =>
            member.name === "index.json"
              ? { ...member, content: Buffer.alloc(5 << 20, " ") }
              : member,
          ),
        ),
      /is larger than 4194304 bytes/,
    ],
  ])("%s", async (_name, make, message) => {
    const bytes = make();
    if (bytes !== null) put(bytes);
    await expect(read()).rejects.toThrow(message);
  });

  test.each<[string, RegExp]>([
    ["", /has 2 images; choose one with ":tag".*"v1", "example\.com\/os:v2"/],
    [":v9", /has no tag "v9"; its tags are "v1", "example\.com\/os:v2"/],
    [":@2", /has no image "@2"; it has 2, counted from 0/],
  ])("choosing %s", async (suffix, message) => {
    put(packMembers(members));
    await expect(read(suffix)).rejects.toThrow(message);
  });

  test("a directory", async () => {
    mkdirSync(archive);
    await expect(read()).rejects.toThrow(/for a directory use transport "oci" or "dir"/);
  });

  test("a bomb is given up, and what it unpacked to is gone", async () => {
    const before = new Set(readdirSync("/var/tmp"));
    put(gzipSync(packMembers([{ name: "zeros", content: Buffer.alloc(16 << 20) }])));
    const opening = openArchive(archive, new AbortController().signal, (bytes) => 200 * bytes);
    await expect(opening).rejects.toThrow(/unpacks to more than \d{7} bytes/);
    const left = readdirSync("/var/tmp").filter((name) => !before.has(name));
    expect(left.filter((name) => name.startsWith("bootc-archive-"))).toEqual([]);
  });

  test("closing does not wait for the unpacking", async () => {
    put(gzipSync(packMembers([{ name: "zeros", content: Buffer.alloc(16 << 20) }])));
    const source = openOciArchive(archive, "amd64");
    const resolving = source.resolve();
    resolving.catch(() => {});
    await source[Symbol.asyncDispose]!();
    await expect(resolving).rejects.toThrow(/was closed/);
  });
});
