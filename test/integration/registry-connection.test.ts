// How the registry client connects: TLS with private authorities and client certificates, servers that are
// configured as insecure, proxies. The certificates are openssl's; servers and proxies our own.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { openRegistryClient, type RegistryClient } from "../../updater/registry/client.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import {
  type HostileRegistry,
  type MemoryImage,
  redirect,
  startHostileRegistry,
  status,
} from "../support/hostile-registry.ts";
import { authFile, insecureConf, makeAccess, type TestConfig } from "../support/registry-access.ts";
import {
  makeAuthority,
  makeCertificate,
  type ServerCertificate,
} from "../support/registry-certificates.ts";
import { startProxy, startSocks, type TestProxy } from "../support/registry-proxy.ts";

const layer = Buffer.alloc(100_000, "layer ");

let scratch: string;
let authority: string;
let authorityFiles: ServerCertificate;
let certificate: ServerCertificate;
let root: string;
let secure: HostileRegistry;
let plain: HostileRegistry;
let proxy: TestProxy;
let image: MemoryImage;

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "connection-"));
  const made = await makeAuthority(scratch, "authority");
  authorityFiles = made;
  authority = readFileSync(made.certificatePath, "utf8");
  certificate = await makeCertificate(made, "server", ["IP:127.0.0.1", "DNS:registry.example"]);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

beforeEach(async () => {
  root = mkdtempSync(join(scratch, "root-"));
  [secure, plain, proxy] = await Promise.all([
    startHostileRegistry(certificate),
    startHostileRegistry(),
    startProxy(),
  ]);
  image = secure.putImage([layer], "v1");
  plain.putImage([layer], "v1");
});
afterEach(async () => {
  for (const each of [secure, plain, proxy]) await each[Symbol.asyncDispose]();
});

const trust = (host: string) => ({ [`etc/containers/certs.d/${host}/ca.crt`]: authority });

function clientOf(host: string, config: TestConfig = {}): RegistryClient {
  return openRegistryClient(parseRegistryReference(`${host}/x/y:v1`), makeAccess(root, config));
}

async function fetchFrom(host: string, config: TestConfig = {}): Promise<string> {
  await using client = clientOf(host, config);
  const { digest } = await client.fetchManifest({ tag: "v1" });
  const range = { startByte: 0, endByte: null };
  for await (const chunk of client.openBlob(image.layers[0]!.digest, range)) void chunk;
  return digest;
}

async function failFrom(host: string, config: TestConfig = {}): Promise<string> {
  await using client = clientOf(host, config);
  const error = await client.fetchManifest({ tag: "v1" }).catch((cause: unknown) => cause);
  expect(error).toMatchObject({ kind: "registry" });
  return describeError(error);
}

describe("TLS", () => {
  test("a private authority in certs.d is trusted", async () => {
    const { host } = secure;
    expect(await fetchFrom(host, { files: trust(host) })).toBe(image.manifest.digest);
  });

  test("an authority that nobody trusts is refused, with advice where to put it", async () => {
    const text = await failFrom(secure.host);
    expect(text).toContain(`The certificate of "${secure.host}" is not trusted`);
    expect(text).toContain(join(root, "etc/containers/certs.d", secure.host, "ca.crt"));
    expect(secure.requests).toEqual([]);
  });

  test("an authority for another registry is not trusted", async () => {
    expect(await failFrom(secure.host, { files: trust("other.example") })).toContain("not trusted");
  });

  test("a certificate for another name is refused", async () => {
    const host = `localhost:${secure.port}`;
    expect(await failFrom(host, { files: trust(host) })).toContain("not trusted");
    expect(secure.requests).toEqual([]);
  });

  test("a certificate that has ended is refused, and it is said", async () => {
    const made = { directory: scratch, ...authorityFiles };
    const period = ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"];
    const old = await makeCertificate(made, "old", ["IP:127.0.0.1"], period);
    const server = await startHostileRegistry(old);
    try {
      const text = await failFrom(server.host, { files: trust(server.host) });
      expect(text).toContain("renew it, or set the clock of this machine");
    } finally {
      await server[Symbol.asyncDispose]();
    }
  });

  test("NODE_TLS_REJECT_UNAUTHORIZED changes nothing", async () => {
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    try {
      expect(await failFrom(secure.host)).toContain("not trusted");
    } finally {
      delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    }
  });

  test("a registry that is not insecure is never spoken to in plain", async () => {
    expect(await failFrom(plain.host)).toContain('say so in registries.conf ("insecure = true")');
    expect(plain.requests).toEqual([]);
  });

  test("a redirect from https to plain http is refused", async () => {
    secure.misbehave(/./, redirect(`${plain.origin}/v2/x/y/manifests/v1`));
    const text = await failFrom(secure.host, { files: trust(secure.host) });
    expect(text).toContain("redirects from https to plain http");
    expect(plain.requests).toEqual([]);
  });

  test("a token server over https elsewhere is given the password", async () => {
    const tokens = await startHostileRegistry(certificate);
    try {
      tokens.misbehave(/./, status(200, {}, '{"token":"t1"}'));
      const realm = `https://127.0.0.1:${tokens.port}/token`;
      secure.misbehave(/./, (request, response, good) =>
        request.headers.authorization === "Bearer t1"
          ? good(request, response)
          : status(401, { "www-authenticate": `Bearer realm="${realm}"` })(request, response, good),
      );
      const auth = { "etc/ostree/auth.json": authFile(secure.host, "user", "pw") };
      await fetchFrom(secure.host, { files: { ...trust(secure.host), ...auth } });
      expect(tokens.requests[0]!.headers.authorization).toMatch(/^Basic /);
    } finally {
      await tokens[Symbol.asyncDispose]();
    }
  });

  test("a token server over plain http is not given the password of an https registry", async () => {
    const realm = `${plain.origin}/token`;
    secure.misbehave(/./, status(401, { "www-authenticate": `Bearer realm="${realm}"` }));
    const auth = { "etc/ostree/auth.json": authFile(secure.host, "user", "pw") };
    const text = await failFrom(secure.host, { files: { ...trust(secure.host), ...auth } });
    expect(text).toContain("over plain http, which is not done");
    expect(plain.requests).toEqual([]);
  });
});

