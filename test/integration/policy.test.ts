// Policy in the verbs: what is fetched before the decision, what is written down about it, and for how long.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { finalizeStaged } from "../../updater/deploy/finalize.ts";
import { makeHostState } from "../../updater/deploy/host-state.ts";
import { parseOrigin } from "../../updater/deploy/origin.ts";
import { statePaths } from "../../updater/deploy/state-directory.ts";
import type { UpdateRequest } from "../../updater/deploy/update.ts";
import { resolveAdmitted } from "../../updater/image/policy/admission.ts";
import {
  type ImageReference,
  makeImageReference,
  parseOriginReference,
  parseTransportReference,
} from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { formatHostHuman } from "../../updater/output/human.ts";
import { makeHost } from "../../updater/spec/make-host.ts";
import { openPolicyRig, type PolicyRig, refusal } from "../support/policy-rig.ts";
import { writeScratchImage } from "../support/scratch-image.ts";
import { installScratch } from "../support/scratch-install.ts";
import { type RunningMachine, ScratchMachine } from "../support/scratch-machine.ts";
import { updateScratch } from "../support/scratch-update.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const ACCEPT = { type: "insecureAcceptAnything" };
const REJECT = { type: "reject" };

describe.skipIf(notRoot !== "")(`policy in the verbs${notRoot}`, () => {
  let rig: PolicyRig;
  let machine: ScratchMachine;
  let layout: string;
  beforeAll(async () => {
    rig = await openPolicyRig();
    layout = join(rig.directory, "os.oci");
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());
  beforeEach(() => {
    machine = new ScratchMachine();
  });
  afterEach(() => {
    delete process.env["CONTAINERS_POLICY_JSON"];
    machine[Symbol.dispose]();
  });

  const usePolicy = (policy: unknown) => {
    const path = rig.writePolicy(policy);
    process.env["CONTAINERS_POLICY_JSON"] = path;
    return path;
  };
  const signedByGood = () => ({
    type: "signedBy",
    keyType: "GPGKeys",
    keyPath: rig.gpg.keyring("good"),
  });
  const strictPolicy = () => ({
    default: [REJECT],
    transports: { docker: { [`${rig.host}/os`]: [signedByGood()] }, oci: { "": [ACCEPT] } },
  });
  /** A new version of the operating system, pushed as os/desktop:v1. */
  const pushVersion = async (version: string, ...options: readonly string[]) => {
    writeScratchImage(layout, { version });
    await rig.script(
      `skopeo --insecure-policy --registries.d home/.config/containers/registries.d copy -q --dest-tls-verify=false --preserve-digests ${options.join(" ")} oci:${layout} docker://${rig.host}/os/desktop:v1`,
      { GNUPGHOME: rig.gpg.home },
    );
  };
  const sign = () => ["--sign-by", rig.gpg.fingerprint("good")];
  const desktop = (signature?: "containerPolicy"): ImageReference => ({
    ...makeImageReference("registry", `${rig.host}/os/desktop:v1`),
    ...(signature && { signature }),
  });
  const install = (reference: ImageReference) =>
    installScratch(machine, layout, {
      source: openSource(reference),
      sourceReference: reference,
      targetReference: reference,
    });
  const update = (running: RunningMachine, changes: Partial<UpdateRequest>) =>
    updateScratch(running, layout, { reference: desktop(), ...changes });
  const state = (running: RunningMachine) =>
    makeHostState(running.system, running.repo, running.world());

  test("a refused image: manifests were asked for, and nothing else", async () => {
    await pushVersion("1");
    const asked: string[] = [];
    using proxy = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        const { pathname, search } = new URL(request.url);
        asked.push(pathname);
        return fetch(`http://${rig.host}${pathname}${search}`, { headers: request.headers });
      },
    });
    const host = `127.0.0.1:${proxy.port}`;
    rig.allowPlain(host);
    const reference = makeImageReference("registry", `${host}/os/desktop:v1`);
    const unsigned = { default: [{ ...signedByGood(), keyPath: rig.gpg.keyring("other") }] };
    for (const policy of [unsigned, { default: [REJECT] }]) {
      usePolicy(policy);
      await refusal(install(reference));
      expect(asked.splice(0)).toEqual(["/v2/os/desktop/manifests/v1"]);
    }
    usePolicy({ default: [{ type: "sigstoreSigned", keyData: "aGFsbG8=" }] });
    await refusal(install(reference));
    expect(asked.splice(0)).toEqual(["/v2/os/desktop/manifests/v1"]);
    expect(existsSync(join(machine.disk, "composefs"))).toBe(false);
  });

  test("installed, recorded, shown, kept by an upgrade, gone with the deployment", async () => {
    await pushVersion("1", ...sign());
    const path = usePolicy(strictPolicy());
    const { id: first } = await install(desktop("containerPolicy"));
    const record = {
      policyFile: path,
      scope: `scope "${rig.host}/os" of transport "docker"`,
      requirements: [
        {
          type: "signedBy",
          key: rig.gpg.fingerprint("good"),
          identity: `${rig.host}/os/desktop:v1`,
          digest: expect.stringMatching(/^sha256:/),
        },
      ],
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    };
    const file = statePaths(machine.disk, first).policy;
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(record);

    await pushVersion("2", ...sign());
    {
      using running = machine.boot();
      const host = makeHost(state(running));
      expect(host.status.booted?.signaturePolicy).toEqual(record);
      expect(host.status.booted?.image?.image.signature).toBe("containerPolicy");
      const text = formatHostHuman(host, { verbose: true });
      expect(text).toContain(`        Policy: ${path}, scope "${rig.host}/os" of transport`);
      expect(text).toContain(
        `   Accepted by: signedBy, ${rig.gpg.fingerprint("good")}, for ${rig.host}/os/desktop:v1`,
      );
      expect(formatHostHuman(host, { verbose: false })).not.toContain("Accepted by");
      const followed = state(running).booted?.image;
      expect(await update(running, { reference: followed! })).toMatchObject({ kind: "staged" });
      const origin = readFileSync(
        statePaths(machine.disk, state(running).staged!.id).origin,
        "utf8",
      );
      const reference = parseOriginReference(parseOrigin(origin, "origin").imageReference!);
      expect(reference).toEqual(desktop("containerPolicy"));
      finalizeStaged(running, running.world());
    }
    await pushVersion("3", ...sign());
    {
      using running = machine.boot();
      expect(state(running).booted?.policy).toEqual(record);
      await update(running, { reference: desktop("containerPolicy") });
      finalizeStaged(running, running.world());
    }
    {
      using running = machine.boot();
      await pushVersion("4", ...sign());
      await update(running, { reference: desktop("containerPolicy") });
    }
    expect(existsSync(file)).toBe(false);
    expect(existsSync(statePaths(machine.disk, first).directory)).toBe(false);
  });

  test("an unsigned update is refused, by --check as well, and the machine stays as it is", async () => {
    await pushVersion("1", ...sign());
    usePolicy(strictPolicy());
    await install(desktop());
    await pushVersion("5");
    using running = machine.boot();
    for (const checkOnly of [true, false]) {
      expect((await refusal(update(running, { checkOnly }))).code).toBe("unsigned");
    }
    expect(state(running).staged).toBeNull();
    usePolicy({ default: [ACCEPT] });
    expect(await update(running, {})).toMatchObject({ kind: "staged" });
    expect(state(running).staged?.policy?.requirements).toEqual([ACCEPT]);
  });

  test("--enforce-container-sigpolicy refuses a policy that accepts anything", async () => {
    await pushVersion("1", ...sign());
    const path = usePolicy({ default: [ACCEPT], transports: strictPolicy().transports });
    const error = await refusal(install(desktop("containerPolicy")));
    expect(error.text).toContain(path);
    expect(error.text).toContain("accepts anything by default");
    await install(desktop());
  });

  test("without any policy registries are refused, and the machine's own disk is not", async () => {
    await pushVersion("1", ...sign());
    const error = await refusal(install(desktop()));
    expect(error.text).toContain("/etc/containers/policy.json");
    expect(error.text).toContain('{"default":[{"type":"insecureAcceptAnything"}]}');
    const local = makeImageReference("oci", layout);
    const enforced = { ...local, signature: "containerPolicy" } as const;
    expect((await refusal(install(enforced))).text).toContain("there is none of");
    const { id } = await install(local);
    const record = JSON.parse(readFileSync(statePaths(machine.disk, id).policy, "utf8"));
    expect(record).toMatchObject({ policyFile: null, scope: "no policy", requirements: [] });
  });

  test("a policy counts for every transport", async () => {
    writeScratchImage(layout, { version: "1" });
    await rig.script("rm -rf os.dir; skopeo --insecure-policy copy -q oci:os.oci dir:os.dir");
    await rig.script(
      "rm -f os.tar os.docker; skopeo --insecure-policy copy -q oci:os.oci oci-archive:os.tar:v1; skopeo --insecure-policy copy -q oci:os.oci docker-archive:os.docker:example.com/os:v1",
    );
    const at = (path: string) => join(rig.directory, path);
    for (const reference of [
      ...[`oci:${layout}`, `dir:${at("os.dir")}`, `oci-archive:${at("os.tar")}`],
      `docker-archive:${at("os.docker")}`,
    ]) {
      const [transport = ""] = reference.split(":");
      const only = (requirement: object) => ({
        default: [requirement === ACCEPT ? REJECT : ACCEPT],
        transports: { [transport]: { "": [requirement] } },
      });
      await rig.admit(reference, only(ACCEPT));
      const error = await refusal(rig.admit(reference, only(REJECT)));
      expect(error.text).toContain(`the default of transport "${transport}"`);
    }
  });

  test("a transport that cannot ask beforehand is asked afterwards", async () => {
    writeScratchImage(layout, { version: "1" });
    const reference = parseTransportReference(`oci:${layout}`);
    const source = openSource(reference);
    const deaf = { ...source, resolve: () => source.resolve() };
    usePolicy({ default: [REJECT] });
    await refusal(resolveAdmitted(deaf, reference));
  });
});
