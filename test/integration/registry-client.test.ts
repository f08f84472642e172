// The registry client against servers of our own that behave: logins, mirrors, retries, cancelling, referrers,
// names. TLS and proxies are in registry-connection.test.ts, real servers in registry-real.test.ts.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { describeError, PolicyError, RegistryError, UsageError } from "../../shared/error.ts";
import { openRegistrySource } from "../../updater/image/registry-source.ts";
import { openRegistryClient } from "../../updater/registry/client.ts";
import type { RegistryLimits } from "../../updater/registry/limits.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import {
  ARCHITECTURE,
  access,
  BLOB,
  image,
  layer,
  MANIFEST,
  other,
  PASSWORD,
  readAll,
  refuse,
  registry,
  resolve,
  root,
  source,
  useHostileRegistry,
} from "../support/hostile-case.ts";
import {
  cut,
  guard,
  type Misbehaviour,
  OCI_INDEX,
  silence,
  status,
} from "../support/hostile-registry.ts";
import { insecureConf, makeAccess } from "../support/registry-access.ts";

useHostileRegistry();

const BASIC = `Basic ${Buffer.from(`user:${PASSWORD}`).toString("base64")}`;
const good: Misbehaviour = (request, response, answer) => answer(request, response);

const shown = () => registry.requests.map(({ headers }) => headers.authorization ?? null);

function clientOf(limits: Partial<RegistryLimits> = {}) {
  return openRegistryClient(parseRegistryReference(`${registry.host}/x/y`), access(limits));
}

