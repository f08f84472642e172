import { mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type BuiltImage, blobFile, writeLayout } from "../../test/support/oci-builder.ts";
import { TAR_END } from "../../test/support/tar-builder.ts";
import { openDirSource } from "./dir-source.ts";

let scratch: string;
let directory: string;
let image: BuiltImage;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "dir-"));
  directory = join(scratch, "dir");
  const layout = join(scratch, "layout");
  image = writeLayout(layout, [{ layers: [{ tar: TAR_END }], architecture: "amd64" }])[0]!;
  writeLayout(directory, []);
  const blob = (digest: string) => readFileSync(blobFile(layout, digest));
  writeFileSync(join(directory, "manifest.json"), blob(image.manifest.digest));
  writeFileSync(join(directory, "version"), "Directory Transport Version: 1.1\n");
  for (const { digest } of [image.config, ...image.layers])
    writeFileSync(join(directory, digest.slice(7)), blob(digest));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

async function read(): Promise<string> {
  const source = openDirSource(directory, "amd64");
  const { manifestDigest, manifest } = await source.resolve();
  for await (const chunk of source.openLayer(manifest.layers[0]!, "")) expect(chunk).toBeDefined();
  return manifestDigest;
}

const file = (name: string) => join(directory, name);
const layer = () => file(image.layers[0]!.digest.slice(7));
function editManifest(edit: (manifest: Record<string, unknown>) => void): void {
  const manifest = JSON.parse(readFileSync(file("manifest.json"), "utf8"));
  edit(manifest);
  writeFileSync(file("manifest.json"), JSON.stringify(manifest));
}

test("is read, with and without a version", async () => {
  expect(await read()).toBe(image.manifest.digest);
  unlinkSync(file("version"));
  expect(await read()).toBe(image.manifest.digest);
});

test("a manifest that does not say what it is", async () => {
  editManifest((manifest) => void delete manifest["mediaType"]);
  expect(await read()).toMatch(/^sha256:/);
});

describe("bad directories", () => {
  test.each<[string, () => void, RegExp]>([
    ["missing", () => rmSync(directory, { recursive: true }), /There is no directory ".*\/dir"/],
    ["no manifest", () => unlinkSync(file("manifest.json")), /it has no file "manifest\.json"/],
    ["a layer gone", () => unlinkSync(layer()), /is missing from the directory/],
    ["a layer too short", () => writeFileSync(layer(), "x"), /has 1 bytes instead of/],
    [
      "a changed layer",
      () => writeFileSync(layer(), Buffer.alloc(image.layers[0]!.size)),
      /is corrupt/,
    ],
    [
      "a digest with a path",
      () =>
        editManifest((manifest) => {
          const [first] = manifest["layers"] as { digest: string }[];
          first!.digest = "sha256:../../../etc/passwd";
        }),
      /"layers\.0\.digest": is not a sha256|malformed at "layers\.0\.digest"/,
    ],
    [
      "a manifest that is an index as well (CVE-2021-41190)",
      () => editManifest((manifest) => void (manifest["manifests"] = [])),
      /malformed at "manifests"/,
    ],
    [
      "a manifest of another kind",
      () => editManifest((m) => void (m["mediaType"] = "text/x")),
      /is a "text\/x"/,
    ],
    [
      "a manifest of schema 1",
      () => editManifest((m) => void (m["schemaVersion"] = 1)),
      /malformed at "schemaVersion"/,
    ],
  ])("%s", async (_name, damage, message) => {
    damage();
    await expect(read()).rejects.toThrow(message);
  });
});
