// docs/signing.md, run as it is written: real openssl, SoftHSM, skopeo and a real registry. What comes out of it is then
// found and judged as machines do.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseTrustAnchors } from "../../shared/format/trust/anchors.ts";
import { judgeImage } from "../../shared/format/trust/judgement.ts";
import { parseTrustKeys } from "../../shared/format/trust/key.ts";
import { formatStatement, parseSignedStatement } from "../../shared/format/trust/statement.ts";
import { parseTransportReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { readStatements } from "../../updater/image/statement-source.ts";
import { makePrograms, readDocCommands, runDocCommands } from "../support/doc-commands.ts";
import { runImageTool } from "../support/image-tools.ts";
import { type BuiltImage, writeLayout } from "../support/oci-builder.ts";
import { startRegistry } from "../support/registry-server.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { makeOs } from "../support/small-os.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const MANAGED = ["CONTAINERS_REGISTRIES_CONF", "CONTAINERS_POLICY_JSON", "HOME"];

describe.skipIf(notRoot !== "")(`docs/signing.md${notRoot}`, () => {
  let scratch: string;
  let work: string;
  let registry: ServerProcess;
  let host: string;
  let programs: string;
  let built: BuiltImage;
  const saved = new Map<string, string | undefined>();
  const at = (name: string) => join(scratch, name);
  const inWork = (name: string) => join(work, name);

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "signing-doc-"));
    work = at("work");
    for (const path of [work, at("home"), at("tokens")]) mkdirSync(path);
    registry = await startRegistry({ directory: at("registry"), name: "plain" });
    host = `127.0.0.1:${registry.port}`;
    writeFileSync(at("registries.conf"), `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
    writeFileSync(at("policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
    writeFileSync(at("softhsm2.conf"), `directories.tokendir = ${at("tokens")}\n`);
    for (const name of MANAGED) saved.set(name, process.env[name]);
    process.env["CONTAINERS_REGISTRIES_CONF"] = at("registries.conf");
    process.env["CONTAINERS_POLICY_JSON"] = at("policy.json");
    process.env["HOME"] = at("home");
    [built] = writeLayout(at("built"), [{ ...(await makeOs()), tag: "v1" }]) as [BuiltImage];
    await runImageTool([
      ...["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"],
      ...[`oci:${at("built")}:v1`, `docker://${host}/os:build`],
    ]);
    programs = await makePrograms(at("programs"), {
      tools: { openssl: [], "softhsm2-util": [], "pkcs11-tool": [] },
      image: { skopeo: ["--registries-conf", at("registries.conf")] },
    });
  });
  afterAll(async () => {
    for (const [name, value] of saved) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await registry?.[Symbol.asyncDispose]();
    rmSync(scratch, { recursive: true, force: true });
  });

  const runCommands = (commands: readonly string[]) => {
    const here = commands.map((command) => command.replaceAll("registry.example.com", host));
    const environment = { SOFTHSM2_CONF: at("softhsm2.conf"), TMPDIR: tmpdir() };
    return runDocCommands(here, { directory: work, programs }, environment);
  };

  async function findStatement(reference: string) {
    await using source = openSource(parseTransportReference(reference));
    const resolved = await source.resolve();
    for await (const { document } of readStatements(source, resolved)) {
      return { ...parseSignedStatement(document, reference), document, resolved };
    }
    throw new Error(`${reference} has no statement`);
  }

  /** Name of the key that counts on a machine that has these. */
  function judge(document: Uint8Array, keyFiles: readonly string[], revoked = "") {
    const { digest, algorithm } = parseSignedStatement(document, "x").statement;
    const keys = new Map(keyFiles.map((name) => [name, readFileSync(inWork(name), "latin1")]));
    const files = { keys, revoked: new Map([["list", revoked]]), conf: null };
    const question = { id: digest, algorithm, document, floor: null, now: new Date() };
    return judgeImage({ ...question, anchors: parseTrustAnchors(files) }).key?.name;
  }

  test("every command works, and machines accept what it made", async () => {
    const commands = readDocCommands("docs/signing.md");
    expect(commands.length).toBeGreaterThan(18);
    await runCommands(commands);

    // In five minutes, through skopeo and the registry; which compress its layers in their own way.
    const published = await findStatement(`docker://${host}/os:v42`);
    expect(published.statement).toMatchObject({ version: 42, expires: null });
    expect(judge(published.document, ["release.pub"])).toBe("release.pub");
    const { annotations, config } = published.resolved.manifest;
    expect(Object.keys(annotations!)).toEqual(["io.bootc-ts.image-statement.v1"]);
    expect(config.digest).toBe(built.config.digest);

    // It is the digest that machines compute.
    const pulled = await runCommands([
      `bootc internals cfs --repo "$PWD/repo" init --insecure`,
      `bootc internals cfs --repo "$PWD/repo" oci pull --bootable docker://registry.example.com/os:v42 os`,
    ]);
    expect(pulled).toContain(`Boot image: ${published.statement.digest}\n`);

    // Only the document.
    const document = readFileSync(inWork("os.statement"));
    expect(Buffer.from(published.document).equals(document)).toBe(true);

    // Beside the image, and signed there once more.
    const layout = JSON.parse(readFileSync(inWork("beside/index.json"), "utf8"));
    expect(layout.manifests).toHaveLength(2);
    expect(layout.manifests[1].artifactType).toBe("application/vnd.bootc-ts.image-statement.v1");
    const beside = await findStatement(`oci:${inWork("beside")}`);
    expect(beside.signatures).toHaveLength(2);
    expect(judge(beside.document, ["next.pub"])).toBe("next.pub");
    // skopeo leaves the artifact behind: why the annotation is the default.
    await runCommands([
      "skopeo copy -q --preserve-digests oci:beside:v42 docker://registry.example.com/os:beside",
    ]);
    await expect(findStatement(`docker://${host}/os:beside`)).rejects.toThrow("has no statement");

    // Signing elsewhere.
    const { statement } = published;
    const unsigned = formatStatement({ ...statement, version: 44 });
    expect(readFileSync(inWork("statement"), "utf8")).toBe(unsigned);

    // A new key: both, each alone, and the new one when the old is revoked.
    const both = await findStatement(`oci:${inWork("release")}:v42`);
    expect(both.statement.version).toBe(45);
    expect(both.signatures).toHaveLength(2);
    for (const name of ["release.pub", "next.pub"]) expect(judge(both.document, [name])).toBe(name);
    const revoked = readFileSync(inWork("revoked"), "utf8");
    const [release] = parseTrustKeys(readFileSync(inWork("release.pub"), "latin1"), "release.pub");
    expect(revoked).toBe(`key ${release!.fingerprint}\n`);
    expect(judge(both.document, ["release.pub", "next.pub"], revoked)).toBe("next.pub");
    const published42 = () => judge(published.document, ["release.pub", "next.pub"], revoked);
    expect(published42).toThrow("which is revoked");
  });
});