describe("login", () => {
  const bearer = (more = "") =>
    `Bearer realm="${registry.origin}/token",service="the service"${more}`;
  const questions = () => registry.requests.filter(({ path }) => path.startsWith("/token"));
  /** Tokens t1, t2, … */
  const giveTokens = (fields: object = {}) => {
    let count = 0;
    registry.misbehave(/^\/token/, (request, response, answer) => {
      const token = JSON.stringify({ token: `t${++count}`, ...fields });
      return status(200, {}, token)(request, response, answer);
    });
  };

  test("nothing is shown before it is asked for, and the password on every request after", async () => {
    registry.misbehave(
      /./,
      guard('Basic realm="x"', (text) => text === BASIC),
    );
    await resolve();
    expect(shown()).toEqual([null, BASIC, BASIC]);
  });

  test("a registry that asks for nothing is shown nothing", async () => {
    await resolve();
    expect(shown()).toEqual([null, null]);
  });

  test("a wrong password is an error that says where it is from", async () => {
    registry.misbehave(
      /./,
      guard('Basic realm="x"', () => false),
    );
    const error = await refuse();
    expect(error).toMatchObject({ code: "unauthorized" });
    const text = describeError(error);
    expect(text).toContain(`Cannot fetch manifest "v1" of "${registry.host}/x/y:v1"`);
    expect(text).toContain(join(root, "etc/ostree/auth.json"));
    expect(text).toContain("podman login");
    expect(registry.requests.length).toBe(2);
  });

  test("a missing password is an error that says where it was looked for", async () => {
    registry.misbehave(
      /./,
      guard('Basic realm="x"', () => false),
    );
    const conf = { "etc/containers/registries.conf": insecureConf(registry.host) };
    const config = { files: conf };
    const client = openRegistryClient(
      parseRegistryReference(`${registry.host}/x/y`),
      makeAccess(join(root, "without"), config),
    );
    const error = await client.fetchManifest({ tag: "v1" }).catch((cause: unknown) => cause);
    expect(describeError(error)).toMatch(
      /there is no password .* no auth file was found; log in with/,
    );
  });

  test("a login of an unknown kind is an error that names it", async () => {
    registry.misbehave(
      /./,
      guard("Negotiate abc==, Digest realm=x", () => false),
    );
    expect(describeError(await refuse())).toContain("offered: negotiate, digest");
  });

  test("a token is fetched with password, service and scope", async () => {
    giveTokens();
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer t1"),
    );
    await resolve();
    expect(shown()).toEqual([null, BASIC, "Bearer t1", "Bearer t1"]);
    const query = new URL(questions()[0]!.path, registry.origin).searchParams;
    expect(query.getAll("scope")).toEqual(["repository:x/y:pull"]);
    expect(query.get("service")).toBe("the service");
  });

  test("the scope of the challenge is asked for as well, unless it is for more than pulling", async () => {
    giveTokens();
    const scopes = () =>
      new URL(questions().at(-1)!.path, registry.origin).searchParams.getAll("scope");
    const accept = (text: string) => text.startsWith("Bearer");
    registry.misbehave(/^\/v2/, guard(bearer(',scope="repository:mirror/x/y:pull"'), accept));
    await resolve();
    expect(scopes()).toEqual(["repository:x/y:pull", "repository:mirror/x/y:pull"]);
    registry.misbehave(/^\/v2/, guard(bearer(',scope="repository:x/y:pull,push,*"'), accept));
    await resolve();
    expect(scopes()).toEqual(["repository:x/y:pull"]);
  });

  test.each([
    ["two fields", () => ['Basic realm="a, \\"b\\" Bearer realm=x"', bearer()]],
    ["one field", () => [`Basic realm="a, \\"b\\"", ${bearer()}`]],
    ["unknown ones before", () => [`Negotiate, Digest realm="q", nonce=abc, ${bearer()}`]],
    ["capitals", () => [bearer().replace("Bearer", "BEARER").replace("realm", "Realm")]],
  ])("of several challenges in %s the token is chosen", async (_, fields) => {
    giveTokens();
    registry.misbehave(/^\/v2/, (request, response, answer) =>
      request.headers.authorization === "Bearer t1"
        ? answer(request, response)
        : status(401, { "www-authenticate": fields() })(request, response, answer),
    );
    await resolve();
    expect(questions().length).toBe(1);
  });

  test("access_token counts like token", async () => {
    registry.misbehave(/^\/token/, status(200, {}, '{"access_token":"a1","token":""}'));
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer a1"),
    );
    await resolve();
  });

  test("a token that ends in mid-pull is renewed once", async () => {
    giveTokens();
    let valid = "Bearer t1";
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === valid),
    );
    await using client = clientOf();
    await client.fetchManifest({ tag: "v1" });
    valid = "Bearer t2";
    const range = { startByte: 0, endByte: null };
    expect(layer.equals(await readAll(client.openBlob(image.layers[0]!.digest, range)))).toBe(true);
    expect(questions().length).toBe(2);
    valid = "Bearer none";
    await expect(client.fetchManifest({ tag: "v1" })).rejects.toMatchObject({
      code: "unauthorized",
    });
    expect(questions().length).toBe(3);
  });

  test("a token is renewed before it is too old", async () => {
    giveTokens({ expires_in: 3 });
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => /^Bearer t/.test(text)),
    );
    await using client = clientOf();
    await client.fetchManifest({ tag: "v1" });
    await client.fetchManifest({ tag: "v1" });
    expect(shown().at(-1)).toBe("Bearer t3");
    expect(registry.requests.filter(({ path }) => path.startsWith("/v2")).length).toBe(3);
  });

  test("requests at the same time share one token", async () => {
    giveTokens();
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer t1"),
    );
    await using client = clientOf();
    await Promise.all(Array.from({ length: 8 }, () => client.fetchManifest({ tag: "v1" })));
    expect(questions().length).toBe(1);
  });

  test("who gives up waiting for a token does not end it for the others", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    registry.misbehave(/^\/token/, async (_request, response) => {
      await held;
      response.end('{"token":"t1"}');
    });
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer t1"),
    );
    await using client = clientOf();
    const controller = new AbortController();
    const first = client.fetchManifest({ tag: "v1" }, controller.signal);
    const second = client.fetchManifest({ tag: "v1" });
    while (questions().length === 0) await new Promise(setImmediate);
    controller.abort(new Error("enough"));
    await expect(first).rejects.toThrow("enough");
    release();
    expect((await second).digest).toBe(image.manifest.digest);
    expect(questions().length).toBe(1);
  });

  test("an identity token is exchanged by POST", async () => {
    const bodies: string[] = [];
    registry.misbehave(/^\/token/, async (request, response) => {
      bodies.push(`${request.method} ${(await readAll(request)).toString()}`);
      response.end('{"access_token":"a1"}');
    });
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer a1"),
    );
    const auths = { [registry.host]: { auth: "", identitytoken: "the-identity" } };
    const files = {
      "etc/containers/registries.conf": insecureConf(registry.host),
      "etc/ostree/auth.json": JSON.stringify({ auths }),
    };
    const config = makeAccess(join(root, "identity"), { files });
    const name = parseRegistryReference(`${registry.host}/x/y`);
    await using client = openRegistryClient(name, config);
    await client.fetchManifest({ tag: "v1" });
    const [method, body] = bodies[0]!.split(" ");
    expect(method).toBe("POST");
    expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
      grant_type: "refresh_token",
      service: "the service",
      client_id: "bootc",
      scope: "repository:x/y:pull",
      refresh_token: "the-identity",
    });
    expect(registry.requests.some(({ path }) => path.includes("the-identity"))).toBe(false);
  });

  test("a token server that is busy is asked again", async () => {
    giveTokens();
    registry.misbehave(/^\/token/, status(503), status(200, {}, '{"token":"t1"}'));
    registry.misbehave(
      /^\/v2/,
      guard(bearer(), (text) => text === "Bearer t1"),
    );
    await resolve();
    expect(questions().length).toBe(2);
  });
});

