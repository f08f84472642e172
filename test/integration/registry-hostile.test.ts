// A registry that lies and misleads: digests that are paths, documents with two meanings, credentials lured away,
// swapped manifests. Nothing of it is stored and every refusal says what was wrong. needs.md 5.4;
// docs/security.md names these tests.

import { describe, expect, test } from "vitest";
import { describeError, FormatError, RegistryError, UnsupportedError } from "../../shared/error.ts";
import { computeDigest } from "../../shared/format/oci/digest.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { openRegistryClient } from "../../updater/registry/client.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import {
  ARCHITECTURE,
  access,
  BLOB,
  image,
  layer,
  MANIFEST,
  manifestOf,
  other,
  PASSWORD,
  putJson,
  readAll,
  refuse,
  refusePull,
  registry,
  resolve,
  source,
  useHostileRegistry,
} from "../support/hostile-case.ts";
import {
  cut,
  endless,
  type HostileRegistry,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_MANIFEST,
  redirect,
  status,
  withHeaders,
} from "../support/hostile-registry.ts";

useHostileRegistry();

test("the good image is accepted", async () => {
  expect((await resolve()).manifestDigest).toBe(image.manifest.digest);
});

describe("digests (CVE-2024-3727)", () => {
  test.each([
    ["path parts", "sha256:../../../../etc/passwd"],
    ["an encoded path", `sha256:%2e%2e%2f${"a".repeat(55)}`],
    ["too short", "sha256:abcd"],
    ["too long", `sha256:${"a".repeat(65)}`],
    ["upper case", `sha256:${"A".repeat(64)}`],
    ["an unknown algorithm", `md5:${"a".repeat(32)}`],
    ["no algorithm", "a".repeat(64)],
    ["a query", `sha256:${"a".repeat(64)}?x=`],
    ["a line end", `sha256:${"a".repeat(64)}\n`],
  ])("a layer whose digest has %s is refused and never asked for", async (_, digest) => {
    putJson(manifestOf({ layers: [{ ...image.layers[0], digest }] }), OCI_MANIFEST, "bad");
    expect(await refusePull("x/y:bad")).toBeInstanceOf(FormatError);
    const client = openRegistryClient(parseRegistryReference(`${registry.host}/x/y`), access());
    const chunks = client.openBlob(digest, { startByte: 0, endByte: null });
    await expect(chunks[Symbol.asyncIterator]().next()).rejects.toThrow(FormatError);
    await expect(client.fetchManifest({ digest })).rejects.toThrow(FormatError);
    await expect(client.fetchReferrers(digest)).rejects.toThrow(FormatError);
    expect(registry.requests.map(({ path }) => path)).toEqual(["/v2/x/y/manifests/bad"]);
  });

  test.each([["../../../v2/evil/manifests/x"], ["a/b"], ["a?b"], [""], [".x"], ["a".repeat(129)]])(
    "a tag %j is refused",
    async (tag) => {
      const client = openRegistryClient(parseRegistryReference(`${registry.host}/x/y`), access());
      await expect(client.fetchManifest({ tag })).rejects.toThrow(FormatError);
      expect(registry.requests).toEqual([]);
    },
  );
});

describe("one document, two meanings (CVE-2021-41190)", () => {
  test("a manifest that also has manifests is refused", async () => {
    putJson(manifestOf({ manifests: [image.manifest] }), OCI_MANIFEST, "both");
    expect(await refuse("x/y:both")).toBeInstanceOf(FormatError);
  });

  test("an index that also has layers is refused", async () => {
    const index = { schemaVersion: 2, manifests: [image.manifest], layers: image.layers };
    putJson(index, OCI_INDEX, "both");
    expect(await refuse("x/y:both")).toBeInstanceOf(FormatError);
  });

  test.each([
    ["a manifest sent as an index", OCI_INDEX],
    ["an OCI manifest sent as Docker's", "application/vnd.docker.distribution.manifest.v2+json"],
    ["a manifest sent as a config", OCI_CONFIG],
  ])("%s is refused", async (_, contentType) => {
    registry.misbehave(MANIFEST, withHeaders({ "content-type": contentType }));
    const error = await refuse();
    expect(error).toBeInstanceOf(FormatError);
    expect(describeError(error)).toContain(`calls itself "${OCI_MANIFEST}"`);
  });

  test("a manifest that is an index by its own word, sent as a manifest, is refused", async () => {
    putJson(manifestOf({ mediaType: OCI_INDEX }), OCI_MANIFEST, "bad");
    expect(await refuse("x/y:bad")).toBeInstanceOf(FormatError);
  });

  test("a child that is of another kind than its index says is refused", async () => {
    const child = { ...image.manifest, mediaType: OCI_INDEX };
    putJson({ schemaVersion: 2, manifests: [child] }, OCI_INDEX, "index");
    const error = await refuse("x/y:index");
    expect(error).toBeInstanceOf(FormatError);
    expect(error.message).toContain("where its index says");
  });

  test("without a Content-Type and a mediaType, both layers and manifests are refused", async () => {
    const document = manifestOf({ mediaType: undefined, manifests: [image.manifest] });
    putJson(document, "application/json", "both");
    expect(await refuse("x/y:both")).toBeInstanceOf(FormatError);
  });

  test("a general Content-Type is no obstacle", async () => {
    registry.misbehave(MANIFEST, withHeaders({ "content-type": "text/plain; charset=utf-8" }));
    expect((await resolve()).manifestDigest).toBe(image.manifest.digest);
  });
});

