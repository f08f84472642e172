// Policies with GPG keys against images that skopeo signed, in a real registry with a look-aside store.

import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openPolicyRig, type PolicyRig, refusal } from "../support/policy-rig.ts";
import { revokeKey } from "../support/signing-keys.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const ACCEPT = { type: "insecureAcceptAnything" };
const REJECT = { type: "reject" };

let rig: PolicyRig;
let digest: string;

/** Where skopeo puts the signatures of an image in the look-aside store. */
const storeOf = (repository: string, of: string) =>
  join(rig.lookaside, `${repository}@${of.replace(":", "=")}`);
const signedBy = (name: string, changes: object = {}) => ({
  type: "signedBy",
  keyType: "GPGKeys",
  keyPath: rig.gpg.keyring(name),
  ...changes,
});
const onHost = (...requirements: readonly object[]) => ({
  default: [REJECT],
  transports: { docker: { [rig.host]: requirements } },
});
const docker = (name: string) => `docker://${rig.host}/${name}`;
const admit = (name: string, ...requirements: readonly object[]) =>
  rig.admit(docker(name), onHost(...requirements));

/** A signature in the look-aside store, made by hand. */
async function putSignature(
  repository: string,
  of: string,
  key: string,
  options: string,
  payload: object = {
    critical: {
      type: "atomic container signature",
      image: { "docker-manifest-digest": of },
      identity: { "docker-reference": `${rig.host}/${repository}:v1` },
    },
    optional: {},
  },
): Promise<void> {
  mkdirSync(storeOf(repository, of), { recursive: true });
  writeFileSync(join(rig.directory, "payload"), JSON.stringify(payload));
  await rig.script(
    `gpg --batch --yes ${options} -u ${key}@example.com -o '${storeOf(repository, of)}/signature-1' --sign payload`,
    { GNUPGHOME: rig.gpg.home },
  );
}