test("every request names the program and its version", async () => {
  const { version } = JSON.parse(
    readFileSync(join(import.meta.dirname, "../../package.json"), "utf8"),
  );
  registry.misbehave(/^\/token/, status(200, {}, '{"token":"t1"}'));
  const challenge = `Bearer realm="${registry.origin}/token"`;
  registry.misbehave(
    /^\/v2/,
    guard(challenge, (text) => text === "Bearer t1"),
  );
  await resolve();
  const agents = registry.requests.map(({ headers }) => headers["user-agent"]);
  expect(new Set(agents)).toEqual(new Set([`bootc/${version}`]));
});

test.each([
  ["", false],
  [", also when they are redirected", true],
])("ranges that are asked for one after the other share a connection%s", async (_, isMoved) => {
  if (isMoved) {
    other.putImage([layer]);
    registry.misbehave(BLOB, (request, response, answer) => {
      const location = `${other.origin}${request.url}`;
      const headers = { location, "content-length": "5" };
      return status(307, headers, "there")(request, response, answer);
    });
  }
  await using client = clientOf();
  const { digest } = image.layers[0]!;
  await readAll(client.openBlob(digest, { startByte: 0, endByte: 10 }));
  const before = registry.connectionCount();
  for (let startByte = 10; startByte < 1000; startByte += 10) {
    const range = { startByte, endByte: startByte + 10 };
    const read = await readAll(client.openBlob(digest, range));
    expect(layer.subarray(startByte, startByte + 10).equals(read)).toBe(true);
  }
  expect(other.connectionCount()).toBeLessThan(3);
  // One more may be opened while the first is still being put away.
  expect(registry.connectionCount()).toBeLessThan(before + 2);
});

describe("trying again", () => {
  test.each([
    ["500", status(500)],
    ["502", status(502)],
    ["503", status(503)],
    ["408", status(408)],
    ["429", status(429)],
    ["a closed connection", (request: Parameters<Misbehaviour>[0]) => request.socket.destroy()],
    ["a document that breaks off", cut(Buffer.from("{"), 100)],
  ] as const)("after %s", async (_, answer) => {
    registry.misbehave(MANIFEST, answer as Misbehaviour, good);
    expect((await resolve()).manifestDigest).toBe(image.manifest.digest);
  });

  test.each([
    ["seconds", () => "1"],
    ["a date", () => new Date(Date.now() + 3000).toUTCString()],
  ])("Retry-After as %s is waited for", async (_, field) => {
    registry.misbehave(MANIFEST, status(429, { "retry-after": field() }), good);
    const started = performance.now();
    await resolve();
    expect(performance.now() - started).toBeGreaterThan(900);
  });

  test.each([["400"], ["404"], ["403"], ["410"], ["418"]])("not after %s", async (code) => {
    registry.misbehave(MANIFEST, status(Number(code)), good);
    expect(await refuse()).toBeInstanceOf(RegistryError);
    expect(registry.requests.length).toBe(1);
  });
});

describe("giving up", () => {
  const reason = new Error("enough");
  const abortAfter = (ms: number) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), ms);
    return controller.signal;
  };

  test.each([
    ["while nothing comes", silence],
    ["while waiting for its turn", status(503, { "retry-after": "600" })],
    ["in a document", cut(Buffer.from("{"), 0)],
  ])(
    "works at once %s",
    async (name, answer) => {
      const held: Misbehaviour = (_request, response) => {
        response.writeHead(200, { "content-length": 100 });
        response.write("{");
      };
      registry.misbehave(MANIFEST, name === "in a document" ? held : answer);
      await using client = clientOf({ maxWaitMs: 600_000 });
      await expect(client.fetchManifest({ tag: "v1" }, abortAfter(200))).rejects.toBe(reason);
    },
    20_000,
  );

  test("works at once in the middle of a blob", async () => {
    registry.misbehave(BLOB, (_request, response) => {
      response.writeHead(200, { "content-length": layer.length });
      response.write(layer.subarray(0, 1000));
    });
    await using client = clientOf();
    const range = { startByte: 0, endByte: null };
    const read = readAll(client.openBlob(image.layers[0]!.digest, range, abortAfter(200)));
    await expect(read).rejects.toBe(reason);
  });

  test("closing the source ends what it is doing", async () => {
    registry.misbehave(BLOB, silence);
    const opened = source();
    const resolving = opened.resolve();
    setTimeout(() => void opened[Symbol.asyncDispose]?.(), 200);
    await expect(resolving).rejects.toMatchObject({ code: "interrupted" });
  });
});

