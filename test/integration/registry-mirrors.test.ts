// Mirrors: which endpoint is asked, which is passed over, and who gets which password.

import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { openRegistryClient } from "../../updater/registry/client.ts";
import type { RegistryLimits } from "../../updater/registry/limits.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import {
  BLOB,
  image,
  layer,
  other,
  PASSWORD,
  readAll,
  registry,
  root,
  useHostileRegistry,
} from "../support/hostile-case.ts";
import { cut, guard, OCI_INDEX, status } from "../support/hostile-registry.ts";
import { authFile, insecureConf, makeAccess } from "../support/registry-access.ts";

useHostileRegistry();

const BASIC = `Basic ${Buffer.from(`user:${PASSWORD}`).toString("base64")}`;
const shown = () => registry.requests.map(({ headers }) => headers.authorization ?? null);

describe("mirrors", () => {
  const mirrored = (mirrors: readonly string[], limits: Partial<RegistryLimits> = {}) => {
    const tables = mirrors.map(
      (location) => `[[registry.mirror]]\nlocation = "${location}"\ninsecure = true\n`,
    );
    const conf = `${insecureConf(registry.host)}${tables.join("")}`;
    const config = { files: { "etc/containers/registries.conf": conf }, limits };
    const name = parseRegistryReference(`${registry.host}/x/y:v1`);
    return openRegistryClient(name, makeAccess(join(root, "mirrored"), config));
  };

  test("the mirror is asked first, at its own path", async () => {
    other.putImage([layer], "v1");
    await using client = mirrored([`${other.host}/copies`]);
    expect((await client.fetchManifest({ tag: "v1" })).digest).toBe(image.manifest.digest);
    expect(other.requests.map(({ path }) => path)).toEqual(["/v2/copies/x/y/manifests/v1"]);
    expect(registry.requests).toEqual([]);
  });

  test.each([
    ["does not have it", status(404)],
    ["wants a login", status(401, { "www-authenticate": 'Basic realm="x"' })],
    ["denies access", status(403)],
    ["is broken", status(500)],
    ["has a limit", status(429, { "retry-after": "1000" })],
    ["has another document under the digest", status(200, { "content-type": OCI_INDEX }, "{}")],
    ["sends no document", status(200, {}, "<html>")],
    ["redirects in circles", status(302, { location: "/v2/" })],
  ])("a mirror that %s is passed over", async (_, answer) => {
    other.misbehave(/./, answer);
    await using client = mirrored([`${other.host}/a`, `${other.host}/b`]);
    const target = { digest: image.manifest.digest };
    expect((await client.fetchManifest(target)).digest).toBe(image.manifest.digest);
    expect(registry.requests.length).toBe(1);
  });

  test("a mirror that is not there costs no time", async () => {
    await using client = mirrored(["127.0.0.1:1"], { backoffMs: 3_600_000 });
    await client.fetchManifest({ tag: "v1" });
  });

  test("a blob whose mirror breaks off goes on at the next endpoint", async () => {
    other.putImage([layer], "v1");
    other.misbehave(BLOB, cut(layer.subarray(0, 50_000), layer.length));
    await using client = mirrored([`${other.host}/copies`]);
    const { digest } = image.layers[0]!;
    const got: Uint8Array[] = [];
    const first = (async () => {
      for await (const chunk of client.openBlob(digest, { startByte: 0, endByte: null })) {
        got.push(chunk);
      }
    })();
    await expect(first).rejects.toMatchObject({ code: "unavailable" });
    const startByte = Buffer.concat(got).length;
    expect(startByte).toBe(50_000);
    const rest = client.openBlob(digest, { startByte, endByte: layer.length });
    expect(layer.equals(Buffer.concat([...got, await readAll(rest)]))).toBe(true);
    expect(registry.requests.map(({ headers }) => headers.range)).toEqual([
      `bytes=50000-${layer.length - 1}`,
    ]);
  });

  test("a mirror that ignores ranges is passed over for one that does not", async () => {
    other.misbehave(BLOB, status(200, {}, layer));
    await using client = mirrored([`${other.host}/copies`]);
    const range = { startByte: 10, endByte: 20 };
    const read = await readAll(client.openBlob(image.layers[0]!.digest, range));
    expect(read).toEqual(layer.subarray(10, 20));
  });

  test("when nobody has it, the error is the registry's and mentions the mirrors", async () => {
    other.misbehave(/./, status(403));
    registry.misbehave(/./, status(404));
    await using client = mirrored([`${other.host}/copies`]);
    const error = await client.fetchManifest({ tag: "v1" }).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "not-found" });
    expect(describeError(error)).toMatch(
      /mirror "127.0.0.1:\d+": .* denies access .*does not have it/,
    );
  });

  test("passwords go to the endpoint they are for", async () => {
    const ask = guard('Basic realm="x"', (text) => text === BASIC);
    other.misbehave(/./, ask);
    registry.misbehave(/./, ask);
    const conf = `${insecureConf(registry.host)}[[registry.mirror]]\nlocation = "${other.host}/m"\ninsecure = true\n`;
    const auth = authFile(registry.host, "user", PASSWORD);
    const files = { "etc/containers/registries.conf": conf, "etc/ostree/auth.json": auth };
    const name = parseRegistryReference(`${registry.host}/x/y:v1`);
    await using client = openRegistryClient(name, makeAccess(join(root, "m"), { files }));
    await client.fetchManifest({ tag: "v1" });
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(shown()).toEqual([null, BASIC]);
  });
});
