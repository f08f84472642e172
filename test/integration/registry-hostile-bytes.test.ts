// A registry that sends wrong, too few, too many or endless bytes, stalls, floods, or does not speak HTTP: nothing of
// it is stored, and it ends in bounded time. needs.md 5.4; docs/security.md names these tests.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  describeError,
  IntegrityError,
  RegistryError,
  UnsupportedError,
} from "../../shared/error.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { openRegistryClient } from "../../updater/registry/client.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import {
  access,
  BLOB,
  image,
  layer,
  MANIFEST,
  readAll,
  refuse,
  refusePull,
  registry,
  root,
  source,
  useHostileRegistry,
} from "../support/hostile-case.ts";
import {
  cut,
  drip,
  dripHeaders,
  endless,
  gzipEncoded,
  OCI_LAYER,
  raw,
  silence,
  status,
  withHeaders,
} from "../support/hostile-registry.ts";
import { findDamage, streamNames } from "../support/repository-listing.ts";
import { TAR_END, tarMember } from "../support/tar-builder.ts";

useHostileRegistry();

describe("layers", () => {
  const layerPath = () => new RegExp(`/blobs/${image.layers[0]!.digest}`);
  const other1 = Buffer.from(layer).fill("x", 1000, 1010);

  test.each([
    ["other bytes", () => status(200, {}, other1), "digest-mismatch"],
    ["too few bytes", () => status(200, {}, layer.subarray(0, 1000)), "size-mismatch"],
    ["too many bytes", () => status(200, {}, Buffer.concat([layer, layer])), "size-mismatch"],
    ["endless bytes", () => endless({}, Buffer.alloc(65536, "x")), "size-mismatch"],
    ["an empty body", () => status(200), "size-mismatch"],
    ["bytes that are really gzip-encoded", () => gzipEncoded(layer), "size-mismatch"],
  ])("%s are refused when read whole", async (_, answer, code) => {
    registry.misbehave(layerPath(), answer());
    const opened = source();
    const [first] = (await opened.resolve()).manifest.layers;
    const read = readAll(opened.openLayer(first!, first!.digest));
    await expect(read).rejects.toMatchObject({ code });
    await opened[Symbol.asyncDispose]?.();
  });

  test.each([
    ["other bytes", () => status(200, {}, other1)],
    ["too few bytes", () => status(200, {}, layer.subarray(0, 1000))],
    ["endless bytes", () => endless({}, Buffer.alloc(65536, "x"))],
    ["bytes that are really gzip-encoded", () => gzipEncoded(layer)],
    ["always broken off", () => cut(layer.subarray(0, 1000), layer.length)],
    ["no bytes", () => status(200)],
  ])("%s store nothing", async (_, answer) => {
    registry.misbehave(layerPath(), answer());
    const error = await refusePull();
    expect([IntegrityError, RegistryError]).toContain(error.constructor);
  });

  test("a Content-Encoding that is not true is of no account", async () => {
    registry.misbehave(BLOB, withHeaders({ "content-encoding": "gzip" }));
    const opened = source();
    const [first] = (await opened.resolve()).manifest.layers;
    expect(layer.equals(await readAll(opened.openLayer(first!, first!.digest)))).toBe(true);
    await opened[Symbol.asyncDispose]?.();
    expect(
      registry.requests.every(({ headers }) => headers["accept-encoding"] === "identity"),
    ).toBe(true);
  });

  test("a body that breaks off is continued where it stopped", async () => {
    registry.misbehave(
      layerPath(),
      cut(layer.subarray(0, 70_000), layer.length),
      (request, response, good) => good(request, response),
    );
    const opened = source();
    const [first] = (await opened.resolve()).manifest.layers;
    expect(layer.equals(await readAll(opened.openLayer(first!, first!.digest)))).toBe(true);
    await opened[Symbol.asyncDispose]?.();
    const ranges = registry.requests.flatMap(({ headers }) => headers.range ?? []);
    expect(ranges).toEqual([`bytes=70000-${layer.length - 1}`]);
  });

  test.each([
    ["of another start", "bytes 5-104/1000000"],
    ["longer than asked", "bytes 10-1000/1000000"],
    ["of another unit", "items 10-109/1000000"],
    ["beyond its own size", "bytes 10-109/50"],
    ["that runs backwards", "bytes 10-9/1000"],
    ["with a sign", "bytes -10-109/1000000"],
    ["of giant numbers", "bytes 10-99999999999999999999/*"],
    ["that is missing", ""],
    ["of several parts", "bytes 10-20,30-40/1000000"],
  ])("a Content-Range %s is refused", async (_, field) => {
    registry.misbehave(layerPath(), status(206, { "content-range": field }, "x".repeat(100)));
    const read = readRange(10, 110);
    await expect(read).rejects.toMatchObject({ code: "protocol" });
  });

  test("fewer bytes than the range has are an error", async () => {
    const field = { "content-range": `bytes 10-59/${layer.length}` };
    registry.misbehave(layerPath(), status(206, field, layer.subarray(10, 60)));
    await expect(readRange(10, 110)).rejects.toMatchObject({ code: "unavailable" });
  });

  test("more bytes than the range has are not passed on", async () => {
    const field = { "content-range": `bytes 10-109/${layer.length}` };
    registry.misbehave(layerPath(), status(206, field, layer.subarray(10, 5000)));
    expect(await readRange(10, 110)).toEqual(layer.subarray(10, 110));
  });

  test("the whole blob instead of a range serves from its start only", async () => {
    registry.misbehave(layerPath(), status(200, {}, layer));
    expect(await readRange(0, 100)).toEqual(layer.subarray(0, 100));
    await expect(readRange(10, 110)).rejects.toThrow(UnsupportedError);
  });

  async function readRange(startByte: number, endByte: number): Promise<Buffer> {
    const name = parseRegistryReference(`${registry.host}/x/y`);
    await using client = openRegistryClient(name, access());
    return await readAll(client.openBlob(image.layers[0]!.digest, { startByte, endByte }));
  }
});

