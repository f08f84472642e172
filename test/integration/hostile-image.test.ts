// Images made to break the reader: bombs, lies about digests, smuggling, depth. Each is refused, or comes out as
// what its bytes say; nothing hangs, nothing is left. The table of cases is docs/security.md.

import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { collectGarbage } from "../../shared/store/gc.ts";
import { ensureRepository, type Repository } from "../../shared/store/repository.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { openOciDirectory } from "../../updater/image/oci-directory.ts";
import { pullImage } from "../../updater/image/pull.ts";
import {
  type BuiltImage,
  blobFile,
  type TestLayer,
  writeIndex,
  writeJson,
  writeLayout,
} from "../support/oci-builder.ts";
import { findDamage, listObjects, streamNames } from "../support/repository-listing.ts";
import { makeOs } from "../support/small-os.ts";
import { paxMember, TAR_END, tarMember } from "../support/tar-builder.ts";
import { listTree } from "../support/tree-listing.ts";

let scratch: string;
let layout: string;
let repo: Repository;
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "hostile-"));
  layout = join(scratch, "layout");
  repo = ensureRepository(null, join(scratch, "repo"), { algorithm: "sha512", secure: false });
});
afterEach(() => {
  repo[Symbol.dispose]();
  rmSync(scratch, { recursive: true, force: true });
});

const pull = () => pullImage(repo, openOciDirectory(layout, "amd64"));
const directory = (name: string) => tarMember({ name, type: "5", mode: 0o755 });

/** A bootable image with one more layer on top. */
async function writeWith(layer: TestLayer): Promise<BuiltImage> {
  const os = await makeOs();
  return writeLayout(layout, [{ layers: [...os.layers, layer], architecture: "amd64" }])[0]!;
}

/** Paths and contents in the boot image of what a tar adds to a bootable image. */
async function listAdded(tar: Buffer): Promise<string[]> {
  await writeWith({ tar });
  const { tree } = await makeBootImage(repo, await pull());
  const all = listTree(tree);
  expect(findDamage(repo)).toEqual([]);
  return all.filter((line) => line.startsWith("/new"));
}

async function expectRefused(message: RegExp): Promise<void> {
  await expect(pull()).rejects.toThrow(message);
  collectGarbage(repo, { roots: [], dryRun: false });
  expect(streamNames(repo)).toEqual([]);
  expect(listObjects(repo)).toEqual([]);
}

describe("decompression bombs", () => {
  const zeros = Buffer.alloc(64 << 20);
  // Zeros from the start are an empty archive with a tail, so nothing but the limit ends it.
  test.each<[string, () => Buffer, number]>([
    ["gzip members without end", () => gzipSync(zeros, { level: 9 }), 90],
    ["zstd frames without end", () => zstdCompressSync(zeros), 70],
  ])(
    "%s",
    async (_name, compress, count) => {
      const part = compress();
      const blob = Buffer.concat(Array.from({ length: count }, () => part));
      await writeWith({ tar: TAR_END, blob });
      const before = process.memoryUsage().rss;
      await expectRefused(/unpacks to more than \d{10} bytes/);
      expect(process.memoryUsage().rss - before).toBeLessThan(300 << 20);
    },
    120_000,
  );

  /** A zstd frame header and one empty last block. */
  const frame = (header: string) => Buffer.from(`28b52ffd${header}010000`, "hex");
  test.each([
    ["a zstd frame that wants a window of 2 GiB", frame("00a8")],
    ["a zstd frame that wants a window of 3.75 TiB", frame("00ff")],
    ["a zstd frame in one segment of 1 TiB", frame("e00000000000010000")],
  ])("%s", async (_name, blob) => {
    await writeWith({ tar: TAR_END, blob });
    const before = process.memoryUsage().rss;
    await expectRefused(/is not valid zstd data/);
    expect(process.memoryUsage().rss - before).toBeLessThan(200 << 20);
  });
});

