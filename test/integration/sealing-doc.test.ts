// docs/sealing.md, run as it is written: real openssl, efitools, ukify, sbsign, umoci, skopeo and a real registry. What
// comes out of it is then looked at.

import { createHash, generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makePrograms, readDocCommands, runDocCommands } from "../support/doc-commands.ts";
import { writeLayout } from "../support/oci-builder.ts";
import { startRegistry } from "../support/registry-server.ts";
import { makeSealable, SEALABLE_PROGRAM } from "../support/sealable-image.ts";
import type { ServerProcess } from "../support/server-process.ts";
import { ROOT } from "../support/source-tree.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const DOCUMENT = "docs/sealing.md";
const MANAGED = ["CONTAINERS_REGISTRIES_CONF", "CONTAINERS_POLICY_JSON", "HOME"];
const EFITOOLS = ["cert-to-efi-sig-list", "sign-efi-sig-list", "hash-to-efi-sig-list"];

test("the commands for a machine are those that the VM tests run", () => {
  const text = readFileSync(join(ROOT, DOCUMENT), "utf8");
  const blocks = [...text.matchAll(/^```console vm\n(.*?)^```$/gms)].map(([, block]) => block!);
  const commands = blocks.flatMap((block) =>
    [...block.matchAll(/^# (.*)$/gm)].map(([, command]) => command!),
  );
  expect(commands.length).toBeGreaterThan(3);
  const sources = ["installed-disk.ts", "sealed-pair.ts", "sealed.test.ts"]
    .map((name) => readFileSync(join(ROOT, "test/vm", name), "utf8"))
    .join("\n")
    .replaceAll("bootc switch --quiet ", "bootc switch ")
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as the source has it
    .replaceAll("${place}/", "/var/mnt/usb/");
  // Where it is mounted differs.
  const known = (command: string) => sources.includes(command.replace(/ \/mnt$/, " "));
  expect(commands.filter((command) => !known(command))).toEqual([]);
});

describe.skipIf(notRoot !== "")(`${DOCUMENT}${notRoot}`, () => {
  let scratch: string;
  let work: string;
  let registry: ServerProcess;
  let host: string;
  let programs: string;
  const saved = new Map<string, string | undefined>();
  const at = (name: string) => join(scratch, name);

  beforeAll(async () => {
    scratch = mkdtempSync(join(tmpdir(), "sealing-doc-"));
    work = at("work");
    for (const path of [work, at("home")]) mkdirSync(path);
    registry = await startRegistry({ directory: at("registry"), name: "plain" });
    host = `127.0.0.1:${registry.port}`;
    writeFileSync(at("registries.conf"), `[[registry]]\nlocation = "${host}"\ninsecure = true\n`);
    writeFileSync(at("policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
    for (const name of MANAGED) saved.set(name, process.env[name]);
    process.env["CONTAINERS_REGISTRIES_CONF"] = at("registries.conf");
    process.env["CONTAINERS_POLICY_JSON"] = at("policy.json");
    process.env["HOME"] = at("home");
    await makeImages();
    const efitools = Object.fromEntries(EFITOOLS.map((name) => [name, []]));
    programs = await makePrograms(at("programs"), {
      tools: { openssl: [], ukify: [], sbsign: [], sbverify: [], ...efitools },
      image: { skopeo: ["--registries-conf", at("registries.conf")], umoci: [] },
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

  /** What was built before the page begins. */
  async function makeImages(): Promise<void> {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const pem = publicKey.export({ format: "pem", type: "spki" }).toString();
    writeFileSync(join(work, "release.pub"), pem);
    const key = privateKey.export({ format: "pem", type: "pkcs8" });
    writeFileSync(join(work, "release.key"), key, { mode: 0o600 });
    const runtimeDigest = createHash("sha256").update(SEALABLE_PROGRAM).digest("hex");
    writeLayout(join(work, "os"), [
      await makeSealable({ tag: "build" }),
      await makeSealable({ tag: "with-key", trust: { "keys.d/release.pub": pem } }),
      await makeSealable({ tag: "without-program", runtimeDigest }),
    ]);
  }

  const runCommands = (commands: readonly string[]) => {
    const here = commands.map((command) => command.replaceAll("registry.example.com", host));
    return runDocCommands(here, { directory: work, programs }, { TMPDIR: scratch });
  };

  test("every command works, and what it made is good", async () => {
    const commands = readDocCommands(DOCUMENT);
    expect(commands.length).toBeGreaterThan(35);
    await runCommands(commands);

    const { manifests } = JSON.parse(readFileSync(join(work, "release/index.json"), "utf8"));
    const names = manifests.map(
      (each: { annotations: Record<string, string> }) =>
        each.annotations["org.opencontainers.image.ref.name"],
    );
    const versions = Array.from({ length: 8 }, (_, index) => `v${42 + index}`);
    expect(names).toEqual(expect.arrayContaining([...versions, "ephemeral"]));
    const published = await runCommands([
      `bootc container verify --format json --certificate db.crt docker://registry.example.com/os:v42`,
    ]);
    expect(JSON.parse(published)).toMatchObject({ mode: "sealed", findings: [], warnings: [] });
    // Also what is in a registry can be sealed anew; its layers stay as they are there.
    await runCommands([
      "bootc container seal --reseal --unsigned docker://registry.example.com/os:v42 oci:fetched:v1",
    ]);
    const blobs = (name: string) => readdirSync(join(work, name, "blobs/sha256"));
    const fromSource = blobs("fetched").filter((blob) => blobs("os").includes(blob));
    expect(fromSource).toHaveLength(2);
    const changed = runCommands(["bootc container verify oci:release:changed"]);
    await expect(changed).rejects.toThrow('the first difference is "/usr/lib/greeting"');
    expect(readdirSync(join(work, "secureboot-keys/auto")).sort()).toEqual([
      "KEK.auth",
      "PK.auth",
      "db.auth",
    ]);
    expect(readdirSync(scratch).filter((name) => name.startsWith("bootc-"))).toEqual([]);
  });
});
