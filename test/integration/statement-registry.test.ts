// Statements in a registry that fails when it is asked for them: a machine of signed images takes nothing that it
// knows no signature of, says that it could not look, and where, and takes the image once the registry works.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { hostArchitecture } from "../../shared/format/oci/platform.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openRegistrySource } from "../../updater/image/registry-source.ts";
import { STATEMENT_TYPE } from "../../updater/image/statement-source.ts";
import {
  cut,
  type HostileRegistry,
  type MemoryDescriptor,
  type Misbehaviour,
  OCI_INDEX,
  OCI_MANIFEST,
  startHostileRegistry,
  status,
} from "../support/hostile-registry.ts";
import { insecureConf, makeAccess } from "../support/registry-access.ts";
import type { RunningMachine } from "../support/scratch-machine.ts";
import { sign, trustKey } from "../support/trust-place.ts";
import { refusal, SIGNED, TrustRig } from "../support/trust-rig.ts";

const REFERRERS = /\/referrers\//;
const TAG = /\/manifests\/sha256-/;
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const reset: Misbehaviour = ({ socket }) => void socket.destroy();

const policyBefore = process.env["CONTAINERS_POLICY_JSON"];
let rig: TrustRig;
let running: RunningMachine;
let registry: HostileRegistry;
let manifest: MemoryDescriptor;
let artifact: MemoryDescriptor;
let statement: MemoryDescriptor;

beforeAll(async () => {
  rig = new TrustRig();
  const policy = join(rig.machine.directory, "policy.json");
  writeFileSync(policy, json({ default: [{ type: "insecureAcceptAnything" }] }));
  process.env["CONTAINERS_POLICY_JSON"] = policy;
  await rig.install();
  running = rig.images.boot();
});
afterAll(() => {
  if (policyBefore === undefined) delete process.env["CONTAINERS_POLICY_JSON"];
  else process.env["CONTAINERS_POLICY_JSON"] = policyBefore;
  running[Symbol.dispose]();
  rig[Symbol.dispose]();
});

/** The next image, in a registry that works, its statement beside it. */
beforeEach(async () => {
  registry = await startHostileRegistry();
  const { signers: _, ...unsigned } = SIGNED;
  const id = await rig.put({ ...unsigned, version: "2" });
  const blobs = join(rig.path, "blobs/sha256");
  for (const name of readdirSync(blobs)) {
    registry.put(readFileSync(join(blobs, name)), "application/octet-stream");
  }
  const [{ digest }] = JSON.parse(readFileSync(join(rig.path, "index.json"), "utf8")).manifests;
  const bytes = readFileSync(join(blobs, digest.slice("sha256:".length)));
  manifest = registry.put(bytes, OCI_MANIFEST, "v2");
  const text = sign(id, [trustKey("vendor")], { version: 6 });
  statement = registry.put(Buffer.from(text), STATEMENT_TYPE);
  const config = registry.put(Buffer.from("{}"), "application/vnd.oci.empty.v1+json");
  artifact = registry.put(
    json({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: STATEMENT_TYPE },
      ...{ config, layers: [statement], subject: manifest },
    }),
    OCI_MANIFEST,
  );
  registry.misbehave(REFERRERS, listed());
  return () => registry[Symbol.asyncDispose]();
});

function listed(): Misbehaviour {
  const manifests = [{ ...artifact, artifactType: STATEMENT_TYPE }];
  const list = { schemaVersion: 2, mediaType: OCI_INDEX, manifests };
  return status(200, { "content-type": OCI_INDEX }, json(list));
}

function update(changes: Partial<UpdateRequest> = {}) {
  const name = `${registry.host}/os:v2`;
  const files = { "etc/containers/registries.conf": insecureConf(registry.host) };
  const access = makeAccess(join(rig.machine.directory, "config"), { files });
  const source = openRegistrySource(name, hostArchitecture(), () => access);
  const reference = makeImageReference("registry", name);
  return rig.update(running, { kind: "switch", reference, source, dryRun: true, ...changes });
}

test("a registry that works: the statement is found, and the image taken", async () => {
  expect(await update()).toMatchObject({
    kind: "planned",
    preparation: { trust: { judgement: { statement: { version: 6 } }, warnings: [] } },
  });
});

test("without the API, from the list under the tag", async () => {
  registry.misbehave(REFERRERS, status(404));
  registry.misbehave(TAG, listed());
  expect((await update()).kind).toBe("planned");
});

test("neither API nor list: it is not signed", async () => {
  registry.misbehave(REFERRERS, status(404));
  expect(await refusal(update())).toMatch(
    /^unsigned: .*: it is not signed; "--allow-weaker-trust"/,
  );
});

describe.each<[string, Misbehaviour, RegExp]>([
  ["status 500", status(500), /cannot answer now \(status 500\)/],
  ["status 401", status(401), /wants a login/],
  ["a connection that is reset", reset, /127\.0\.0\.1/],
  ["an answer that breaks off", cut(Buffer.from("{"), 100), /127\.0\.0\.1/],
  [
    "an answer that is no document",
    status(200, { "content-type": OCI_INDEX }, "<html>"),
    /JSON|document with digest|too few/,
  ],
])("%s", (_, failing, reason) => {
  const places: readonly [string, () => RegExp][] = [
    ["the referrers API", () => REFERRERS],
    ["the fallback tag", () => TAG],
    ["the artifact", () => new RegExp(`manifests/${artifact.digest}`)],
    ["the statement in it", () => new RegExp(`blobs/${statement.digest}`)],
  ];
  test.each(places)("for %s: refused, and told so", async (place, path) => {
    if (place === "the fallback tag") registry.misbehave(REFERRERS, status(404));
    registry.misbehave(path(), failing);
    const states = rig.states();
    const text = await refusal(update({ dryRun: false }));
    expect(text).toMatch(
      /^unsigned: .*: no statement of it was found; not all statements of "docker:/,
    );
    expect(text).toMatch(reason);
    expect(text).toMatch(/try again when that works, or have the statement in the manifest itself/);
    expect(text).not.toContain("\n");
    expect(rig.states()).toEqual(states);
    expect(await update({ allowWeakerTrust: true }).catch(String)).toMatch(/its own initramfs/);
  });
});
