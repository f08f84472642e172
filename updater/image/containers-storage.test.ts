// A damaged or hostile containers-storage: nothing outside a layer's own directory is read, nothing blocks.

import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { type BuiltStorage, writeStorage } from "../../test/support/storage-builder.ts";
import { TAR_END, tarMember } from "../../test/support/tar-builder.ts";
import { openContainersStorage } from "./containers-storage.ts";

const NAME = "example.com/os:v1";
const lower = Buffer.concat([
  tarMember({ name: "usr", type: "5" }),
  tarMember({ name: "usr/a", content: Buffer.alloc(600, "a") }),
  tarMember({ name: "b", content: "b" }),
  TAR_END,
]);
const upper = Buffer.concat([tarMember({ name: ".wh.b" }), TAR_END]);
let scratch: string;
let storage: BuiltStorage;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "storage-"));
  storage = writeStorage(join(scratch, "g"), NAME, [lower, upper]);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const open = (name = NAME, driver = "overlay") =>
  openContainersStorage(`[${driver}@${storage.graphRoot}]${name}`, "amd64");
const inGraph = (path: string) => join(storage.graphRoot, path);
const diff = (path: string) => inGraph(`overlay/${storage.layers[0]!.id}/diff/${path}`);

async function readLower(): Promise<string> {
  const source = open();
  const { manifest, config } = await source.resolve();
  const parts: Uint8Array[] = [];
  const [layer, diffId] = [manifest.layers[0]!, config.rootfs.diff_ids[0]!];
  for await (const part of source.openLayer(layer, diffId)) parts.push(part);
  return computeDigest(Buffer.concat(parts));
}

function editJson(path: string, edit: (value: Record<string, unknown>[]) => void): void {
  const value = JSON.parse(readFileSync(inGraph(path), "utf8"));
  edit(value);
  writeFileSync(inGraph(path), JSON.stringify(value));
}

test("as it was written, it is read", async () => {
  expect(await readLower()).toBe(storage.layers[0]!.diffId);
  expect((await open().resolve()).manifestDigest).toBe(storage.manifestDigest);
});

describe("files of a layer", () => {
  test.each<[string, () => void, RegExp]>([
    ["gone", () => unlinkSync(diff("usr/a")), /"usr\/a" of layer sha256.* is not in the storage/],
    ["shorter", () => truncateSync(diff("usr/a"), 10), /does not have the 600 bytes/],
    ["longer", () => truncateSync(diff("usr/a"), 5_000_000), /does not have the 600 bytes/],
    ["changed", () => writeFileSync(diff("usr/a"), Buffer.alloc(600, "A")), /is corrupt/],
    [
      "a symlink out of the layer",
      () => {
        writeFileSync(join(scratch, "secret"), Buffer.alloc(600, "a"));
        unlinkSync(diff("usr/a"));
        symlinkSync(join(scratch, "secret"), diff("usr/a"));
      },
      /is no regular file/,
    ],
    [
      "behind a symlink",
      () => {
        renameSync(diff("usr"), join(scratch, "usr"));
        symlinkSync(join(scratch, "usr"), diff("usr"));
      },
      /is no regular file/,
    ],
    [
      "a FIFO",
      () => {
        unlinkSync(diff("usr/a"));
        execFileSync("mkfifo", [diff("usr/a")]);
      },
      /is no regular file/,
    ],
  ])("%s", async (_name, damage, message) => {
    damage();
    await expect(readLower()).rejects.toThrow(message);
  });
});

describe("tar-split data", () => {
  const line = (value: object) => `${JSON.stringify(value)}\n`;
  test.each<[string, string | Buffer, RegExp]>([
    ["a path with ..", line({ type: 1, name: "../../secret", size: 3 }), /contains "\.\."/],
    ["an absolute path", line({ type: 1, name: "/etc/hostname", size: 3 }), /"\/etc\/hostname" of/],
    ["not JSON", "x\n", /not JSON/],
    ["another tar", line({ type: 2, payload: "AAAA" }), /is corrupt/],
  ])("%s", async (_name, text, message) => {
    const path = inGraph(`overlay-layers/${storage.layers[0]!.id}.tar-split.gz`);
    writeFileSync(path, gzipSync(text));
    await expect(readLower()).rejects.toThrow(message);
  });

  test("not there", async () => {
    unlinkSync(inGraph(`overlay-layers/${storage.layers[0]!.id}.tar-split.gz`));
    await expect(readLower()).rejects.toThrow(/cannot be read in place.*skopeo copy/);
  });
});

