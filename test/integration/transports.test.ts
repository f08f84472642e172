// One image through every transport, as the real tools write it: the same deployment and the same streams.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildExecutable } from "../../scripts/build.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { streamObject } from "../../shared/store/streams.ts";
import { O } from "../../shared/sys/constants.ts";
import { openat } from "../../shared/sys/file.ts";
import { lockFile } from "../../shared/sys/range-lock.ts";
import { makeBootImage } from "../../updater/image/boot-image.ts";
import { openContainersStorage } from "../../updater/image/containers-storage.ts";
import { openDockerDaemon } from "../../updater/image/docker-daemon.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { parseTransportReference } from "../../updater/image/reference.ts";
import type { ImageSource } from "../../updater/image/resolved-image.ts";
import { openSource } from "../../updater/image/source.ts";
import { startDockerDaemon } from "../support/docker-daemon.ts";
import { ensureImageTools, runImageTool } from "../support/image-tools.ts";
import { type BuiltImage, writeIndex, writeJson, writeLayout } from "../support/oci-builder.ts";
import { runInstall } from "../support/program-host.ts";
import { startRegistry } from "../support/registry-server.ts";
import { findDamage, rebuildTar } from "../support/repository-listing.ts";
import { makeTransportImage } from "../support/transport-image.ts";

const ARCHITECTURE = hostArchitecture();
const NAME = "example.com/os:v1";
const CHUNKED = "io.github.containers.zstd-chunked.manifest-checksum";
const INDEX = "application/vnd.oci.image.index.v1+json";
const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
let scratch: string;
let built: BuiltImage;
let reference: Imported;

interface Imported {
  readonly deploymentId: string;
  readonly manifestDigest: string;
  /** Splitstreams of the layers. */
  readonly streams: readonly string[];
}

const at = (path: string): string => join(scratch, path);
const skopeo = (...args: string[]) => runImageTool(["skopeo", "--insecure-policy", ...args]);
const copy = (from: string, to: string, ...options: string[]) =>
  skopeo("copy", "-q", ...options, from, to);
const storeOf = (driver: string) => `[${driver}@${at(`${driver}/g`)}+${at(`${driver}/r`)}]`;
const podman = (...args: string[]) =>
  runImageTool([
    ...["podman", "--root", at("overlay/g"), "--runroot", at("overlay/r")],
    ...["--storage-driver", "overlay", ...args],
  ]);

async function importFrom(source: ImageSource): Promise<Imported> {
  const path = mkdtempSync(at("repo-"));
  try {
    using repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
    const pulled = await pullImage(repo, source);
    const { deploymentId } = await makeBootImage(repo, pulled);
    const diffIds = pulled.config.rootfs.diff_ids;
    for (const diffId of diffIds)
      expect(computeDigest(await rebuildTar(repo, diffId))).toBe(diffId);
    expect(findDamage(repo)).toEqual([]);
    const streams = diffIds.map((diffId) => streamObject(repo, `oci-layer-${diffId}`)!);
    return { deploymentId, manifestDigest: pulled.manifestDigest, streams };
  } finally {
    await source[Symbol.asyncDispose]?.();
    rmSync(path, { recursive: true, force: true });
  }
}

const importReference = (text: string) => importFrom(openSource(parseTransportReference(text)));

async function inspectDigest(text: string, ...options: string[]): Promise<string> {
  return JSON.parse(await skopeo("inspect", ...options, text)).Digest;
}

/** Reads the tars of all layers as `repair` does. */
async function readTars(source: ImageSource): Promise<string[]> {
  const { manifest, config } = await source.resolve();
  const digests: string[] = [];
  for (const [i, layer] of manifest.layers.entries()) {
    const parts: Uint8Array[] = [];
    const chunks = source.openLayer(layer, config.rootfs.diff_ids[i]!);
    for await (const chunk of chunks) parts.push(chunk);
    digests.push(computeDigest(Buffer.concat(parts)));
  }
  return digests;
}

