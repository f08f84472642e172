// The registry transport against the real programs: Debian's docker-registry plain, with TLS and a private
// authority, with client certificates, htpasswd and tokens; nginx as mirror, content network and redirect
// target; images that skopeo pushed in every form.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { ensureRepository } from "../../shared/store/repository.ts";
import { pullImage } from "../../updater/image/pull.ts";
import { openRegistrySource } from "../../updater/image/registry-source.ts";
import { openRegistryClient } from "../../updater/registry/client.ts";
import { parseRegistryReference } from "../../updater/registry/reference.ts";
import { runImageTool } from "../support/image-tools.ts";
import { type BuiltImage, writeIndex, writeJson, writeLayout } from "../support/oci-builder.ts";
import { authFile, insecureConf, makeAccess, type TestConfig } from "../support/registry-access.ts";
import {
  type CertificateAuthority,
  makeAuthority,
  makeCertificate,
  makeSigner,
  type ServerCertificate,
} from "../support/registry-certificates.ts";
import { passTo, serveBlobs, startNginx, waitForAccess } from "../support/registry-nginx.ts";
import { startRegistry } from "../support/registry-server.ts";
import { startTokenServer, type TokenServer } from "../support/registry-token-server.ts";
import { findDamage } from "../support/repository-listing.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { TAR_END, tarMember } from "../support/tar-builder.ts";

const ARCHITECTURE = process.arch === "x64" ? "amd64" : process.arch;
const ISSUER = "token server of the tests";
const LOGIN = { username: "somebody", password: 'a "pass" word: with/signs' };

let scratch: string;
const servers: AsyncDisposable[] = [];
let authority: CertificateAuthority;
let certificate: ServerCertificate;
let plain: ServerProcess;
let secure: ServerProcess;
let guarded: ServerProcess;
let tokens: TokenServer;
let withTokens: ServerProcess;
let built: BuiltImage;

const at = ({ port }: { readonly port: number }) => `127.0.0.1:${port}`;
const directory = () => join(scratch, "registry");

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "real-"));
  authority = await makeAuthority(scratch, "authority");
  certificate = await makeCertificate(authority, "server", ["IP:127.0.0.1", "DNS:localhost"]);
  const signer = await makeSigner(scratch);
  plain = use(await startRegistry({ directory: directory(), name: "plain" }));
  // All registries share one storage.
  secure = use(await startRegistry({ directory: directory(), name: "secure", tls: certificate }));
  guarded = use(await startRegistry({ directory: directory(), name: "guarded", htpasswd: LOGIN }));
  const options = {
    ...LOGIN,
    signer,
    issuer: ISSUER,
    identityToken: "the-identity",
    isOpen: false,
  };
  tokens = use(await startTokenServer({ ...options, tls: certificate }));
  const token = { realm: tokens.realm, service: "tests", issuer: ISSUER };
  withTokens = use(
    await startRegistry({
      ...{ directory: directory(), name: "tokens", tls: certificate },
      token: { ...token, certificateBundle: signer.certificatePath },
    }),
  );
  await pushImages();
});
afterAll(async () => {
  for (const server of servers.reverse()) await server[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true, force: true });
});

function use<T extends AsyncDisposable>(server: T): T {
  servers.push(server);
  return server;
}

/** The same image in every form that skopeo can push. */
async function pushImages(): Promise<void> {
  const layout = join(scratch, "layout");
  const text = Buffer.alloc(3_000_000);
  for (let at = 0; at < text.length; at += 4) text.writeUInt32LE((at * 2654435761) % 2 ** 32, at);
  const tar = Buffer.concat([
    tarMember({ name: "usr/", type: "5" }),
    tarMember({ name: "usr/big", content: text }),
    tarMember({ name: "usr/small", content: Buffer.from("small") }),
    TAR_END,
  ]);
  const layers = [
    { tar },
    { tar: Buffer.concat([tarMember({ name: "etc/", type: "5" }), TAR_END]) },
  ];
  [built] = writeLayout(layout, [{ layers, tag: "v1" }]) as [BuiltImage];
  const forms: Readonly<Record<string, readonly string[]>> = {
    oci: [],
    docker: ["--format", "v2s2"],
    zstd: ["--dest-compress-format", "zstd", "--dest-force-compress-format"],
    chunked: ["--dest-compress-format", "zstd:chunked", "--dest-force-compress-format"],
  };
  for (const [tag, options] of Object.entries(forms)) {
    await push(layout, "v1", tag, options);
  }
  const platform = (architecture: string) => ({ os: "linux", architecture });
  const other = {
    ...built.manifest,
    platform: platform(ARCHITECTURE === "s390x" ? "arm" : "s390x"),
  };
  const index = writeJson(layout, "application/vnd.oci.image.index.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [other, { ...built.manifest, platform: platform(ARCHITECTURE) }],
  });
  writeIndex(layout, [{ ...index, annotations: { "org.opencontainers.image.ref.name": "index" } }]);
  await push(layout, "index", "index", ["--all"]);
}