describe("only the first platform is good (CVE-2022-24778)", () => {
  const platform = (architecture: string) => ({ os: "linux", architecture });

  test("the manifest of this machine is the one that is checked", async () => {
    const bad = putJson(manifestOf({ layers: [] }), OCI_MANIFEST);
    const manifests = [
      { ...image.manifest, platform: platform("s390x") },
      { ...bad, platform: platform(ARCHITECTURE) },
    ];
    putJson({ schemaVersion: 2, manifests }, OCI_INDEX, "index");
    expect(await refuse("x/y:index")).toBeInstanceOf(FormatError);
  });

  test("an image for others is refused, with what there is", async () => {
    const manifests = [{ ...image.manifest, platform: platform("s390x") }];
    putJson({ schemaVersion: 2, manifests }, OCI_INDEX, "index");
    const error = await refuse("x/y:index");
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(error.message).toContain("linux/s390x");
  });
});

describe("credentials stay at home (CVE-2020-15157)", () => {
  const secret = Buffer.from(`user:${PASSWORD}`).toString("base64");
  const basic = status(401, { "www-authenticate": 'Basic realm="x"' });
  const expectNoSecret = (server: HostileRegistry) => {
    expect(server.requests.length).toBeGreaterThan(0);
    expect(JSON.stringify(server.requests)).not.toContain(secret);
    expect(server.requests.filter(({ headers }) => headers.authorization !== undefined)).toEqual(
      [],
    );
  };

  test("urls of a foreign layer are never asked", async () => {
    const urls = [`${other.origin}/layer`];
    const mediaType = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    const missing = {
      ...image.layers[0],
      mediaType,
      digest: computeDigest(Buffer.from("?")),
      urls,
    };
    putJson(manifestOf({ layers: [missing] }), OCI_MANIFEST, "foreign");
    const config = JSON.stringify({
      ...{ os: "linux", architecture: ARCHITECTURE },
      rootfs: { type: "layers", diff_ids: [missing.digest] },
    });
    const own = registry.put(Buffer.from(config), OCI_CONFIG);
    putJson(manifestOf({ config: own, layers: [missing] }), OCI_MANIFEST, "foreign");
    expect(await refusePull("x/y:foreign")).toBeInstanceOf(RegistryError);
    expect(other.requests).toEqual([]);
  });

  test("a redirect to another host loses the Authorization header", async () => {
    registry.misbehave(BLOB, redirect(`${other.origin}/cdn/blobs/${image.config.digest}`));
    registry.misbehave(MANIFEST, basic, (_request, _response, good) => good(_request, _response));
    other.putImage([layer]);
    expect((await resolve()).manifestDigest).toBe(image.manifest.digest);
    expectNoSecret(other);
    expect(registry.requests.some(({ headers }) => headers.authorization?.endsWith(secret))).toBe(
      true,
    );
  });

  test("a redirect to another port of the same host loses it, too, and a 401 there is no challenge", async () => {
    registry.misbehave(MANIFEST, basic, redirect(`${other.origin}/v2/x/y/manifests/v1`));
    other.misbehave(/./, basic);
    const error = await refuse();
    expect(error).toMatchObject({ code: "unauthorized" });
    expectNoSecret(other);
  });

  test("a loop of redirects through other hosts collects nothing and ends", async () => {
    registry.misbehave(MANIFEST, basic, redirect(`${other.origin}/v2/loop`));
    registry.misbehave(/\/again$/, redirect(`${other.origin}/v2/loop`));
    other.misbehave(/./, redirect(`${registry.origin}/again`));
    const error = await refuse();
    expect(error).toMatchObject({ code: "protocol" });
    expect(describeError(error)).toContain("redirects more than 8 times");
    expectNoSecret(other);
    const again = registry.requests.filter(({ path }) => path === "/again");
    expect(again.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
  });

  test.each([
    ["another scheme", "ftp://127.0.0.1/x"],
    ["a file", "file:///etc/passwd"],
    ["a user name in the address", `http://${"user"}:pw@127.0.0.1/x`],
    ["no address", "http://"],
    ["a giant address", `http://127.0.0.1/${"a".repeat(20_000)}`],
  ])("a redirect to %s is not followed", async (_, location) => {
    registry.misbehave(MANIFEST, redirect(location));
    expect(await refuse()).toMatchObject({ code: "protocol" });
    expect(registry.requests.length).toBe(1);
  });

  test("endless redirects end", async () => {
    let count = 0;
    registry.misbehave(/./, (request, response) => {
      redirect(`/v2/x/y/manifests/v${count++}`)(request, response, () => {});
    });
    expect(describeError(await refuse())).toContain("redirects more than 8 times");
    expect(registry.requests.length).toBe(9);
  });

  test("a token server on another host gets no password over plain http", async () => {
    const realm = `http://evil.example:${other.port}/token`;
    registry.misbehave(MANIFEST, status(401, { "www-authenticate": `Bearer realm="${realm}"` }));
    const error = await refuse();
    expect(error).toMatchObject({ code: "protocol" });
    expect(describeError(error)).toContain("over plain http, which is not done");
    expect(describeError(error)).not.toContain(PASSWORD);
    expect(other.requests).toEqual([]);
  });

  test("a token server that redirects elsewhere takes no password with it", async () => {
    const realm = `${registry.origin}/token`;
    registry.misbehave(MANIFEST, status(401, { "www-authenticate": `Bearer realm="${realm}"` }));
    registry.misbehave(/^\/token/, redirect(`${other.origin}/token`));
    other.misbehave(/./, status(200, {}, '{"token":"t"}'));
    await refuse();
    expectNoSecret(other);
  });

  test.each([
    ["none", "Bearer"],
    ["a file", 'Bearer realm="file:///etc/passwd"'],
    ["another scheme", 'Bearer realm="ftp://127.0.0.1/"'],
    ["user information", `Bearer realm="https://${"a:b"}@127.0.0.1/"`],
  ])("a realm with %s is refused", async (_, field) => {
    registry.misbehave(MANIFEST, status(401, { "www-authenticate": field }));
    const error = await refuse();
    expect(error).toMatchObject({ code: "protocol" });
    expect(describeError(error)).toContain("realm is no http address");
  });

  test.each([
    ["line ends", '{"token":"a\\r\\nx: y"}'],
    ["no text", '{"token":5}'],
    ["nothing", "{}"],
    ["no JSON", "<html>"],
    ["megabytes", `{"token":"${"a".repeat(1 << 20)}"}`],
  ])("a token with %s is refused", async (_, body) => {
    const realm = `${registry.origin}/token`;
    registry.misbehave(MANIFEST, status(401, { "www-authenticate": `Bearer realm="${realm}"` }));
    registry.misbehave(/^\/token/, status(200, {}, body));
    expect(await refuse()).toMatchObject({ code: "protocol" });
  });

  test("neither password nor token appears in an error", async () => {
    const echo = (text: string) => JSON.stringify({ errors: [{ code: "DENIED", message: text }] });
    registry.misbehave(MANIFEST, basic, status(403, {}, echo(`no: ${secret} ${PASSWORD}`)));
    const error = await refuse();
    expect(error).toMatchObject({ code: "unauthorized" });
    expect(describeError(error)).not.toContain(PASSWORD);
    expect(describeError(error)).not.toContain(secret);
  });

  test("the error text of a registry brings no control characters to the terminal", async () => {
    const message = "\u001b]0;title\u0007\u001b[2J\nerror: done";
    registry.misbehave(MANIFEST, status(404, {}, JSON.stringify({ errors: [{ message }] })));
    expect(describeError(await refuse())).toMatch(/^[\x20-\x7e]+$/);
  });
});

describe("documents", () => {
  test("another manifest under a digest is refused", async () => {
    const swapped = Buffer.from(JSON.stringify(manifestOf({ annotations: { a: "b" } })));
    const answer = status(200, { "content-type": OCI_MANIFEST }, swapped);
    registry.misbehave(MANIFEST, answer);
    const error = await refuse(`x/y@${image.manifest.digest}`);
    expect(error).toMatchObject({ code: "digest-mismatch" });
  });

  test("name:tag@digest means the digest, whatever the tag says now", async () => {
    const moved = registry.putImage([layer, layer], "v1");
    expect(moved.manifest.digest).not.toBe(image.manifest.digest);
    const name = `x/y:v1@${image.manifest.digest}`;
    expect((await resolve(name)).manifestDigest).toBe(image.manifest.digest);
  });

  test("a manifest swapped between two requests changes nothing", async () => {
    const opened = source();
    const resolved = await opened.resolve();
    registry.misbehave(MANIFEST, status(200, { "content-type": OCI_MANIFEST }, "{}"));
    const [first] = resolved.manifest.layers;
    expect(layer.equals(await readAll(opened.openLayer(first!, first!.digest)))).toBe(true);
    await opened[Symbol.asyncDispose]?.();
  });

  test("a child of an index that was swapped is refused", async () => {
    putJson({ schemaVersion: 2, manifests: [image.manifest] }, OCI_INDEX, "index");
    const path = new RegExp(image.manifest.digest);
    const swapped = JSON.stringify(manifestOf({ annotations: { a: "b" } }));
    registry.misbehave(path, status(200, { "content-type": OCI_MANIFEST }, swapped));
    expect(await refuse("x/y:index")).toMatchObject({ code: "digest-mismatch" });
  });

  test("a wrong Docker-Content-Digest is noticed", async () => {
    const digest = computeDigest(Buffer.from("other"));
    registry.misbehave(MANIFEST, withHeaders({ "docker-content-digest": digest }));
    expect(await refuse()).toMatchObject({ code: "digest-mismatch" });
  });

  test("a Docker-Content-Digest that is no digest is of no account", async () => {
    registry.misbehave(MANIFEST, withHeaders({ "docker-content-digest": "sha256:../.." }));
    expect((await resolve()).manifestDigest).toBe(image.manifest.digest);
  });

  test.each([
    ["bad UTF-8", Buffer.from([...Buffer.from('{"a":"'), 0xff, 0xfe, ...Buffer.from('"}')])],
    ["deep JSON", Buffer.from("[".repeat(1_000_000))],
    [
      "deep JSON in a field",
      Buffer.from(`{"schemaVersion":2,"x":${"[".repeat(500_000)}${"]".repeat(500_000)}}`),
    ],
    ["no JSON", Buffer.from("<html>")],
    ["nothing", Buffer.alloc(0)],
    ["null", Buffer.from("null")],
    ["__proto__", Buffer.from('{"__proto__":{"schemaVersion":2,"layers":[],"config":{}}}')],
  ])("a manifest of %s is refused", async (_, bytes) => {
    registry.put(bytes, OCI_MANIFEST, "bad");
    expect(await refuse("x/y:bad")).toBeInstanceOf(FormatError);
  });

  test("a manifest that is announced as huge is not read", async () => {
    registry.misbehave(MANIFEST, cut(Buffer.from("{"), 5 << 20));
    const error = await refuse();
    expect(error).toMatchObject({ code: "limit" });
    expect(describeError(error)).toContain("more than 4194304 bytes");
  });

  test.each([
    ["manifest", MANIFEST],
    ["config", BLOB],
  ])("an endless %s is cut off", async (_, path) => {
    const headers = { "content-type": OCI_MANIFEST };
    registry.misbehave(path, endless(headers, Buffer.alloc(65536, " ")));
    const error = await refuse();
    expect(["limit", "size-mismatch"]).toContain((error as FormatError).code);
  });

  test("a descriptor that promises a huge config is refused before it is asked for", async () => {
    const config = { ...image.config, size: 1 << 30 };
    putJson(manifestOf({ config }), OCI_MANIFEST, "bad");
    expect(await refuse("x/y:bad")).toMatchObject({ code: "limit" });
    expect(registry.requests.length).toBe(1);
  });

  test("an index of indexes of indexes ends", async () => {
    let child: Descriptor | object = image.manifest;
    for (let depth = 0; depth < 6; depth++) {
      child = putJson({ schemaVersion: 2, manifests: [child], n: depth }, OCI_INDEX, "deep");
    }
    expect(await refuse("x/y:deep")).toMatchObject({ code: "limit" });
  });

  test("Docker's schema 1 is refused with advice", async () => {
    const mediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    registry.misbehave(MANIFEST, status(200, { "content-type": mediaType }, "{}"));
    const error = await refuse();
    expect(error).toBeInstanceOf(UnsupportedError);
    expect(describeError(error)).toContain("push it again");
  });

  test("half a manifest, sent as part of one, is refused", async () => {
    registry.misbehave(MANIFEST, status(206, { "content-range": "bytes 0-1/2" }, "{}"));
    expect(await refuse()).toMatchObject({ code: "protocol" });
  });
});