describe.skipIf(notRoot !== "")(`transports${notRoot}`, () => {
  beforeAll(async () => {
    await ensureImageTools();
    scratch = mkdtempSync(join(tmpdir(), "transports-"));
    [built] = writeLayout(at("oci"), [await makeTransportImage("v1")]) as [BuiltImage];
    reference = await importReference(`oci:${at("oci")}:v1`);
    for (const driver of ["overlay", "vfs"]) {
      await copy(`oci:${at("oci")}:v1`, `containers-storage:${storeOf(driver)}${NAME}`);
    }
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  /** The same content; the manifest is the one skopeo shows. */
  async function expectSame(text: string): Promise<void> {
    const imported = await importReference(text);
    expect(imported).toMatchObject({
      deploymentId: reference.deploymentId,
      streams: reference.streams,
    });
    expect(imported.manifestDigest).toBe(await inspectDigest(text));
  }

  describe("written by skopeo", () => {
    const force = (format: string) =>
      [
        "--dest-compress",
        "--dest-compress-format",
        format,
        "--dest-force-compress-format",
      ] as const;
    test.each<[string, string, readonly string[], readonly string[]]>([
      ["oci-archive", "oci-archive:a.tar:v1", [], ["+gzip"]],
      ["oci-archive with a long name", "oci-archive:b.tar:example.com/os:v1", [], ["+gzip"]],
      ["oci, zstd", "oci:zstd:v1", force("zstd"), ["+zstd"]],
      ["oci-archive, zstd:chunked", "oci-archive:chunked.tar:v1", force("zstd:chunked"), ["+zstd"]],
      ["docker-archive", `docker-archive:c.tar:${NAME}`, [], [".gzip"]],
      ["dir", "dir:d", [], ["+gzip", ""]],
      ["dir, uncompressed", "dir:e", ["--dest-decompress"], [""]],
      ["dir, Docker's media types", "dir:f", ["--format", "v2s2"], [".gzip", ""]],
    ])("%s", async (_name, text, options, compressions) => {
      const [, transport, rest] = /^([^:]+):(.*)$/.exec(text)!;
      const target = `${transport}:${at(rest!)}`;
      await copy(`oci:${at("oci")}:v1`, target, ...options);
      await expectSame(target);
      const { manifest } = await openSource(parseTransportReference(target)).resolve();
      const types = manifest.layers.map(({ mediaType }) => mediaType.replace(/^.*\.tar/, ""));
      expect([...new Set(types)]).toEqual(compressions);
      const chunked = manifest.layers.filter(({ annotations }) => annotations?.[CHUNKED]);
      expect(chunked).toHaveLength(text.includes("chunked") ? types.length : 0);
    });

    test("several in a docker-archive: by name, by number, and the only one of an archive", async () => {
      const archive = at("several.tar");
      await copy(
        `oci:${at("oci")}:v1`,
        `docker-archive:${archive}:${NAME}`,
        "--additional-tag",
        "example.com/other:v2",
      );
      for (const suffix of ["", `:${NAME}`, ":example.com/other:v2", ":@0"]) {
        await expectSame(`docker-archive:${archive}${suffix}`);
      }
    });

    test.each([
      ["gzip", "gz"],
      ["zstd", "zst"],
    ])("an archive packed by %s", async (program, end) => {
      const archive = at(`packed-${program}.tar`);
      await copy(`oci:${at("oci")}:v1`, `oci-archive:${archive}:v1`);
      await runImageTool([program, "-q", "-k", archive]);
      await expectSame(`oci-archive:${archive}.${end}:v1`);
    });

    test("an index for several machines", async () => {
      const image = await makeTransportImage("v1");
      const foreign = writeLayout(at("index"), [{ ...image, architecture: "s390x" }])[0]!;
      writeLayout(at("index"), [image]);
      const platform = (architecture: string) => ({ os: "linux", architecture });
      const manifests = [
        { ...foreign.manifest, platform: platform("s390x") },
        { ...built.manifest, platform: platform(ARCHITECTURE) },
      ];
      const index = writeJson(at("index"), INDEX, {
        schemaVersion: 2,
        mediaType: INDEX,
        manifests,
      });
      writeIndex(at("index"), [index]);
      for (const target of [`oci-archive:${at("index.tar")}:v1`, `dir:${at("index-dir")}`]) {
        await copy(`oci:${at("index")}`, target, "--all", "--preserve-digests");
        const imported = await importReference(target);
        expect(imported).toEqual({ ...reference, manifestDigest: built.manifest.digest });
      }
    });
  });

  describe("containers-storage", () => {
    test.each(["overlay", "vfs"])("%s, in place", async (driver) => {
      await expectSame(`containers-storage:${storeOf(driver)}${NAME}`);
    });

    test("by id, short id, digest, and without naming the driver", async () => {
      const id = built.config.digest.slice(7);
      const root = at("vfs/g");
      for (const name of [
        id,
        id.slice(0, 12),
        `example.com/os@${built.manifest.digest}`,
        `${NAME}@${id}`,
      ]) {
        const imported = await importReference(`containers-storage:[${root}]${name}`);
        expect(imported).toEqual({ ...reference, manifestDigest: built.manifest.digest });
      }
    });

    test("an image that buildah made there", async () => {
      const args = ["--root", at("overlay/g"), "--runroot", at("overlay/r")];
      const buildah = (...words: string[]) =>
        runImageTool(["buildah", ...args, "--storage-driver", "overlay", ...words]);
      const container = (await buildah("from", NAME)).trim();
      writeFileSync(at("added"), Buffer.alloc(9000, "added"));
      await buildah("copy", container, at("added"), "/usr/lib/added");
      await buildah("commit", "-q", "--format", "oci", container, "example.com/built:v1");
      await buildah("rm", container);
      const text = `containers-storage:${storeOf("overlay")}example.com/built:v1`;
      const inPlace = await importReference(text);
      await copy(text, `oci:${at("built")}:v1`);
      const copied = await importReference(`oci:${at("built")}:v1`);
      expect(inPlace.deploymentId).toBe(copied.deploymentId);
      expect(inPlace.deploymentId).not.toBe(reference.deploymentId);
      expect(inPlace.streams).toEqual(copied.streams);
    });

    test.each(["docker-archive", "oci-archive", "docker-dir", "oci-dir"])(
      "podman save --format %s",
      async (format) => {
        const path = at(`saved-${format}`);
        await podman("save", "-q", "--format", format, "-o", path, NAME);
        const transport = { "docker-dir": "dir", "oci-dir": "oci" }[format] ?? format;
        await expectSame(`${transport}:${path}`);
      },
    );

    test("layers that podman fetched in parts (zstd:chunked)", async () => {
      await using registry = await startRegistry({ directory: at("registry"), name: "plain" });
      // podman's own reader refuses names that are not UTF-8 here.
      const image = await makeTransportImage("v1", "plain name");
      const [whole] = writeLayout(at("plain"), [image]) as [BuiltImage];
      const name = `127.0.0.1:${registry.port}/os:v1`;
      const chunked = ["--dest-compress-format", "zstd:chunked", "--dest-force-compress-format"];
      const push = ["--dest-tls-verify=false", ...chunked];
      await copy(`oci:${at("plain")}:v1`, `docker://${name}`, ...push);
      writeFileSync(at("policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
      writeFileSync(
        at("parts.conf"),
        `[storage]\ndriver = "overlay"\ngraphroot = "${at("parts/g")}"\nrunroot = "${at("parts/r")}"\n` +
          '[storage.options.pull_options]\nenable_partial_images = "true"\n',
      );
      const argv = ["podman", "--log-level=debug", "pull", "--tls-verify=false"];
      const said: string[] = [];
      await runImageTool([...argv, "--signature-policy", at("policy.json"), name], {
        env: { CONTAINERS_STORAGE_CONF: at("parts.conf") },
        onLine: (line) => said.push(line),
      });
      const parts = said.filter((line) => line.includes("Retrieved partial blob"));
      expect(parts).toHaveLength(image.layers.length);
      const inPlace = await importReference(`containers-storage:[${at("parts/g")}]${name}`);
      const expected = await importReference(`oci:${at("plain")}:v1`);
      expect(inPlace).toMatchObject({
        deploymentId: expected.deploymentId,
        streams: expected.streams,
      });
      expect(expected.manifestDigest).toBe(whole.manifest.digest);
    });

    test("a list of images that podman made", async () => {
      const list = "example.com/list:v1";
      await podman("manifest", "create", list, `containers-storage:${NAME}`);
      const imported = await importReference(`containers-storage:${storeOf("overlay")}${list}`);
      expect(imported).toEqual({ ...reference, manifestDigest: built.manifest.digest });
    });

    test("storage.conf: the default place, and additional image stores", async () => {
      const root = at("machine");
      mkdirSync(join(root, "etc/containers/storage.conf.d"), { recursive: true });
      const place = { root, environment: {}, userId: 0 };
      const open = (name: string) => openContainersStorage(name, ARCHITECTURE, place);
      const conf = (text: string, name = "storage.conf") =>
        writeFileSync(join(root, "etc/containers", name), text);
      conf(`[storage]\ndriver = "overlay"\ngraphroot = "${at("overlay/g")}"\n`);
      expect((await open(NAME).resolve()).manifestDigest).toBe(built.manifest.digest);
      conf(`[storage]\ngraphroot = "${at("nowhere")}"\n`);
      const stores = `[storage.options]\nadditionalimagestores = ["${at("vfs/g")}"]\n`;
      conf(stores, "storage.conf.d/50-more.conf");
      expect(await importFrom(open(NAME))).toEqual({
        ...reference,
        manifestDigest: built.manifest.digest,
      });
    });

    test("the tar can also be read whole", async () => {
      const source = openSource(
        parseTransportReference(`containers-storage:${storeOf("overlay")}${NAME}`),
      );
      expect(await readTars(source)).toEqual(built.layers.map(({ diffId }) => diffId));
    });

    test("signatures are found there as in a directory", async () => {
      writeFileSync(at("passphrase"), "x\n");
      const secret = ["--passphrase-file", at("passphrase")];
      await runImageTool([
        "skopeo",
        "generate-sigstore-key",
        "--output-prefix",
        at("key"),
        ...secret,
      ]);
      const sign = [
        ...["--sign-by-sigstore-private-key", at("key.private")],
        ...["--sign-passphrase-file", at("passphrase"), "--sign-identity", NAME],
      ];
      const stored = `containers-storage:${storeOf("vfs")}example.com/signed:v1`;
      const payloads: string[] = [];
      for (const target of [`dir:${at("signed")}`, stored]) {
        await copy(`oci:${at("oci")}:v1`, target, ...sign);
        const source = openSource(parseTransportReference(target));
        const { manifestDigest } = await source.resolve();
        const wanted = { simple: true, sigstore: true };
        for await (const found of source.signatures!.readSignatures(manifestDigest, wanted)) {
          expect(found.kind).toBe("attachment");
          if (found.kind === "attachment") payloads.push(Buffer.from(found.payload).toString());
        }
      }
      expect(payloads).toHaveLength(2);
      for (const payload of payloads) expect(payload).toContain(built.manifest.digest);
    });

    test("takes part in the storage's locks", async () => {
      const lock = (kind: string) => openat(null, at(`vfs/g/vfs-${kind}/${kind}.lock`), O.RDWR);
      const source = openContainersStorage(`${storeOf("vfs")}${NAME}`, ARCHITECTURE);
      let resolved = false;
      const writer = lock("images");
      expect(lockFile(writer, "exclusive", { wait: false })).toBe(true);
      const resolving = source.resolve().then((image) => {
        resolved = true;
        return image;
      });
      // Longer than it takes without the lock.
      const { promise, resolve } = Promise.withResolvers<void>();
      setTimeout(resolve, 400);
      await promise;
      expect(resolved).toBe(false);
      writer.close();
      const { manifest, config } = await resolving;

      using layers = lock("layers");
      const pieces = source.openPieces!(manifest.layers[0]!, config.rootfs.diff_ids[0]!);
      const iterator = pieces[Symbol.asyncIterator]();
      await iterator.next();
      expect(lockFile(layers, "exclusive", { wait: false })).toBe(false);
      expect(lockFile(layers, "shared", { wait: false })).toBe(true);
      await iterator.return!();
      expect(lockFile(layers, "exclusive", { wait: false })).toBe(true);
    });
  });

  test("docker-daemon: a real dockerd, by name and by id", async () => {
    await using daemon = await startDockerDaemon(scratch);
    const target = `docker-daemon:${NAME}`;
    await copy(`oci:${at("oci")}:v1`, target, "--dest-daemon-host", daemon.host);
    const expected = await inspectDigest(target, "--daemon-host", daemon.host);
    for (const name of [NAME, built.config.digest]) {
      const imported = await importFrom(openDockerDaemon(name, ARCHITECTURE, daemon.host));
      expect(imported).toEqual({ ...reference, manifestDigest: expected });
    }
    const missing = openDockerDaemon("example.com/os:v2", ARCHITECTURE, daemon.host).resolve();
    await expect(missing).rejects.toThrow(/Docker has no image "example.com\/os:v2"/);
  });

  test.each<[string, () => string]>([
    ["oci-archive", () => `oci-archive:${at("install.oci.tar")}:v1`],
    ["docker-archive", () => `docker-archive:${at("install.docker.tar")}:${NAME}`],
    ["dir", () => `dir:${at("install.dir")}`],
    ["containers-storage", () => `containers-storage:${storeOf("overlay")}${NAME}`],
  ])("the program installs from %s", async (transport, text) => {
    if (transport !== "containers-storage") await copy(`oci:${at("oci")}:v1`, text());
    await buildExecutable();
    const options = "--allow-missing-verity --bootloader none --root-mount-spec UUID=1";
    const args = `"$TARGET" ${options} --skip-finalize --source-imgref '${text()}'`;
    const { code, output, after } = runInstall(scratch, args);
    expect(output).toMatch(/\nInstallation complete!$/);
    expect(code).toBe(0);
    expect(after).toContain(
      `state/deploy/${reference.deploymentId}/${reference.deploymentId}.origin`,
    );
  });

  test("umoci: layers with whiteouts of both kinds", async () => {
    await copy(`oci:${at("oci")}:v1`, `oci:${at("umoci")}:v1`);
    const image = ["--image", `${at("umoci")}:v1`];
    writeFileSync(at("inserted"), Buffer.alloc(3000, "inserted"));
    mkdirSync(at("fresh"));
    writeFileSync(at("fresh/only"), Buffer.alloc(300, "only"));
    await runImageTool(["umoci", "insert", ...image, at("inserted"), "/usr/lib/inserted"]);
    await runImageTool(["umoci", "insert", "--whiteout", ...image, "/etc/new"]);
    await runImageTool(["umoci", "insert", "--opaque", ...image, at("fresh"), "/usr/opaque"]);
    const inPlace = await importReference(`oci:${at("umoci")}:v1`);
    const storage = `containers-storage:${storeOf("overlay")}example.com/umoci:v1`;
    await copy(`oci:${at("umoci")}:v1`, storage);
    expect(await importReference(storage)).toMatchObject({
      deploymentId: inPlace.deploymentId,
      streams: inPlace.streams,
    });
    expect(inPlace.deploymentId).not.toBe(reference.deploymentId);
  });
});