async function push(layout: string, from: string, tag: string, options: readonly string[]) {
  const target = `docker://${at(plain)}/some/image:${tag}`;
  const copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", ...options];
  await runImageTool([...copy, `oci:${layout}:${from}`, target]);
}

let count = 0;
function access(config: TestConfig = {}) {
  return makeAccess(join(scratch, `root-${count++}`), config);
}

const insecure = (...hosts: string[]): TestConfig => ({
  files: { "etc/containers/registries.conf": insecureConf(...hosts) },
});
const trusting = (host: string, more: Readonly<Record<string, string>> = {}): TestConfig => ({
  files: {
    [`etc/containers/certs.d/${host}/ca.crt`]: readFileSync(authority.certificatePath, "utf8"),
    ...more,
  },
});
const login = (host: string) => ({
  "etc/ostree/auth.json": authFile(host, LOGIN.username, LOGIN.password),
});

/** Pulls into a new repository and returns the image and the diff_ids that arrived. */
async function pull(name: string, config: TestConfig) {
  const path = join(scratch, `repo-${count++}`);
  using repo = ensureRepository(null, path, { algorithm: "sha512", secure: false });
  const opened = openRegistrySource(name, ARCHITECTURE, () => access(config));
  try {
    const pulled = await pullImage(repo, opened);
    expect(await findDamage(repo)).toEqual([]);
    return pulled;
  } finally {
    await opened[Symbol.asyncDispose]?.();
    rmSync(path, { recursive: true });
  }
}

async function fail(name: string, config: TestConfig): Promise<string> {
  const failed = await pull(name, config).then(
    () => null,
    (error: unknown) => describeError(error),
  );
  if (failed === null) throw new Error("the pull succeeded");
  return failed;
}

const diffIds = () => built.layers.map(({ diffId }) => diffId);

