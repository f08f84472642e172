// OCI directories: choosing an image, and what is said about bad ones.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import {
  blobFile,
  type TestImage,
  writeBlob,
  writeIndex,
  writeJson,
  writeLayout,
} from "../../test/support/oci-builder.ts";
import { TAR_END } from "../../test/support/tar-builder.ts";
import { makeImageReference } from "./reference.ts";
import type { ResolvedImage } from "./resolved-image.ts";
import { openSource } from "./source.ts";

const INDEX = "application/vnd.oci.image.index.v1+json";
const image: TestImage = { layers: [{ tar: TAR_END }] };
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "oci-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const resolve = (suffix = "", architecture = "amd64"): Promise<ResolvedImage> =>
  openSource(makeImageReference("oci", `${directory}${suffix}`), architecture).resolve();

async function readLayer(layer: Descriptor): Promise<number> {
  let sizeBytes = 0;
  const source = openSource(makeImageReference("oci", directory), "amd64");
  for await (const chunk of source.openLayer(layer, "sha256:unused")) sizeBytes += chunk.length;
  return sizeBytes;
}

describe("choosing", () => {
  test("the only image", async () => {
    const [built] = writeLayout(directory, [{ ...image, architecture: "amd64" }]);
    const found = await resolve();
    expect(found.manifestDigest).toBe(built!.manifest.digest);
    expect(found.config.rootfs.diff_ids).toEqual([built!.layers[0]!.diffId]);
    expect(JSON.parse(Buffer.from(found.manifestBytes).toString())).toEqual(found.manifest);
  });

  test("by tag; a colon in a directory name is no tag", async () => {
    const amd64 = { ...image, architecture: "amd64" };
    const [, second] = writeLayout(directory, [
      { ...amd64, tag: "v1" },
      { ...amd64, tag: "v2", annotations: { a: "b" } },
    ]);
    expect((await resolve(":v2")).manifestDigest).toBe(second!.manifest.digest);
    const odd = join(directory, "a:b/layout");
    const [only] = writeLayout(odd, [amd64]);
    expect((await resolve("/a:b/layout")).manifestDigest).toBe(only!.manifest.digest);
  });

  test("by platform, through nested indexes", async () => {
    const [amd64, arm64] = writeLayout(directory, [
      { ...image, architecture: "amd64" },
      { ...image, architecture: "arm64" },
    ]);
    const manifests = [
      { ...amd64!.manifest, platform: { os: "linux", architecture: "amd64" } },
      { ...arm64!.manifest, platform: { os: "linux", architecture: "arm64" } },
    ];
    const inner = writeJson(directory, INDEX, { schemaVersion: 2, mediaType: INDEX, manifests });
    writeIndex(directory, [writeJson(directory, INDEX, { schemaVersion: 2, manifests: [inner] })]);
    expect((await resolve("", "arm64")).manifestDigest).toBe(arm64!.manifest.digest);
    expect((await resolve("", "amd64")).manifestDigest).toBe(amd64!.manifest.digest);
    await expect(resolve("", "riscv64")).rejects.toThrow(
      /has no image for linux\/riscv64, only for linux\/amd64, linux\/arm64/,
    );
  });

  test("by platform, in index.json itself", async () => {
    const built = writeLayout(directory, [
      { ...image, architecture: "amd64" },
      { ...image, architecture: "arm64" },
    ]);
    const [amd64, arm64] = built.map(({ manifest }) => manifest);
    const platform = (architecture: string) => ({ platform: { os: "linux", architecture } });
    // What BuildKit adds beside each image.
    const attestation = { ...amd64!, platform: { os: "unknown", architecture: "unknown" } };
    writeIndex(directory, [
      { ...amd64!, ...platform("amd64") },
      { ...arm64!, ...platform("arm64") },
      attestation,
      attestation,
    ]);
    expect((await resolve("", "arm64")).manifestDigest).toBe(arm64!.digest);
    expect((await resolve("", "amd64")).manifestDigest).toBe(amd64!.digest);
    writeIndex(directory, [
      { ...amd64!, ...platform("amd64") },
      { ...arm64!, ...platform("amd64") },
    ]);
    await expect(resolve()).rejects.toThrow(/has 2 images; choose one/);
  });

  test("an image for another architecture is refused", async () => {
    writeLayout(directory, [{ ...image, architecture: "s390x" }]);
    await expect(resolve()).rejects.toThrow(/is for linux\/s390x, not for linux\/amd64/);
  });
});