describe("lies about digests", () => {
  const tar = Buffer.concat([tarMember({ name: "new", content: Buffer.alloc(500, "x") }), TAR_END]);

  test("a compressed layer whose diff_id is the digest of its compressed bytes", async () => {
    const blob = gzipSync(tar);
    await writeWith({ tar, blob, diffId: computeDigest(blob) });
    await expectRefused(/unpacks to a tar with digest/);
  });

  test("another image cannot change a layer that is stored", async () => {
    const good = await writeWith({ tar });
    const { deploymentId } = await makeBootImage(repo, await pull());
    // The same diff_id, other bytes: the stored layer is used, the bytes are not.
    const evil = Buffer.concat([tarMember({ name: "evil", content: "x" }), TAR_END]);
    const diffId = good.layers.at(-1)!.diffId;
    const second = await writeWith({ tar: evil, diffId });
    const again = await makeBootImage(repo, await pull());
    expect(second.manifest.digest).not.toBe(good.manifest.digest);
    expect(again.deploymentId).toBe(deploymentId);
    expect(listTree(again.tree).filter((line) => line.includes("evil"))).toEqual([]);
    expect(findDamage(repo)).toEqual([]);
  });

  test("the name of an image is not its identity: a moved tag is another image", async () => {
    await writeWith({ tar });
    const first = await pull();
    await writeWith({ tar: TAR_END });
    const second = await pull();
    expect(second.manifestDigest).not.toBe(first.manifestDigest);
    expect(second.configDigest).not.toBe(first.configDigest);
  });

  test("a layer with foreign urls is read from the medium or not at all", async () => {
    const built = await writeWith({ tar });
    const { digest, size, mediaType } = built.layers.at(-1)!;
    const layers = built.layers.map(({ diffId: _, ...layer }) => layer);
    layers[layers.length - 1] = {
      ...{ digest, size, mediaType },
      ...{ urls: ["http://127.0.0.1:9/layer"] },
    };
    const type = "application/vnd.oci.image.manifest.v1+json";
    const { config } = built;
    const manifest = { schemaVersion: 2, mediaType: type, config, layers };
    writeIndex(layout, [writeJson(layout, type, manifest)]);
    await pull();
    unlinkSync(blobFile(layout, digest));
    repo[Symbol.dispose]();
    repo = ensureRepository(null, join(scratch, "other"), { algorithm: "sha512", secure: false });
    await expectRefused(/is missing from the directory/);
  });
});

describe("archives that two readers could read differently", () => {
  test("an archive inside a file stays inside, whichever size counts", async () => {
    const inner = Buffer.concat([tarMember({ name: "new-smuggled", content: "x" }), TAR_END]);
    const smuggler = Buffer.concat([
      paxMember([["size", String(inner.length)]]),
      tarMember({ name: "new-outer", sizeBytes: 0, content: inner }),
      tarMember({ name: "new-after", content: "after" }),
      TAR_END,
    ]);
    expect(await listAdded(smuggler)).toEqual([
      '/new-after "after"',
      `/new-outer ${inner.length} bytes`,
    ]);
  });

  test("of entries with one name the last counts, in every way they can differ", async () => {
    const twice = Buffer.concat([
      tarMember({ name: "new", content: "first" }),
      tarMember({ name: "./new", type: "2", linkName: "/etc/passwd" }),
      tarMember({ name: "/new", content: "last" }),
      directory("new-d"),
      tarMember({ name: "new-d/x", content: "x" }),
      tarMember({ name: "new-d", type: "2", linkName: "/etc" }),
      TAR_END,
    ]);
    expect(await listAdded(twice)).toEqual(['/new "last"', "/new-d -> /etc"]);
  });

  test("names that are not UTF-8 are kept, byte for byte", async () => {
    const odd = Buffer.from("new-\xff\xfe\xc3\x28", "latin1");
    const tar = Buffer.concat([tarMember({ name: odd, content: "x" }), TAR_END]);
    expect(await listAdded(tar)).toEqual([`/${odd.toString("latin1")} "x"`]);
  });
});

describe("too much of something", () => {
  test("a path as deep as paths can be", async () => {
    const parts: Buffer[] = [];
    for (let depth = 1; depth <= 2000; depth++) {
      parts.push(paxMember([["path", `new${"/d".repeat(depth - 1)}`]]), directory("x"));
    }
    const added = await listAdded(Buffer.concat([...parts, TAR_END]));
    expect(added).toHaveLength(2000);
    expect(added.at(-1)).toBe(`/new${"/d".repeat(1999)} dir`);
  });

  test("a path deeper than that", async () => {
    const deep = paxMember([["path", `${"d/".repeat(2047)}new`]]);
    await writeWith({ tar: Buffer.concat([deep, tarMember({ name: "x" }), TAR_END]) });
    await expectRefused(/cannot be read/);
  });

  test("extended attributes without end", async () => {
    const many = Array.from({ length: 20 }, (_, i) =>
      paxMember([[`SCHILY.xattr.user.${i}`, Buffer.alloc(60_000)]]),
    );
    await writeWith({ tar: Buffer.concat([...many, tarMember({ name: "new" }), TAR_END]) });
    await expectRefused(/cannot be read/);
  });

  test("more layers than a manifest may have", async () => {
    const built = await writeWith({ tar: TAR_END });
    const type = "application/vnd.oci.image.manifest.v1+json";
    const [layer] = built.layers;
    const layers = Array.from({ length: 5000 }, () => layer);
    const { config } = built;
    writeIndex(layout, [writeJson(layout, type, { schemaVersion: 2, config, layers })]);
    await expectRefused(/malformed at "layers"/);
  });
});