test("a registry that gives no parts of blobs is pulled from all the same", async () => {
  const content = randomBytes(9 << 20);
  const tar = Buffer.concat([tarMember({ name: "usr/big", content }), TAR_END]);
  registry.putImage([tar, layer], "big");
  registry.misbehave(BLOB, (request, response, good) => {
    delete request.headers.range;
    return good(request, response);
  });
  using repo = ensureRepository(null, join(root, "repo"), { algorithm: "sha512", secure: false });
  const opened = source("x/y:big");
  await pullImage(repo, opened, { patience: 0 });
  await opened[Symbol.asyncDispose]?.();
  expect(streamNames(repo).length).toBe(4);
  expect(await findDamage(repo)).toEqual([]);
});

describe("time", () => {
  const short = { headersTimeoutMs: 300, idleTimeoutMs: 300, rateWindowMs: 400, attempts: 2 };

  test.each([
    ["never answers", silence],
    ["sends its headers letter by letter (slow loris)", dripHeaders(20)],
  ])("a registry that %s is given up", async (_, answer) => {
    registry.misbehave(MANIFEST, answer);
    const error = await refuse(undefined, short);
    expect(error).toMatchObject({ code: "unavailable" });
    expect(describeError(error)).toContain("no response within 0.3 seconds");
  });

  test("a body that stops is given up", async () => {
    const answer = drip(Buffer.from(" {"), 100_000);
    registry.misbehave(MANIFEST, answer);
    expect(describeError(await refuse(undefined, short))).toContain("sent nothing for 0.3 seconds");
  });

  test("a body that comes a byte at a time is given up", async () => {
    registry.misbehave(MANIFEST, drip(Buffer.alloc(100_000, " "), 20));
    expect(describeError(await refuse(undefined, short))).toMatch(
      /sends only \d+ bytes per second/,
    );
  });

  test("a consumer may be as slow as it likes", async () => {
    const big = Buffer.alloc(8 << 20, "x");
    const { digest } = registry.put(big, OCI_LAYER);
    const name = parseRegistryReference(`${registry.host}/x/y`);
    // The server is in this process, which may stand still for a moment.
    const limits = { headersTimeoutMs: 2000, idleTimeoutMs: 2000, rateWindowMs: 2000 };
    await using client = openRegistryClient(name, access(limits));
    let sizeBytes = 0;
    for await (const chunk of client.openBlob(digest, { startByte: 0, endByte: null })) {
      if (sizeBytes === 0) await Bun.sleep(2500); // longer than every limit
      sizeBytes += chunk.length;
    }
    expect(sizeBytes).toBe(big.length);
  });

  test("a storm of 5xx ends after a bounded number of attempts", async () => {
    registry.misbehave(MANIFEST, status(500), status(502), status(503), status(504));
    const error = await refuse(undefined, { attempts: 4 });
    expect(error).toMatchObject({ code: "unavailable" });
    expect(registry.requests.length).toBe(4);
  });

  test("a storm of 429 with short waits ends, too", async () => {
    registry.misbehave(MANIFEST, status(429, { "retry-after": "0" }));
    expect(await refuse(undefined, { attempts: 5 })).toMatchObject({ code: "rate-limited" });
    expect(registry.requests.length).toBe(5);
  });

  test("a Retry-After of days is not waited for, and reported", async () => {
    registry.misbehave(MANIFEST, status(429, { "retry-after": "360000" }));
    const error = await refuse();
    expect(error).toMatchObject({ code: "rate-limited" });
    expect(describeError(error)).toContain("try again in 360000 seconds");
    expect(registry.requests.length).toBe(1);
  });
});

describe("HTTP", () => {
  const head = "HTTP/1.1 200 OK\r\n";
  test.each([
    ["giant header", `${head}x: ${"a".repeat(1 << 20)}\r\n\r\n`],
    ["a hundred thousand headers", `${head}${"x: a\r\n".repeat(100_000)}\r\n`],
    ["two lengths", `${head}content-length: 3\r\ncontent-length: 5\r\n\r\nabc`],
    [
      "length and chunks",
      `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n`,
    ],
    ["a bad chunk", `${head}transfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n`],
    ["a giant chunk size", `${head}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\nok`],
    ["a negative length", `${head}content-length: -1\r\n\r\n`],
    ["no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n"],
    [
      "another protocol",
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ],
    ["a closed connection", ""],
  ])("%s is refused without harm", async (_, text) => {
    registry.misbehave(MANIFEST, raw(text));
    const error = await refuse(undefined, { attempts: 2 });
    expect(error).toBeInstanceOf(RegistryError);
    expect(["protocol", "unavailable"]).toContain((error as RegistryError).code);
  });
});