describe("bad directories", () => {
  test("no such directory", async () => {
    await expect(resolve("/nowhere")).rejects.toMatchObject({
      kind: "state",
      message: `There is no directory "${directory}/nowhere"; check the path and whether its medium is mounted`,
    });
  });

  test("no layout", async () => {
    await expect(resolve()).rejects.toThrow(
      `"${directory}" is not an OCI image directory: it has no file "oci-layout"`,
    );
    writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
    await expect(resolve()).rejects.toThrow('it has no file "index.json"');
  });

  test("a file instead of a directory", async () => {
    writeFileSync(join(directory, "image.tar"), "");
    await expect(resolve("/image.tar")).rejects.toThrow(
      /a file in its place needs another transport/,
    );
  });

  test("unknown tag", async () => {
    writeLayout(directory, [{ ...image, tag: "v1" }]);
    await expect(resolve(":v9")).rejects.toThrow(/has no tag "v9"; its tags are "v1"/);
  });

  test("index.json is a FIFO, which would block for ever", async () => {
    writeLayout(directory, [image]);
    unlinkSync(join(directory, "index.json"));
    execFileSync("mkfifo", [join(directory, "index.json")]);
    await expect(resolve()).rejects.toThrow(/not a regular file/);
  });

  test("a huge index.json", async () => {
    writeLayout(directory, [image]);
    truncateSync(join(directory, "index.json"), 5 << 20);
    await expect(resolve()).rejects.toThrow(/larger than 4194304 bytes/);
  });

  test("indexes in a circle", async () => {
    writeLayout(directory, [image]);
    let descriptor = writeJson(directory, INDEX, { schemaVersion: 2, manifests: [] });
    for (let depth = 0; depth < 6; depth++) {
      descriptor = writeJson(directory, INDEX, { schemaVersion: 2, manifests: [descriptor] });
    }
    writeIndex(directory, [descriptor]);
    await expect(resolve()).rejects.toThrow(/more than 4 nested indexes/);
  });

  test("a manifest of 5 MB", async () => {
    writeLayout(directory, [image]);
    const bytes = Buffer.alloc(5 << 20, 0x20);
    writeIndex(directory, [
      writeBlob(directory, "application/vnd.oci.image.manifest.v1+json", bytes),
    ]);
    await expect(resolve()).rejects.toThrow(/at most 4194304 are accepted/);
  });

  test("a changed manifest", async () => {
    const [built] = writeLayout(directory, [image]);
    const { digest, size } = built!.manifest;
    writeFileSync(blobFile(directory, digest), Buffer.alloc(size, 0x20));
    await expect(resolve()).rejects.toMatchObject({ kind: "integrity", code: "digest-mismatch" });
  });
});

describe("layers", () => {
  test("are read whole", async () => {
    const [built] = writeLayout(directory, [
      { layers: [{ tar: Buffer.alloc(3 << 20, 7), compression: "none" }] },
    ]);
    expect(await readLayer(built!.layers[0]! as unknown as Descriptor)).toBe(3 << 20);
  });

  test.each<[string, (path: string, size: number) => void, string, RegExp]>([
    [
      "missing",
      (path) => unlinkSync(path),
      "missing-object",
      /^Blob sha256:\w+ of "oci:.*" is missing/,
    ],
    [
      "truncated",
      (path, size) => truncateSync(path, size - 1),
      "size-mismatch",
      /bytes instead of/,
    ],
    ["too long", (path, size) => truncateSync(path, size + 1), "size-mismatch", /bytes instead of/],
    [
      "corrupt",
      (path, size) => writeFileSync(path, Buffer.alloc(size, 1)),
      "digest-mismatch",
      /^Layer sha256:\w+ of "oci:.*" is corrupt/,
    ],
  ])("%s", async (_name, damage, code, message) => {
    const [built] = writeLayout(directory, [image]);
    const layer = built!.layers[0]!;
    damage(blobFile(directory, layer.digest), layer.size);
    const reading = readLayer(layer as unknown as Descriptor);
    await expect(reading).rejects.toMatchObject({ kind: "integrity", code });
    await expect(readLayer(layer as unknown as Descriptor)).rejects.toThrow(message);
  });
});

test.each([
  ["registry", "quay.io/x"],
  ["oci", "/x:v1"],
  ["oci-archive", "/x.tar:v1"],
  ["docker-archive", "/x.tar:quay.io/x:v1"],
  ["docker-daemon", "quay.io/x:v1"],
  ["containers-storage", "[/x]quay.io/x"],
  ["dir", "/x"],
])("transport %s is opened, and nothing is read by that", async (transport, image) => {
  await using source = openSource(makeImageReference(transport, image), "amd64");
  expect(source.name).toContain(image);
});
