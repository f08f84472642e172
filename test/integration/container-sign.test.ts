// Statements in a real registry that has no referrers API, and keys in a real PKCS#11 token (SoftHSM).

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { parseSignedStatement } from "../../shared/format/trust/statement.ts";
import { openSigningKey, signStatement } from "../../updater/container/signing-key.ts";
import { parseTransportReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { addStatements } from "../../updater/image/statement-source.ts";
import { makePrograms } from "../support/doc-commands.ts";
import { runImageTool } from "../support/image-tools.ts";
import { writeLayout } from "../support/oci-builder.ts";
import { startRegistry } from "../support/registry-server.ts";
import { run } from "../support/run.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { pushBlob, pushManifest } from "../support/sigstore-artifacts.ts";
import { makeOs } from "../support/small-os.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const MANAGED = ["CONTAINERS_REGISTRIES_CONF", "SOFTHSM2_CONF", "OPENSSL_CONF", "PATH", "TMPDIR"];
const TYPE = "application/vnd.bootc-ts.image-statement.v1";
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const EMPTY = "application/vnd.oci.empty.v1+json";
const MODULE = "/usr/lib/softhsm/libsofthsm2.so";

describe.skipIf(notRoot !== "")(`statements and tokens${notRoot}`, () => {
  let scratch: string;
  const saved = new Map<string, string | undefined>();
  const at = (name: string) => join(scratch, name);

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "container-sign-"));
    for (const name of MANAGED) saved.set(name, process.env[name]);
    delete process.env["OPENSSL_CONF"];
  });
  afterAll(() => {
    for (const [name, value] of saved) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(scratch, { recursive: true, force: true });
  });

  describe("in a registry", () => {
    let registry: ServerProcess;
    let host: string;
    let digest: string;

    beforeAll(async () => {
      registry = await startRegistry({ directory: at("registry"), name: "plain" });
      host = `127.0.0.1:${registry.port}`;
      writeFileSync(at("registries.conf"), `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
      process.env["CONTAINERS_REGISTRIES_CONF"] = at("registries.conf");
      const [built] = writeLayout(at("layout"), [{ ...(await makeOs()), tag: "v1" }]);
      digest = built!.manifest.digest;
      await runImageTool([
        ...["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests"],
        ...["--dest-tls-verify=false", `oci:${at("layout")}:v1`, `docker://${host}/os:v1`],
      ]);
    });
    afterAll(() => registry?.[Symbol.asyncDispose]());

    const find = async () => {
      await using source = openSource(parseTransportReference(`docker://${host}/os:v1`));
      const { statements } = await addStatements(source, await source.resolve());
      return statements.documents.map((bytes) => Buffer.from(bytes).toString());
    };

    /** What `oras` and others push: an artifact, listed under the fallback tag. */
    async function pushArtifact(text: string, artifactType: string | null) {
      const config = await pushBlob(`${host}/os`, EMPTY, {});
      const layer = await pushBlob(`${host}/os`, TYPE, Buffer.from(text));
      const subject = { mediaType: MANIFEST, digest, size: 1 };
      const manifest = {
        ...{ schemaVersion: 2, mediaType: MANIFEST, artifactType: TYPE },
        ...{ config, layers: [layer], subject },
      };
      const own = await pushManifest(`${host}/os`, null, manifest);
      const size = Buffer.byteLength(JSON.stringify(manifest));
      const type = artifactType === null ? {} : { artifactType };
      return { mediaType: MANIFEST, digest: own, size, ...type };
    }

    test("none", async () => {
      expect(await find()).toEqual([]);
    });

    test("under the fallback tag, whatever the list says about types", async () => {
      const manifests = [
        await pushArtifact("typed", TYPE),
        await pushArtifact("untyped", null),
        await pushArtifact("empty type", EMPTY),
        await pushArtifact("of another type", "application/vnd.x"),
        await pushArtifact("x".repeat(8193), TYPE),
        await pushArtifact("last", TYPE),
      ];
      const index = "application/vnd.oci.image.index.v1+json";
      const list = { schemaVersion: 2, mediaType: index, manifests };
      await pushManifest(`${host}/os`, digest.replace(":", "-"), list);
      expect(await find()).toEqual(["typed", "untyped", "empty type", "last"]);
    });
  });

  describe("a token", () => {
    const pkcs11 = (text: string) => {
      const own = `module-path=${MODULE}&pin-source=file:${at("pin")}`;
      return `pkcs11:token=vendor;${text}?${own}`;
    };

    beforeAll(async () => {
      for (const name of ["tokens", "tmp"]) mkdirSync(at(name));
      process.env["TMPDIR"] = at("tmp");
      writeFileSync(at("softhsm2.conf"), `directories.tokendir = ${at("tokens")}\n`);
      writeFileSync(at("pin"), "123456");
      writeFileSync(at("wrong-pin"), "99");
      process.env["SOFTHSM2_CONF"] = at("softhsm2.conf");
      const programs = await makePrograms(at("programs"), {
        tools: { openssl: [], "softhsm2-util": [], "pkcs11-tool": [] },
        image: {},
      });
      process.env["PATH"] = `${programs}:${process.env["PATH"]}`;
      const initialize = "--init-token --free --label vendor --so-pin 87654321 --pin 123456";
      await run(["softhsm2-util", ...initialize.split(" ")]);
      for (const [label, type, id] of [
        ["release", "EC:edwards25519", "01"],
        ["p256", "EC:prime256v1", "02"],
        ["no-id", "EC:edwards25519", ""],
      ] as const) {
        const common = `--module ${MODULE} --token-label vendor --login --pin 123456 --keypairgen`;
        const words = `${common} --key-type ${type} --label ${label}`.split(" ");
        await run(["pkcs11-tool", ...words, ...(id === "" ? [] : ["--id", id])]);
      }
    });

    const text =
      "bootc-ts image statement 1\n" +
      `digest: ${"ab".repeat(64)}\nalgorithm: sha512-12\nformat: erofs-v1\nversion: 1\n`;

    test.each(["object=release", "object=release;type=private", "id=%01"])("%s signs", (name) => {
      const key = openSigningKey(pkcs11(name));
      expect(key.key.name).toBe(name.startsWith("id") ? "%01" : "release");
      const { fingerprint, signature } = signStatement(key, text);
      const line = `signature: ${fingerprint} ${Buffer.from(signature).toString("base64")}\n`;
      const parsed = parseSignedStatement(Buffer.from(text + line), "x");
      expect(parsed.signatures).toHaveLength(1);
    });

    test("a configuration of one's own is used", () => {
      const conf = [
        "openssl_conf = init\n[init]\nproviders = sect\n[sect]\ndefault = d\npkcs11 = p",
        `[d]\nactivate = 1\n[p]\npkcs11-module-path = ${MODULE}`,
        "pkcs11-module-quirks = no-deinit\nactivate = 1\n",
      ].join("\n");
      writeFileSync(at("own.cnf"), conf);
      process.env["OPENSSL_CONF"] = at("own.cnf");
      try {
        const uri = `pkcs11:token=vendor;object=release?pin-source=file:${at("pin")}`;
        expect(signStatement(openSigningKey(uri), text).signature).toHaveLength(64);
      } finally {
        delete process.env["OPENSSL_CONF"];
      }
    });

    test.each([
      ["no such key", () => pkcs11("object=nothing"), 'Token key "nothing" cannot be used'],
      [
        "another kind of key",
        () => pkcs11("object=p256"),
        "another public key than one of Ed25519",
      ],
      ["a key without id", () => pkcs11("object=no-id"), "No CKA_ID"],
      [
        "a wrong PIN",
        () => pkcs11("object=release").replace("/pin", "/wrong-pin"),
        'Token key "release" cannot be used',
      ],
      [
        "a driver that is not there",
        () => pkcs11("object=release").replace("softhsm2", "nothing"),
        "that module-path= leads to the token's driver",
      ],
    ])("%s", (_, uri, message) => {
      try {
        openSigningKey(uri());
        expect.unreachable();
      } catch (error) {
        expect(describeError(error)).toContain(message);
        expect(describeError(error)).not.toContain("123456");
      }
    });

    test("nothing is left in the temporary directory", () => {
      expect(readdirSync(at("tmp"))).toEqual([]);
    });
  });
});
