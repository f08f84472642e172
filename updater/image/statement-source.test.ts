// Which statements are found beside an image, whatever else somebody put there.

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { IntegrityError, RegistryError } from "../../shared/error.ts";
import {
  type TestDescriptor,
  writeBlob,
  writeIndex,
  writeJson,
  writeLayout,
} from "../../test/support/oci-builder.ts";
import type { Artifact, ArtifactSource } from "./artifact-source.ts";
import type { ImageSource, ResolvedImage } from "./resolved-image.ts";
import { openSource } from "./source.ts";
import {
  addStatements,
  readStatements,
  STATEMENT_ANNOTATION,
  STATEMENT_TYPE,
} from "./statement-source.ts";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_DIGEST = `sha256:${"1".repeat(64)}`;
const digestOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;
const layerOf = (text: string, mediaType = STATEMENT_TYPE) => ({
  mediaType,
  digest: digestOf(text),
  size: text.length,
});

function makeImage(annotation?: string): ResolvedImage {
  const annotations = annotation === undefined ? {} : { [STATEMENT_ANNOTATION]: annotation };
  const manifest = { annotations } as unknown as ResolvedImage["manifest"];
  return { manifestDigest: IMAGE_DIGEST, manifest } as ResolvedImage;
}

/** One artifact for each list of layers; a manifest may also be any text. */
function makeSource(
  manifests: readonly (readonly string[] | string)[],
  types: readonly unknown[] = [],
): { source: ImageSource; asked: string[] } {
  const asked: string[] = [];
  const artifacts: ArtifactSource = {
    async *readArtifacts(digest, isWanted) {
      asked.push(digest);
      for (const [index, layers] of manifests.entries()) {
        if (!isWanted(types[index] ?? STATEMENT_TYPE)) continue;
        yield makeArtifact(layers, `artifact ${index}`);
      }
    },
  };
  return { source: { name: "x:y", artifacts } as ImageSource, asked };
}

function makeArtifact(layers: readonly string[] | string, where: string): Artifact {
  const text =
    typeof layers === "string"
      ? layers
      : JSON.stringify({ layers: layers.map((each) => layerOf(each)) });
  return {
    manifestBytes: Buffer.from(text),
    where,
    readLayer: async ({ digest }) => {
      const found = typeof layers === "string" ? [] : layers.filter((x) => digestOf(x) === digest);
      if (found[0] === undefined || found[0] === "broken") {
        throw new IntegrityError("digest-mismatch", "broken");
      }
      return Buffer.from(found[0]);
    },
  };
}

async function find(source: ImageSource, image = makeImage()): Promise<readonly string[]> {
  const { statements } = await addStatements(source, image);
  return statements.documents.map((bytes) => Buffer.from(bytes).toString());
}

test("the annotation comes first, and nothing is asked for until more is wanted", async () => {
  const { source, asked } = makeSource([["b"], ["c", "d"]]);
  for await (const { document, where } of readStatements(source, makeImage("a"))) {
    expect(Buffer.from(document).toString()).toBe("a");
    expect(where).toBe('the manifest of "x:y"');
    break;
  }
  expect(asked).toEqual([]);
  expect(await find(source, makeImage("a"))).toEqual(["a", "b", "c", "d"]);
  expect(asked).toEqual([IMAGE_DIGEST]);
});

test("transports without artifacts", async () => {
  expect(await find({ name: "dir:x" } as ImageSource, makeImage("a"))).toEqual(["a"]);
  expect(await find({ name: "dir:x" } as ImageSource)).toEqual([]);
});

test("what is broken or too large does not hide the others", async () => {
  const big = "x".repeat(8193);
  const many = JSON.stringify({ layers: Array.from({ length: 129 }, () => layerOf("y")) });
  const { source } = makeSource([
    ...["", "[]", '{"layers":[{}]}', '{"layers":null}', "{}", many],
    ...[[big], ["broken"], [], ["x".repeat(8192)], ["good"]],
  ]);
  expect(await find(source, makeImage(big))).toEqual(["x".repeat(8192), "good"]);
});

test("layers of other types are none", async () => {
  const layers = [layerOf("a", "application/json"), layerOf("b", `${STATEMENT_TYPE}+x`)];
  expect(await find(makeSource([JSON.stringify({ layers })]).source)).toEqual([]);
});

test("types that lists give artifacts", async () => {
  const types = ["", "application/vnd.oci.empty.v1+json", 7, "application/vnd.x", STATEMENT_TYPE];
  const { source } = makeSource([["a"], ["b"], ["c"], ["d"], ["e"]], types);
  expect(await find(source)).toEqual(["a", "b", "c", "e"]);
});