describe("images as skopeo pushes them", () => {
  test.each([["oci"], ["docker"], ["zstd"], ["chunked"], ["index"]])("%s", async (tag) => {
    const pulled = await pull(`${at(plain)}/some/image:${tag}`, insecure(at(plain)));
    expect(pulled.config.rootfs.diff_ids).toEqual(diffIds());
    const types = pulled.manifest.layers.map(({ mediaType }) => mediaType);
    const expected = { docker: "docker", zstd: "zstd", chunked: "zstd" }[tag] ?? "gzip";
    expect(types.every((type) => type.includes(expected))).toBe(true);
  });

  test("by digest, and by tag and digest, is what skopeo sees there", async () => {
    const inspect = ["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
    const name = `${at(plain)}/some/image`;
    const digest = (await runImageTool([...inspect, `docker://${name}:docker`])).trim();
    for (const reference of [`${name}@${digest}`, `${name}:oci@${digest}`]) {
      expect((await pull(reference, insecure(at(plain)))).manifestDigest).toBe(digest);
    }
  });

  test("one that is not there", async () => {
    const text = await fail(`${at(plain)}/some/image:none`, insecure(at(plain)));
    expect(text).toContain("MANIFEST_UNKNOWN");
    expect(await fail(`${at(plain)}/no/image:v1`, insecure(at(plain)))).toContain("status 404");
  });
});

describe("TLS with a private authority", () => {
  const name = (server: ServerProcess) => `${at(server)}/some/image:oci`;

  test("works with its certificate in certs.d, and not without", async () => {
    await pull(name(secure), trusting(at(secure)));
    const text = await fail(name(secure), {});
    expect(text).toContain("is not trusted");
    expect(text).toContain(`etc/containers/certs.d/${at(secure)}/ca.crt`);
  });

  test("client certificates", async () => {
    const options = { tls: certificate, clientAuthority: authority.certificatePath };
    await using server = await startRegistry({
      directory: directory(),
      name: "mutual",
      ...options,
    });
    const client = await makeCertificate(authority, "client", []);
    const folder = `etc/containers/certs.d/${at(server)}`;
    await pull(
      name(server),
      trusting(at(server), {
        [`${folder}/client.cert`]: readFileSync(client.certificatePath, "utf8"),
        [`${folder}/client.key`]: readFileSync(client.keyPath, "utf8"),
      }),
    );
    const text = await fail(name(server), trusting(at(server)));
    expect(text).toContain(`etc/containers/certs.d/${at(server)}/client.cert`);
  });
});

describe("logins", () => {
  test("htpasswd", async () => {
    const name = `${at(guarded)}/some/image:oci`;
    const config = insecure(at(guarded));
    await pull(name, { files: { ...config.files, ...login(at(guarded)) } });
    expect(await fail(name, config)).toContain("wants a user name and a password");
    const wrong = { "etc/ostree/auth.json": authFile(at(guarded), LOGIN.username, "wrong") };
    const text = await fail(name, { files: { ...config.files, ...wrong } });
    expect(text).toMatch(/does not accept the credentials .*etc\/ostree\/auth.json/);
  });

  test("tokens by password", async () => {
    const host = at(withTokens);
    const name = `${host}/some/image:zstd`;
    const before = tokens.questions.length;
    await pull(name, trusting(host, login(host)));
    const asked = tokens.questions.slice(before);
    expect(asked.length).toBe(1);
    expect(asked[0]!.parameters.getAll("scope")).toEqual(["repository:some/image:pull"]);
    expect(await fail(name, trusting(host))).toMatch(
      /no access to "some\/image" without credentials/,
    );
    const wrong = { "etc/ostree/auth.json": authFile(host, LOGIN.username, "wrong") };
    expect(await fail(name, trusting(host, wrong))).toContain("does not accept the credentials");
  });

  test("tokens by identity token", async () => {
    const host = at(withTokens);
    const auths = { [host]: { auth: "", identitytoken: "the-identity" } };
    const file = { "etc/ostree/auth.json": JSON.stringify({ auths }) };
    await pull(`${host}/some/image:oci`, trusting(host, file));
    expect(tokens.questions.at(-1)!.method).toBe("POST");
  });

  test("tokens that last only a second are renewed in mid-pull", async () => {
    tokens.setLife(1);
    try {
      const host = at(withTokens);
      const before = tokens.questions.length;
      await pull(`${host}/some/image:oci`, trusting(host, login(host)));
      expect(tokens.questions.length - before).toBeGreaterThan(1);
    } finally {
      tokens.setLife(300);
    }
  });
});

describe("nginx", () => {
  const mirrorOf = (origin: string, ...mirrors: string[]) => ({
    files: {
      "etc/containers/registries.conf": `${insecureConf(origin)}${mirrors
        .map((host) => `[[registry.mirror]]\nlocation = "${host}"\ninsecure = true\n`)
        .join("")}`,
    },
  });
  const logOf = (name: string, pattern: RegExp) => waitForAccess(scratch, name, pattern);

  test("as a mirror", async () => {
    const locations = passTo(`http://${at(plain)}`);
    await using mirror = await startNginx({ directory: scratch, name: "mirror", locations });
    await pull("origin.example/some/image:zstd", mirrorOf("origin.example", at(mirror)));
    await logOf("mirror", /GET \/v2\/some\/image\/manifests\/zstd 200/);
  });

  test("as a mirror that has no blobs: they come from the registry", async () => {
    const locations = `location ~ /blobs/ { return 404; } ${passTo(`http://${at(plain)}`)}`;
    await using mirror = await startNginx({ directory: scratch, name: "half", locations });
    await pull(`${at(plain)}/some/image:oci`, mirrorOf(at(plain), at(mirror)));
    await logOf("half", /GET \/v2\/some\/image\/blobs\/\S+ 404/);
  });

  test("as a mirror behind TLS with our authority", async () => {
    const locations = passTo(`http://${at(plain)}`);
    const options = { directory: scratch, name: "tls", tls: certificate, locations };
    await using mirror = await startNginx(options);
    await pull(`${at(mirror)}/some/image:oci`, trusting(at(mirror)));
  });

  test("as a content network that blobs are redirected to: ranges work, the password stays behind", async () => {
    await using network = await startNginx({
      ...{ directory: scratch, name: "network" },
      locations: serveBlobs(join(directory(), "storage")),
    });
    const rules = `location ~ /blobs/(sha256:.*)$ { return 307 http://${at(network)}/cdn/$1; }
      ${passTo(`http://${at(guarded)}`)}`;
    await using front = await startNginx({ directory: scratch, name: "front", locations: rules });
    const config = insecure(at(front));
    const files = { ...config.files, ...login(at(front)) };
    const pulled = await pull(`${at(front)}/some/image:oci`, { files });
    await logOf("front", /"Basic /);
    const name = parseRegistryReference(`${at(front)}/some/image`);
    await using client = openRegistryClient(name, access({ files }));
    const parts: Uint8Array[] = [];
    const range = { startByte: 10, endByte: 30 };
    for await (const part of client.openBlob(pulled.manifest.layers[0]!.digest, range)) {
      parts.push(part);
    }
    expect(Buffer.concat(parts).length).toBe(20);
    const log = await logOf("network", /206 "bytes=10-29" "-"/);
    expect(log).not.toContain("Basic");
  });

  test("that has a limit of requests", async () => {
    const limits = `limit_req zone=few burst=1 nodelay; limit_req_status 429;
      error_page 429 = @late; location @late { add_header Retry-After 1 always; return 429; }
      ${passTo(`http://${at(plain)}`)}`;
    const name = "limited";
    const zone = "limit_req_zone $binary_remote_addr zone=few:1m rate=2r/s;";
    await using front = await startNginx({ directory: scratch, name, zone, locations: limits });
    const config = { ...insecure(at(front)), limits: { attempts: 8, maxWaitMs: 20_000 } };
    await pull(`${at(front)}/some/image:oci`, config);
    await logOf(name, / 429 /);
  });
});

describe("referrers", () => {
  test("docker-registry has no API for them: the fallback tag is used", async () => {
    const name = parseRegistryReference(`${at(plain)}/some/image`);
    await using client = openRegistryClient(name, access(insecure(at(plain))));
    const { digest } = await client.fetchManifest({ tag: "oci" });
    expect(await client.fetchReferrers(digest)).toEqual([]);
  });
});