describe("referrers", () => {
  const signature = { mediaType: "application/x", digest: `sha256:${"1".repeat(64)}`, size: 5 };
  const index = (...manifests: object[]) => JSON.stringify({ schemaVersion: 2, manifests });
  const second = { ...signature, digest: `sha256:${"2".repeat(64)}` };

  test("come from the API, page after page", async () => {
    const link = `</v2/x/y/referrers/${image.manifest.digest}?n=1&last=a>; rel="next"`;
    registry.misbehave(/referrers/, status(200, { link }, index(signature)));
    registry.misbehave(/last=a/, status(200, {}, index(second)));
    await using client = clientOf();
    const found = await client.fetchReferrers(image.manifest.digest);
    expect(found.map(({ digest }) => digest)).toEqual([signature.digest, second.digest]);
  });

  test("a next page elsewhere is asked of the same place", async () => {
    const link = `<${other.origin}/evil?last=a>; rel="next"`;
    registry.misbehave(/referrers/, status(200, { link }, index(signature)));
    registry.misbehave(/last=a/, status(200, {}, index(second)));
    await using client = clientOf();
    expect((await client.fetchReferrers(image.manifest.digest)).length).toBe(2);
    expect(other.requests).toEqual([]);
  });

  test("pages without end are an error", async () => {
    const link = `</v2/x?last=b>; rel="next"`;
    registry.misbehave(/referrers/, status(200, { link }, index(signature)));
    await using client = clientOf();
    await expect(client.fetchReferrers(image.manifest.digest)).rejects.toMatchObject({
      code: "limit",
    });
  });

  test.each([["404"], ["400"], ["405"]])("after %s come from the fallback tag", async (code) => {
    registry.misbehave(/referrers/, status(Number(code)));
    registry.put(Buffer.from(index(signature)), OCI_INDEX, image.manifest.digest.replace(":", "-"));
    await using client = clientOf();
    const found = await client.fetchReferrers(image.manifest.digest);
    expect(found.map(({ digest }) => digest)).toEqual([signature.digest]);
  });

  test("are none when there is neither", async () => {
    await using client = clientOf();
    expect(await client.fetchReferrers(image.manifest.digest)).toEqual([]);
  });
});

describe("names", () => {
  test("a blocked image is refused before anybody is asked", async () => {
    const conf = `[[registry]]\nlocation = "${registry.host}/x"\nblocked = true\n`;
    const files = { "etc/containers/registries.conf": conf };
    const config = makeAccess(join(root, "blocked"), { files });
    const opened = openRegistrySource(`${registry.host}/x/y:v1`, ARCHITECTURE, () => config);
    const error = await opened.resolve().catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(PolicyError);
    expect(describeError(error)).toContain("etc/containers/registries.conf");
    expect(registry.requests).toEqual([]);
  });

  test("a short name is looked for in one registry after the other", async () => {
    registry.misbehave(/./, status(404));
    const found = other.putImage([layer], "v1");
    const search = `unqualified-search-registries = ["${registry.host}", "${other.host}"]\n`;
    const conf = `${search}short-name-mode = "permissive"\n${insecureConf(registry.host, other.host)}`;
    const files = { "etc/containers/registries.conf": conf };
    const config = makeAccess(join(root, "short"), { files });
    const opened = openRegistrySource("x/y:v1", ARCHITECTURE, () => config);
    const resolved = await opened.resolve();
    expect(resolved.manifestDigest).toBe(found.manifest.digest);
    const [first] = resolved.manifest.layers;
    expect(layer.equals(await readAll(opened.openLayer(first!, first!.digest)))).toBe(true);
    other.misbehave(/./, status(404));
    const error = await openRegistrySource("x/y:v1", ARCHITECTURE, () => config)
      .resolve()
      .catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: "not-found" });
    expect(describeError(error)).toContain("in none of the registries");
  });

  test("what is no name is refused", async () => {
    const config = access();
    const opened = openRegistrySource("UPPER/case", ARCHITECTURE, () => config);
    await expect(opened.resolve()).rejects.toThrow(UsageError);
  });
});
