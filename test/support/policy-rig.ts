// A registry with signed images, and policies to try on them: what test/integration/policy*.test.ts share.
//
// The product finds its configuration through the environment, as on a machine; `close` puts that back.

import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describeError, PolicyError } from "../../shared/error.ts";
import { type AdmittedImage, resolveAdmitted } from "../../updater/image/policy/admission.ts";
import { type ImageReference, parseTransportReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import { hostConfigPlace } from "../../updater/registry/config-place.ts";
import { runImageTool } from "./image-tools.ts";
import { writeLayout } from "./oci-builder.ts";
import { startRegistry } from "./registry-server.ts";
import type { ServerProcess } from "./server-process.ts";
import {
  type GpgKeys,
  makeCosignKey,
  makeGpgKeys,
  PASSPHRASE,
  runScript,
  stopGpg,
} from "./signing-keys.ts";
import { file, makeTar } from "./small-os.ts";

export interface PolicyRig extends AsyncDisposable {
  readonly directory: string;
  /** "127.0.0.1:12345" */
  readonly host: string;
  readonly registry: ServerProcess;
  readonly gpg: GpgKeys;
  readonly lookaside: string;
  /** Another host that is asked without TLS. */
  allowPlain(host: string): void;
  /** Path of a file with this policy. */
  writePolicy(policy: unknown): string;
  /** Resolves the reference under a policy (a path or its content). */
  admit(reference: string | ImageReference, policy: unknown): Promise<AdmittedImage>;
  /** Whether `skopeo copy` takes the image under the policy, and what it says. */
  askSkopeo(reference: string, policyPath: string): Promise<{ accepts: boolean; text: string }>;
  /** Pushes image number `content` (equal numbers are equal images) to "os/x:v1"; returns its digest. */
  push(name: string, content: number, ...options: readonly string[]): Promise<string>;
  script(text: string, env?: Readonly<Record<string, string>>): Promise<string>;
}

const MANAGED = ["HOME", "XDG_CONFIG_HOME", "CONTAINERS_POLICY_JSON", "CONTAINERS_REGISTRIES_CONF"];

export async function openPolicyRig(): Promise<PolicyRig> {
  const directory = mkdtempSync(join(tmpdir(), "policy-rig-"));
  const at = (path: string) => join(directory, path);
  const before = MANAGED.map((name) => [name, process.env[name]] as const);
  const lookaside = at("lookaside");
  const registriesD = at("home/.config/containers/registries.d");
  for (const path of [lookaside, registriesD]) mkdirSync(path, { recursive: true });
  writeFileSync(
    join(registriesD, "test.yaml"),
    `default-docker:\n  lookaside: file://${lookaside}\n  use-sigstore-attachments: true\n`,
  );
  const registry = await startRegistry({ directory: at("registry"), name: "plain" });
  const host = `127.0.0.1:${registry.port}`;
  process.env["HOME"] = at("home");
  process.env["CONTAINERS_REGISTRIES_CONF"] = at("registries.conf");
  delete process.env["XDG_CONFIG_HOME"];
  delete process.env["CONTAINERS_POLICY_JSON"];
  const gpg = await makeGpgKeys(directory);
  let policies = 0;
  let copies = 0;
  const rig: PolicyRig = {
    ...{ directory, host, registry, gpg, lookaside },
    allowPlain: (other) =>
      appendFileSync(
        at("registries.conf"),
        `[[registry]]\nlocation = "${other}"\ninsecure = true\n`,
      ),
    writePolicy(policy) {
      if (typeof policy === "string" && policy.startsWith("/")) return policy;
      const path = at(`policy-${policies++}.json`);
      writeFileSync(path, typeof policy === "string" ? policy : JSON.stringify(policy));
      return path;
    },
    async admit(text, policy) {
      const reference = typeof text === "string" ? parseTransportReference(text) : text;
      await using source = openSource(reference);
      const environment = { ...process.env, CONTAINERS_POLICY_JSON: rig.writePolicy(policy) };
      return await resolveAdmitted(source, reference, { ...hostConfigPlace(), environment });
    },
    askSkopeo: (reference, policyPath) =>
      askSkopeo(reference, policyPath, registriesD, at(`copy-${copies++}`)),
    async push(name, content, ...options) {
      const layout = at(`image-${content}`);
      const tar = await makeTar([file("etc/content", `image ${content}`)]);
      const [built] = writeLayout(layout, [{ tag: "v1", layers: [{ tar }] }]);
      await rig.script(
        `skopeo --insecure-policy --registries.d ${registriesD} copy -q --dest-tls-verify=false --preserve-digests ${options.join(" ")} oci:${layout}:v1 docker://${host}/${name}`,
        { GNUPGHOME: gpg.home },
      );
      return built!.manifest.digest;
    },
    script: (text, env = {}) => runScript(directory, text, env),
    async [Symbol.asyncDispose]() {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
      await stopGpg(gpg);
      await registry[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  rig.allowPlain(host);
  writeFileSync(at("passphrase"), PASSPHRASE);
  return rig;
}

async function askSkopeo(
  reference: string,
  policyPath: string,
  registriesD: string,
  target: string,
): Promise<{ accepts: boolean; text: string }> {
  try {
    await runImageTool([
      // Its gpg leaves agents behind, which end with the namespace of their processes.
      ...["unshare", "--pid", "--fork", "--kill-child", "--"],
      ...["skopeo", "--policy", policyPath, "--registries.d", registriesD, "copy", "-q"],
      ...["--remove-signatures", "--src-tls-verify=false", reference, `dir:${target}`],
    ]);
    return { accepts: true, text: "" };
  } catch (error) {
    return { accepts: false, text: (error as Error).message };
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
}

/** cosign with a key pair "one" and "two" of the rig; flags as they are needed without any service. */
export async function makeCosign(rig: PolicyRig) {
  const one = await makeCosignKey(rig.directory, "one");
  const two = await makeCosignKey(rig.directory, "two");
  const common = "--tlog-upload=false --use-signing-config=false --yes --allow-http-registry";
  const sign = async (key: string, image: string, ...options: readonly string[]) => {
    await rig.script(`cosign sign --key ${key} ${common} ${options.join(" ")} ${image}`, {
      COSIGN_PASSWORD: PASSPHRASE,
    });
  };
  return { one, two, sign };
}

/** Why an image was not accepted, with the text that a user gets; an error when it was. */
export async function refusal(attempt: Promise<unknown>): Promise<PolicyError & { text: string }> {
  const outcome = await attempt.then(
    () => new Error("the image was accepted"),
    (error: unknown) => error,
  );
  if (!(outcome instanceof PolicyError)) throw outcome;
  return Object.assign(outcome, { text: describeError(outcome) });
}