describe("records", () => {
  test.each<[string, () => void, RegExp]>([
    ["no JSON", () => writeFileSync(inGraph("overlay-images/images.json"), "{"), /is not JSON/],
    [
      "an image id with a path",
      () => editJson("overlay-images/images.json", ([image]) => void (image!["id"] = "../../x")),
      /images\.json" is malformed at "0\.id"/,
    ],
    [
      "a layer id with a path",
      () => editJson("overlay-layers/layers.json", ([layer]) => void (layer!["id"] = "../x")),
      /layers\.json" is malformed at "0\.id"/,
    ],
    [
      "a layer that is gone",
      () => editJson("overlay-layers/layers.json", (layers) => void layers.shift()),
      /layer "[0-9a-f]+" is not in the storage/,
    ],
    [
      "a layer that is its own parent",
      () =>
        editJson("overlay-layers/layers.json", ([layer]) => void (layer!["parent"] = layer!["id"])),
      /not those of its config/,
    ],
    [
      "a layer too few",
      () => editJson("overlay-layers/layers.json", ([, layer]) => void delete layer!["parent"]),
      /not those of its config/,
    ],
    [
      "another layer",
      () =>
        editJson("overlay-layers/layers.json", ([layer]) => {
          layer!["diff-digest"] = storage.layers[1]!.diffId;
        }),
      /not those of its config/,
    ],
    [
      "a layer that was never finished",
      () =>
        editJson(
          "overlay-layers/layers.json",
          ([layer]) => void (layer!["flags"] = { incomplete: true }),
        ),
      /is not complete/,
    ],
    [
      "a manifest that is gone",
      () => unlinkSync(inGraph(`overlay-images/${storage.imageId}/manifest`)),
      /The manifest of ".*" is not in the storage/,
    ],
    [
      "a changed config",
      () => {
        const key = Buffer.from(`sha256:${storage.imageId}`).toString("base64");
        writeFileSync(inGraph(`overlay-images/${storage.imageId}/=${key}`), "{}");
      },
      /Config sha256:.* is corrupt|cut short/,
    ],
    [
      "layers kept as composefs",
      () => mkdirSync(inGraph(`overlay/${storage.layers[0]!.id}/composefs-data`)),
      /kept as composefs/,
    ],
  ])("%s", async (_name, damage, message) => {
    damage();
    await expect(readLower()).rejects.toThrow(message);
  });
});

describe("choosing", () => {
  test.each<[string, RegExp]>([
    ["example.com/os:v2", /no image .*os:v2"; there are "example\.com\/os:v1"/],
    ["os:v1", /there are "example\.com\/os:v1"/],
    [`example.com/other@sha256:${"0".repeat(64)}`, /there are/],
    ["0".repeat(64), /there are/],
  ])("%s", async (name, message) => {
    await expect(open(name).resolve()).rejects.toThrow(message);
  });

  test("the beginning of an id, unless two begin so", async () => {
    const short = storage.imageId.slice(0, 5);
    expect((await open(short).resolve()).manifestDigest).toBe(storage.manifestDigest);
    editJson("overlay-images/images.json", (images) => {
      images.push({ ...images[0], id: short.padEnd(64, "0"), names: null });
    });
    await expect(open(short).resolve()).rejects.toThrow(/more than one image/);
  });

  test("a driver that cannot be read in place", async () => {
    await expect(open(NAME, "btrfs").resolve()).rejects.toThrow(/has driver "btrfs".*skopeo copy/);
  });

  test("no storage", async () => {
    rmSync(storage.graphRoot, { recursive: true });
    await expect(open().resolve()).rejects.toThrow(/no containers-storage with images in/);
  });
});