describe("insecure registries", () => {
  const conf = (...hosts: string[]) => ({
    files: { "etc/containers/registries.conf": insecureConf(...hosts) },
  });

  test("plain http is spoken when there is no TLS", async () => {
    expect(await fetchFrom(plain.host, conf(plain.host))).toBe(image.manifest.digest);
  });

  test("TLS that nobody vouches for is preferred to none", async () => {
    expect(await fetchFrom(secure.host, conf(secure.host))).toBe(image.manifest.digest);
    const host = `localhost:${secure.port}`;
    expect(await fetchFrom(host, conf(host))).toBe(image.manifest.digest);
  });

  test("may redirect to plain http", async () => {
    secure.misbehave(/blobs/, redirect(`${plain.origin}/v2/x/y/blobs/${image.layers[0]!.digest}`));
    await fetchFrom(secure.host, conf(secure.host));
    expect(plain.requests.length).toBe(1);
  });

  test("nobody there is an error that says so", async () => {
    expect(await failFrom("127.0.0.1:1", conf("127.0.0.1:1"))).toContain("ECONNREFUSED");
  });
});

describe("proxies", () => {
  const through = (port: number, user = "") => `http://${user}127.0.0.1:${port}`;

  test("https goes through a tunnel, and its certificate is still checked", async () => {
    const host = `registry.example:${secure.port}`;
    const environment = { HTTPS_PROXY: through(proxy.port) };
    expect(await fetchFrom(host, { files: trust(host), environment })).toBe(image.manifest.digest);
    expect(new Set(proxy.requests)).toEqual(new Set([`CONNECT ${host}`]));
    rmSync(join(root, "etc"), { recursive: true });
    expect(await failFrom(host, { environment })).toContain("not trusted");
  });

  test("plain http is asked of the proxy", async () => {
    const host = `registry.example:${plain.port}`;
    const files = { "etc/containers/registries.conf": insecureConf(host) };
    const environment = { http_proxy: through(proxy.port), https_proxy: through(proxy.port) };
    expect(await fetchFrom(host, { files, environment })).toBe(image.manifest.digest);
    expect(proxy.requests).toContain(`GET http://${host}/v2/x/y/manifests/v1`);
    expect(plain.requests.every(({ headers }) => headers.host === host)).toBe(true);
  });

  test("NO_PROXY and loopback addresses go past it", async () => {
    const environment = { HTTPS_PROXY: through(proxy.port), NO_PROXY: "registry.example" };
    await fetchFrom(secure.host, { files: trust(secure.host), environment });
    const host = `registry.example:${secure.port}`;
    expect(await failFrom(host, { files: trust(host), environment })).toContain("registry.example");
    expect(proxy.requests).toEqual([]);
  });

  test("a proxy in registries.conf is for its registry alone", async () => {
    const host = `registry.example:${secure.port}`;
    const table = `[[registry]]\nlocation = "${host}"\nproxy = "${through(proxy.port)}"\n`;
    const files = { ...trust(host), "etc/containers/registries.conf": table };
    expect(await fetchFrom(host, { files })).toBe(image.manifest.digest);
    expect(proxy.requests.length).toBeGreaterThan(0);
  });

  test("a proxy's password is for the proxy only", async () => {
    const expected = `Basic ${Buffer.from("me:pa ss").toString("base64")}`;
    await using guarded = await startProxy(expected);
    const host = `registry.example:${secure.port}`;
    const files = trust(host);
    const environment = { HTTPS_PROXY: through(guarded.port, "me:pa%20ss@") };
    expect(await fetchFrom(host, { files, environment })).toBe(image.manifest.digest);
    expect(JSON.stringify(secure.requests)).not.toContain(expected);
    const wrong = { HTTPS_PROXY: through(guarded.port, "me:secret-word@") };
    const text = await failFrom(host, { files, environment: wrong });
    expect(text).toContain(`The proxy "127.0.0.1:${guarded.port}" refuses to connect`);
    expect(text).toContain("407");
    expect(text).not.toContain("secret-word");
  });

  test("a proxy that is not there is an error that names it", async () => {
    const host = `registry.example:${secure.port}`;
    const environment = { HTTPS_PROXY: "http://127.0.0.1:1" };
    expect(await failFrom(host, { environment })).toContain('through the proxy "127.0.0.1:1"');
  });

  test.each([["socks5"], ["socks5h"]])("%s, with and without a password", async (scheme) => {
    await using socks = await startSocks();
    const host = `registry.example:${secure.port}`;
    const files = trust(host);
    const address = `127.0.0.1:${socks.port}`;
    const environment = { HTTPS_PROXY: `${scheme}://${address}` };
    expect(await fetchFrom(host, { files, environment })).toBe(image.manifest.digest);
    expect(new Set(socks.requests)).toEqual(new Set(["nobody", host]));
    const login = { HTTPS_PROXY: `${scheme}://me:pa%20ss@${address}` };
    await fetchFrom(host, { files, environment: login });
    expect(socks.requests).toContain("me:pa ss");
    rmSync(join(root, "etc"), { recursive: true });
    expect(await failFrom(host, { environment })).toContain("not trusted");
  });
});