describe.skipIf(notRoot !== "")(`signedBy${notRoot}`, () => {
  beforeAll(async () => {
    rig = await openPolicyRig();
    digest = await rig.push("os/gpg:v1", 1, "--sign-by", rig.gpg.fingerprint("good"));
    await rig.push("os/unsigned:v1", 2);
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  test("a signature by the key is accepted, and the decision says by which", async () => {
    const { decision, resolved } = await admit("os/gpg:v1", signedBy("good"));
    expect(resolved.manifestDigest).toBe(digest);
    expect(decision).toMatchObject({
      policyPath: expect.stringMatching(/policy-\d+\.json$/),
      scope: `scope "${rig.host}" of transport "docker"`,
      requirements: [
        {
          type: "signedBy",
          signature: {
            key: rig.gpg.fingerprint("good"),
            name: `${rig.host}/os/gpg:v1`,
            manifestDigest: digest,
          },
        },
      ],
    });
  });

  test.each<[string, () => object]>([
    ["an armored keyring", () => ({ keyPath: rig.gpg.keyring("good", "asc") })],
    [
      "one of several keyrings",
      () => ({
        keyPath: undefined,
        keyPaths: [rig.gpg.keyring("other"), rig.gpg.keyring("good")],
      }),
    ],
    [
      "a key in the policy",
      () => ({
        keyPath: undefined,
        keyData: readFileSync(rig.gpg.keyring("good")).toString("base64"),
      }),
    ],
    ["matchExact", () => ({ signedIdentity: { type: "matchExact" } })],
    ["matchRepository", () => ({ signedIdentity: { type: "matchRepository" } })],
  ])("accepted with %s", async (_, changes) => {
    await admit("os/gpg:v1", signedBy("good", changes()));
  });

  test("a reference by digest is accepted for any tag of its repository", async () => {
    await admit(`os/gpg@${digest}`, signedBy("good"));
  });

  test("a wrong key is refused, with policy, scope and key in the message", async () => {
    const error = await refusal(admit("os/gpg:v1", signedBy("other")));
    expect(error.code).toBe("untrusted-key");
    expect(error.text).toMatch(/policy-\d+\.json/);
    expect(error.text).toContain(`scope "${rig.host}" of transport "docker"`);
    expect(error.text).toContain(rig.gpg.keyring("other"));
    expect(error.text).toContain("which the policy does not name");
  });

  test("an unsigned image is refused", async () => {
    const error = await refusal(admit("os/unsigned:v1", signedBy("good")));
    expect(error.code).toBe("unsigned");
    expect(error.text).toContain(rig.gpg.keyring("good"));
  });

  test("a key file that is missing is named", async () => {
    const error = await refusal(admit("os/gpg:v1", signedBy("good", { keyPath: "/missing.gpg" })));
    expect(error.text).toContain('"/missing.gpg"');
  });

  test("all requirements must hold", async () => {
    await admit("os/gpg:v1", ACCEPT, signedBy("good"));
    await refusal(admit("os/gpg:v1", signedBy("good"), signedBy("other")));
    await refusal(admit("os/gpg:v1", signedBy("good"), REJECT));
  });

  test("a moved tag: the signature is for another one", async () => {
    await rig.push("os/gpg:v2", 1);
    const error = await refusal(admit("os/gpg:v2", signedBy("good")));
    expect(error.text).toContain(`named "${rig.host}/os/gpg:v1"`);
    await admit("os/gpg:v2", signedBy("good", { signedIdentity: { type: "matchRepository" } }));
  });

  test("a moved tag: the signature is of another image", async () => {
    const other = await rig.push("os/moved:v1", 3, "--sign-by", rig.gpg.fingerprint("good"));
    const now = await rig.push("os/moved:v1", 4);
    expect((await refusal(admit("os/moved:v1", signedBy("good")))).code).toBe("unsigned");
    cpSync(storeOf("os/moved", other), storeOf("os/moved", now), { recursive: true });
    const error = await refusal(admit("os/moved:v1", signedBy("good")));
    expect(error.text).toContain("of another image");
  });

  test("an image moved to another repository is refused, unless the policy expects that", async () => {
    await rig.push("other/copy:v1", 1);
    cpSync(storeOf("os/gpg", digest), storeOf("other/copy", digest), { recursive: true });
    await refusal(admit("other/copy:v1", signedBy("good")));
    const name = `${rig.host}/os/gpg`;
    for (const signedIdentity of [
      { type: "exactReference", dockerReference: `${name}:v1` },
      { type: "exactRepository", dockerRepository: name },
      {
        type: "remapIdentity",
        prefix: `${rig.host}/other/copy`,
        signedPrefix: name,
      },
    ]) {
      await admit("other/copy:v1", signedBy("good", { signedIdentity }));
    }
  });

  test("a changed signature is refused", async () => {
    const of = await rig.push("os/tampered:v1", 5);
    await putSignature("os/tampered", of, "good", "--compress-algo none");
    await admit("os/tampered:v1", signedBy("good"));
    const path = join(storeOf("os/tampered", of), "signature-1");
    const bytes = readFileSync(path);
    const at = bytes.indexOf("docker-manifest-digest");
    expect(at).toBeGreaterThan(0);
    bytes[at + 30] = bytes[at + 30]! ^ 1;
    writeFileSync(path, bytes);
    const error = await refusal(admit("os/tampered:v1", signedBy("good")));
    expect(error.text).toContain("does not fit what it signs");
  });

  test("a signature that unpacks to very much is given up", async () => {
    const of = await rig.push("os/bomb:v1", 10);
    await putSignature("os/bomb", of, "good", "--compress-algo bzip2", {
      zeros: "0".repeat(40_000_000),
    });
    const error = await refusal(admit("os/bomb:v1", signedBy("good")));
    expect(error.text).toContain("larger than 1048576 bytes");
  });

  test("a bad signature does not hide a good one", async () => {
    const of = await rig.push("os/two:v1", 6, "--sign-by", rig.gpg.fingerprint("good"));
    const store = storeOf("os/two", of);
    cpSync(join(store, "signature-1"), join(store, "signature-2"));
    writeFileSync(join(store, "signature-1"), Buffer.from([0xa3, 1, 2, 3]));
    await admit("os/two:v1", signedBy("good"));
  });

  test("a signature by an expired key is refused", async () => {
    const of = await rig.push("os/expired:v1", 7);
    await putSignature("os/expired", of, "expired", "--faked-system-time 20200105T000000");
    const error = await refusal(admit("os/expired:v1", signedBy("expired")));
    expect(error.text).toContain("its key has expired");
  });

  test("a signature by a revoked key is refused", async () => {
    const of = await rig.push("os/revoked:v1", 8);
    await putSignature("os/revoked", of, "revoked", "");
    await admit("os/revoked:v1", signedBy("revoked"));
    await revokeKey(rig.directory, rig.gpg);
    const error = await refusal(admit("os/revoked:v1", signedBy("revoked")));
    expect(error.text).toContain("its key was revoked");
  });

  test("a payload with an unknown critical key is refused", async () => {
    const of = await rig.push("os/critical:v1", 9);
    await putSignature("os/critical", of, "good", "", {
      critical: {
        type: "atomic container signature",
        image: { "docker-manifest-digest": of },
        identity: { "docker-reference": `${rig.host}/os/critical:v1` },
        expires: 1,
      },
      optional: {},
    });
    const error = await refusal(admit("os/critical:v1", signedBy("good")));
    expect(error.text).toContain("malformed");
  });

  test("look-aside over HTTP", async () => {
    const asked: string[] = [];
    using server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch(request) {
        const { pathname } = new URL(request.url);
        asked.push(pathname);
        if (pathname.startsWith("/broken/")) return new Response("no", { status: 500 });
        const content = Bun.file(join(rig.lookaside, decodeURIComponent(pathname)));
        return content
          .exists()
          .then((there) => new Response(there ? content : "no", { status: there ? 200 : 404 }));
      },
    });
    const home = join(rig.directory, "home-http");
    const registriesD = join(home, ".config/containers/registries.d");
    mkdirSync(registriesD, { recursive: true });
    const before = process.env["HOME"];
    process.env["HOME"] = home;
    const configure = (path: string) =>
      writeFileSync(
        join(registriesD, "x.yaml"),
        `docker:\n  ${rig.host}:\n    lookaside: http://127.0.0.1:${server.port}${path}\n`,
      );
    try {
      configure("");
      await admit("os/gpg:v1", signedBy("good"));
      expect(asked).toEqual([`/os/gpg@${digest.replace(":", "=")}/signature-1`]);
      expect((await refusal(admit("os/unsigned:v1", signedBy("good")))).code).toBe("unsigned");
      configure("/broken");
      const error = await refusal(admit("os/gpg:v1", signedBy("good")));
      expect(error.text).toContain("its signatures cannot be checked");
      expect(error.text).toContain("500");
    } finally {
      process.env["HOME"] = before;
    }
  });

  test("a directory of skopeo keeps its signatures", async () => {
    const target = join(rig.directory, "signed.dir");
    const name = "example.com/os:v1";
    await rig.script(
      `skopeo --insecure-policy copy -q --sign-by ${rig.gpg.fingerprint("good")} --sign-identity ${name} oci:image-1:v1 dir:${target}`,
      { GNUPGHOME: rig.gpg.home },
    );
    const policy = (requirement: object) => ({
      default: [REJECT],
      transports: { dir: { [rig.directory]: [requirement] } },
    });
    const exact = { signedIdentity: { type: "exactReference", dockerReference: name } };
    const { decision } = await rig.admit(`dir:${target}`, policy(signedBy("good", exact)));
    expect(decision.scope).toBe(`scope "${rig.directory}" of transport "dir"`);
    await refusal(rig.admit(`dir:${target}`, policy(signedBy("other", exact))));
    await refusal(rig.admit(`dir:${target}`, policy(signedBy("good"))));
    const elsewhere = `oci:${rig.directory}/image-1:v1`;
    const error = await refusal(rig.admit(elsewhere, policy(signedBy("good", exact))));
    expect(error.text).toContain("the default: it rejects all images there");
  });
});
