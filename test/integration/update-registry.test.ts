// A machine's life over the network: installed from a real registry, checked for an update, updated, and told
// that nothing is new; then a mirror takes over when the registry is gone, and a failure leaves all as it was.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { readStagedFile } from "../../updater/deploy/state-directory.ts";
import { type UpdateOutcome, updateImage } from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { runImageTool } from "../support/image-tools.ts";
import { openPolicyRig, type PolicyRig } from "../support/policy-rig.ts";
import { startRegistry } from "../support/registry-server.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";

const ANYTHING = { type: "insecureAcceptAnything" };
let rig: PolicyRig;
let machine: ScratchMachine;
let running: RunningMachine;
let stagedId: string;

beforeAll(async () => {
  rig = await openPolicyRig();
  process.env["CONTAINERS_POLICY_JSON"] = rig.writePolicy({ default: [ANYTHING] });
  machine = new ScratchMachine();
  await push("1");
  const reference = makeImageReference("registry", `${rig.host}/os:latest`);
  await using source = openSource(reference);
  const place = { source, sourceReference: reference, targetReference: reference };
  await installScratch(machine, "replaced by the registry", place);
  running = machine.boot();
});
afterAll(async () => {
  running?.[Symbol.dispose]();
  machine?.[Symbol.dispose]();
  await rig?.[Symbol.asyncDispose]();
});

/** Version `version` becomes "os:latest". */
async function push(version: string): Promise<void> {
  const layout = join(rig.directory, `os-${version}`);
  writeScratchImage(layout, { version });
  const copy = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"];
  await runImageTool([...copy, `oci:${layout}`, `docker://${rig.host}/os:latest`]);
}

async function update(options: { readonly checkOnly: boolean }): Promise<UpdateOutcome> {
  const reference = makeImageReference("registry", `${rig.host}/os:latest`);
  await using source = openSource(reference);
  const rest = { downloadOnly: false, dryRun: false, ...options };
  const request = { kind: "upgrade", reference, source, ...rest } as const;
  const observer = { onProgress: () => {}, onStep: () => {} };
  return await updateImage(running, running.booted, request, observer);
}

test("what is installed is what the registry has", async () => {
  expect(await update({ checkOnly: true })).toMatchObject({ kind: "unchanged", slot: "booted" });
});

test("an update is seen, with what it costs, and staged", async () => {
  await push("2");
  const seen = await update({ checkOnly: true });
  expect(seen).toMatchObject({ kind: "available", facts: { version: "2" } });
  const staged = await update({ checkOnly: false });
  expect(staged).toMatchObject({ kind: "staged", facts: { version: "2" } });
  if (seen.kind !== "available" || staged.kind !== "staged") throw new Error("unreachable");
  expect(staged.manifestDigest).toBe(seen.manifestDigest);
  expect(await update({ checkOnly: false })).toMatchObject({ kind: "already-staged" });
  stagedId = staged.id;
});

test("an image that is not there is named with its registry", async () => {
  const reference = makeImageReference("registry", `${rig.host}/other:latest`);
  await using source = openSource(reference);
  const error = await source.resolve().catch((reason: unknown) => reason);
  expect(describeError(error)).toMatch(new RegExp(`${rig.host}/other:latest`));
});

test("an image that policy refuses is not fetched, and what was staged stays staged", async () => {
  await push("3");
  const accepting = process.env["CONTAINERS_POLICY_JSON"];
  const path = rig.writePolicy({
    default: [ANYTHING],
    transports: { docker: { [rig.host]: [{ type: "reject" }] } },
  });
  process.env["CONTAINERS_POLICY_JSON"] = path;
  const before = rig.registry.log().length;
  const error = await update({ checkOnly: false }).catch((reason: unknown) => reason);
  expect(describeError(error)).toContain(path);
  expect(describeError(error)).toContain(rig.host);
  expect(rig.registry.log().slice(before)).not.toMatch(/GET \S*\/blobs\//);
  process.env["CONTAINERS_POLICY_JSON"] = accepting;
  expect(readStagedFile(running.system)?.id).toBe(stagedId);
});

test("a mirror serves when the registry is gone", async () => {
  const storage = join(rig.directory, "registry");
  await using mirror = await startRegistry({ directory: storage, name: "mirror" });
  const entry = `[[registry]]\nlocation = "${rig.host}"\ninsecure = true\n`;
  const place = `[[registry.mirror]]\nlocation = "127.0.0.1:${mirror.port}"\ninsecure = true\n`;
  writeFileSync(join(rig.directory, "registries.conf"), `${entry}${place}`);
  await rig.registry[Symbol.asyncDispose]();
  expect(await update({ checkOnly: false })).toMatchObject({
    kind: "staged",
    facts: { version: "3" },
  });
});

test.concurrent.each([
  ["that does not answer", "127.0.0.1:1", /Nothing answers at "127.0.0.1:1"; check host and port/],
  ["that nobody knows", "registry.invalid", /Nobody knows the address of "registry.invalid"; /],
])("a registry %s", async (_, host, text) => {
  await using source = openSource(makeImageReference("registry", `${host}/os`));
  const error = await source.resolve().catch((reason: unknown) => reason);
  expect(describeError(error)).toMatch(text);
});