test("sixteen are enough", async () => {
  const all = Array.from({ length: 40 }, (_, index) => [`statement ${index}`]);
  expect(await find(makeSource(all).source, makeImage("first"))).toHaveLength(16);
});

test("a registry that does not answer: the annotation counts, and the rest is told as missing", async () => {
  const artifacts: ArtifactSource = {
    // biome-ignore lint/correctness/useYield: it fails before.
    async *readArtifacts() {
      throw new RegistryError("unavailable", "gone");
    },
  };
  const source = { name: "x:y", artifacts } as unknown as ImageSource;
  const { statements } = await addStatements(source, makeImage("a"));
  expect(statements.documents.map((bytes) => Buffer.from(bytes).toString())).toEqual(["a"]);
  expect(statements.gap).toBe('not all statements of "x:y" could be looked for (gone)');
  const asking = async () => {
    for await (const _ of readStatements(source, makeImage("a")));
  };
  await expect(asking()).rejects.toThrow("gone");
});

test("a layer that the registry does not give does not hide the others, and is told", async () => {
  const good = makeArtifact(["good"], "good");
  const failWith = (error: Error): Artifact => ({
    ...makeArtifact(["bad"], "bad"),
    readLayer: () => Promise.reject(error),
  });
  const read = async (...artifacts: readonly Artifact[]) => {
    const all: ArtifactSource = {
      async *readArtifacts() {
        yield* artifacts;
      },
    };
    const { statements } = await addStatements({ name: "x:y", artifacts: all }, makeImage());
    return [statements.documents.length, statements.gap];
  };
  const refused = failWith(new RegistryError("unauthorized", "wants other credentials"));
  expect(await read(good, good)).toEqual([2, null]);
  expect(await read(refused, good)).toEqual([
    1,
    'not all statements of "x:y" could be looked for (wants other credentials)',
  ]);
  // Asked often enough already: not for 64 artifacts, one after the other.
  const overloaded = failWith(new RegistryError("unavailable", "cannot answer"));
  expect(await read(good, overloaded, good)).toEqual([1, expect.stringContaining("cannot answer")]);
  await expect(read(failWith(new Error("of the disk")))).rejects.toThrow("of the disk");
});

test("what was looked for is not looked for again", async () => {
  const { source, asked } = makeSource([["a"]]);
  const once = await addStatements(source, makeImage());
  expect((await addStatements(source, once)).statements).toBe(once.statements);
  expect(asked).toHaveLength(1);
});

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "statements-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function writeArtifact(text: string, subject: TestDescriptor, ...rest: readonly object[]) {
  const layer = writeBlob(directory, STATEMENT_TYPE, Buffer.from(text));
  const value = { schemaVersion: 2, layers: [layer], subject };
  return Object.assign(writeJson(directory, MANIFEST_TYPE, value), ...rest);
}

test("a layout: what refers to this image counts, and only that", async () => {
  const [one, two] = writeLayout(directory, [
    { tag: "one", layers: [{ tar: Buffer.alloc(1024) }] },
    { tag: "two", layers: [{ tar: Buffer.alloc(2048) }] },
  ]);
  const typed = { artifactType: STATEMENT_TYPE };
  writeIndex(directory, [
    one!.manifest,
    two!.manifest,
    writeArtifact("of one", one!.manifest, typed),
    writeArtifact("of one, no type", one!.manifest),
    writeArtifact("of two", two!.manifest, typed),
    writeArtifact("another kind", one!.manifest, { artifactType: "application/vnd.x" }),
    // Larger than any manifest: not even opened.
    { ...writeArtifact("huge", one!.manifest, typed), size: 5 << 20 },
  ]);
  for (const [tag, expected] of [
    ["one", ["of one", "of one, no type"]],
    ["two", ["of two"]],
  ] as const) {
    await using source = openSource({ transport: "oci", image: `${directory}:${tag}` });
    expect(await find(source, await source.resolve())).toEqual(expected);
  }
});

test("a layout with one image and artifacts has one image; artifacts can be named all the same", async () => {
  const [one] = writeLayout(directory, [{ layers: [{ tar: Buffer.alloc(1024) }] }]);
  const artifact = writeArtifact("x", one!.manifest, { artifactType: STATEMENT_TYPE });
  writeIndex(directory, [artifact, one!.manifest]);
  await using source = openSource({ transport: "oci", image: directory });
  expect((await source.resolve()).manifestDigest).toBe(one!.manifest.digest);
  await using second = openSource({ transport: "oci", image: `${directory}:@1` });
  expect((await second.resolve()).manifestDigest).toBe(one!.manifest.digest);
});
