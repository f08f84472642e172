// The same policies and images through `skopeo copy --policy` and through ours: both accept or both refuse.
// Where they differ on purpose (docs/signatures.md) nothing is asked here.

import { cpSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { describeError } from "../../shared/error.ts";
import { makeCosign, openPolicyRig, type PolicyRig } from "../support/policy-rig.ts";
import { makeAuthority, makeKeyPair } from "../support/signing-keys.ts";
import { makeAttachment, pushAttachments } from "../support/sigstore-artifacts.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const ACCEPT = { type: "insecureAcceptAnything" };
const REJECT = { type: "reject" };
const EMAIL = "builder@example.com";
const ISSUER = "https://issuer.example.com";
const SIGNED_AT = Date.UTC(2026, 0, 2, 3, 4, 5) / 1000;
/** Another one is worth a try after a change. */
const SEED = 20261122;
const RANDOM_CASES = process.env["TEST_ALL"] ? 400 : 70;

let rig: PolicyRig;
/** References by name, and requirements that some of them meet. */
let images: readonly string[];
let requirements: readonly object[];
let identities: readonly (object | undefined)[];

async function compare(reference: string, policy: unknown): Promise<"accepts" | "refuses"> {
  const path = rig.writePolicy(policy);
  const oracle = await rig.askSkopeo(reference, path);
  const ours = await rig.admit(reference, path).then(
    () => ({ accepts: true, text: "" }),
    (error: unknown) => ({ accepts: false, text: describeError(error) }),
  );
  const story = JSON.stringify({ reference, policy, skopeo: oracle.text, ours: ours.text });
  expect(`${ours.accepts} ${story}`).toBe(`${oracle.accepts} ${story}`);
  return ours.accepts ? "accepts" : "refuses";
}

/** Numbers that are the same in every run. */
function makeRandom(seed: number) {
  let state = seed;
  const next = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  return { next, pick: <T>(from: readonly T[]): T => from[next(from.length)]! };
}

/** A containers-storage of our own. */
const store = () => `[vfs@${rig.directory}/graph+${rig.directory}/run]`;

/** Signed by keys, in every way that skopeo reads. */
async function pushSigned() {
  const { host, gpg } = rig;
  const cosign = await makeCosign(rig);
  await rig.script("skopeo generate-sigstore-key --output-prefix sk --passphrase-file passphrase");
  const bySkopeo = "--sign-by-sigstore-private-key sk.private --sign-passphrase-file passphrase";
  const byGpg = `--sign-by ${gpg.fingerprint("good")}`;
  const signed = await rig.push("os/gpg:v1", 1, byGpg);
  await rig.push("os/gpg:moved", 1);
  await rig.push("other/copy:v1", 1);
  const signaturesOf = (repository: string) =>
    join(rig.lookaside, `${repository}@${signed.replace(":", "=")}`);
  cpSync(signaturesOf("os/gpg"), signaturesOf("other/copy"), { recursive: true });
  await rig.push("os/sigstore:v1", 2, bySkopeo);
  const plain = await rig.push("os/cosign:v1", 3);
  const two = ["--new-bundle-format=false"] as const;
  await cosign.sign(cosign.one.privatePath, `${host}/os/cosign@${plain}`, ...two);
  const both = await rig.push("os/both:v1", 4, byGpg);
  await cosign.sign(cosign.one.privatePath, `${host}/os/both@${both}`, ...two);
  await cosign.sign(cosign.two.privatePath, `${host}/os/both@${both}`, ...two);
  await rig.push("os/none:v1", 5);
  await rig.script(
    `skopeo --insecure-policy copy -q ${byGpg} --sign-identity ${host}/os/gpg:v1 oci:image-1:v1 dir:signed.dir`,
    { GNUPGHOME: gpg.home },
  );
  for (const name of ["os/gpg:v1", "os/none:v1"]) {
    await rig.script(
      `skopeo --insecure-policy --registries.d home/.config/containers/registries.d copy -q --src-tls-verify=false docker://${host}/${name} containers-storage:${store()}${host}/${name}`,
    );
  }
  return { cosign, signed, plain };
}

/** Signed by a person, whose certificate was valid for one of the images. */
async function pushCertified() {
  const { host } = rig;
  const log = makeKeyPair(rig.directory, "rekor");
  const authority = await makeAuthority(rig.directory, "fulcio");
  const times = { notBefore: "20260102030000Z", notAfter: "20260102031000Z" };
  const leaf = await authority.issue({ subject: `email:${EMAIL}`, issuer: ISSUER, ...times });
  const certified = async (name: string, content: number, time: number) => {
    const digest = await rig.push(`${name}:v1`, content);
    const made = makeAttachment({
      ...{ digest, name: `${host}/${name}:v1`, key: leaf.privateKey, certificate: leaf.pem },
      ...{ chain: authority.chain, logged: { log, time } },
    });
    await pushAttachments(`${host}/${name}`, digest, [made]);
  };
  await certified("os/fulcio", 6, SIGNED_AT);
  await certified("os/late", 7, SIGNED_AT + 86400);
  return { log, authority };
}

async function pushImages(): Promise<void> {
  const { host } = rig;
  const { cosign, signed, plain } = await pushSigned();
  const { log, authority } = await pushCertified();
  const names = ["gpg:v1", "gpg:moved", "sigstore:v1", "cosign:v1", "both:v1", "none:v1"];
  images = [
    ...[...names, "fulcio:v1", "late:v1"].map((name) => `docker://${host}/os/${name}`),
    ...[`docker://${host}/other/copy:v1`, `docker://${host}/os/gpg@${signed}`],
    ...[`docker://${host}/os/cosign@${plain}`, `dir:${rig.directory}/signed.dir`],
    `oci:${rig.directory}/image-1:v1`,
    ...["os/gpg:v1", "os/none:v1"].map((name) => `containers-storage:${store()}${host}/${name}`),
  ];
  requirements = listRequirements(cosign, log, authority);
  identities = listIdentities();
}

type Made = Awaited<ReturnType<typeof pushCertified>>;

function listRequirements(
  cosign: Awaited<ReturnType<typeof makeCosign>>,
  log: Made["log"],
  authority: Made["authority"],
): readonly object[] {
  const { gpg } = rig;
  const gpgKey = (name: string) => ({
    ...{ type: "signedBy", keyType: "GPGKeys", keyPath: gpg.keyring(name) },
  });
  const key = (path: string) => ({ type: "sigstoreSigned", keyPath: path });
  const rekorPublicKeyPath = log.publicPath;
  const fulcio = { caPath: authority.path, oidcIssuer: ISSUER, subjectEmail: EMAIL };
  const person = (changes: object) => ({
    ...{ type: "sigstoreSigned", fulcio: { ...fulcio, ...changes }, rekorPublicKeyPath },
  });
  return [
    ...[ACCEPT, REJECT, gpgKey("good"), gpgKey("good"), gpgKey("other")],
    {
      ...gpgKey("good"),
      keyPath: undefined,
      keyPaths: [gpg.keyring("other"), gpg.keyring("good")],
    },
    ...[key(join(rig.directory, "sk.pub")), key(cosign.one.publicPath), key(cosign.two.publicPath)],
    { type: "sigstoreSigned", keyPaths: [cosign.two.publicPath, join(rig.directory, "sk.pub")] },
    { ...key(cosign.one.publicPath), rekorPublicKeyPath },
    ...[
      person({}),
      person({}),
      person({ subjectEmail: "x@y" }),
      person({ oidcIssuer: "https://x" }),
    ],
    person({ caPath: gpg.keyring("good") }),
    key("/missing.pub"),
  ];
}

function listIdentities(): readonly (object | undefined)[] {
  const { host } = rig;
  const named = `${host}/os/gpg:v1`;
  return [
    ...[undefined, { type: "matchExact" }, { type: "matchRepoDigestOrExact" }],
    ...[{ type: "matchRepository" }, { type: "matchRepository" }],
    ...[
      { type: "exactReference", dockerReference: named },
      { type: "exactRepository", dockerRepository: `${host}/os/gpg` },
    ],
    { type: "remapIdentity", prefix: `${host}/other/copy`, signedPrefix: `${host}/os/gpg` },
    { type: "remapIdentity", prefix: host, signedPrefix: "example.com" },
  ];
}

describe.skipIf(notRoot !== "")(`as skopeo decides${notRoot}`, () => {
  beforeAll(async () => {
    rig = await openPolicyRig();
    await pushImages();
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  test("each image under each requirement that it could meet", async () => {
    const seen = { accepts: 0, refuses: 0 };
    const asked = images.slice(0, 9).map((image, index) => [image, index] as const);
    for (const [image, index] of asked) {
      for (const shift of [2, 7, 11]) {
        const requirement = requirements[(shift + (index % 2)) % requirements.length]!;
        const signedIdentity = { type: "matchRepository" };
        seen[await compare(image, { default: [{ ...requirement, signedIdentity }] })]++;
      }
    }
    expect(seen.accepts).toBeGreaterThan(3);
    expect(seen.refuses).toBeGreaterThan(3);
  });

  test("random policies", { timeout: 900_000 }, async () => {
    const { next, pick } = makeRandom(SEED);
    const makeRequirement = () => {
      const requirement = pick(requirements);
      const signedIdentity = pick(identities);
      const isPlain = requirement === ACCEPT || requirement === REJECT;
      return isPlain || signedIdentity === undefined
        ? requirement
        : { ...requirement, signedIdentity };
    };
    const makeRequirements = () =>
      Array.from({ length: next(4) === 0 ? 2 : 1 }, () => makeRequirement());
    const { host } = rig;
    const scopes = {
      docker: [
        ...["", host, host.replace(/:.*/, ""), "*.0.0.1", "*.0.1", "*.1", "*.example.com"],
        ...[
          `${host}/os`,
          `${host}/other`,
          `${host}/os/gpg`,
          `${host}/os/gpg:v1`,
          `${host}/os/both`,
        ],
        ...[`${host}/os/cosign`, `${host}/os/fulcio`, `${host}/o`, "docker.io"],
      ],
      dir: ["", rig.directory, `${rig.directory}/signed.dir`, "/tmp", "/etc"],
      "containers-storage": [
        ...["", `[vfs@${rig.directory}/graph]`, `[${rig.directory}/graph]`, "[vfs@/elsewhere]"],
        ...[
          `[vfs@${rig.directory}/graph]${host}/os`,
          `[vfs@${rig.directory}/graph]${host}/os/gpg:v1`,
        ],
        `[overlay@${rig.directory}/graph]${host}/os`,
      ],
      oci: ["", rig.directory, `${rig.directory}/image-1`, "/tmp"],
    };
    const seen = { accepts: 0, refuses: 0 };
    for (let round = 0; round < RANDOM_CASES; round++) {
      const transports = Object.fromEntries(
        Object.entries(scopes).map(([transport, all]) => [
          transport,
          Object.fromEntries(
            Array.from({ length: next(4) }, () => [pick(all), makeRequirements()]),
          ),
        ]),
      );
      const policy = { default: makeRequirements(), transports };
      seen[await compare(pick(images), policy)]++;
    }
    expect(seen.accepts).toBeGreaterThan(RANDOM_CASES / 20);
    expect(seen.refuses).toBeGreaterThan(RANDOM_CASES / 20);
  });

  // The image would be accepted by all of them, if they are policies.
  test.each<[string, "accepts" | "refuses", (host: string) => unknown]>([
    ["default only", "accepts", () => ({ default: [ACCEPT] })],
    ["no default", "refuses", () => ({ transports: {} })],
    ["an empty default", "refuses", () => ({ default: [] })],
    ["an unknown key", "refuses", () => ({ default: [ACCEPT], extra: {} })],
    [
      "an unknown transport",
      "accepts",
      () => ({ default: [ACCEPT], transports: { x: { y: [REJECT] } } }),
    ],
    [
      "an unknown requirement",
      "refuses",
      () => ({ default: [ACCEPT], transports: { x: { y: [{ type: "z" }] } } }),
    ],
    ["an unknown key in a requirement", "refuses", () => ({ default: [{ ...ACCEPT, why: "x" }] })],
    [
      "a scope of docker-archive",
      "refuses",
      () => ({ default: [ACCEPT], transports: { "docker-archive": { "/x": [REJECT] } } }),
    ],
    [
      "a relative path",
      "refuses",
      () => ({ default: [ACCEPT], transports: { dir: { x: [REJECT] } } }),
    ],
    [
      "the root directory",
      "refuses",
      () => ({ default: [ACCEPT], transports: { dir: { "/": [REJECT] } } }),
    ],
    [
      "a path with ..",
      "refuses",
      () => ({ default: [ACCEPT], transports: { oci: { "/a/../b": [REJECT] } } }),
    ],
    [
      "a path with a tag",
      "accepts",
      () => ({ default: [ACCEPT], transports: { oci: { "/a:tag": [REJECT] } } }),
    ],
    [
      "a GPG requirement without key",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: { x: { y: [{ type: "signedBy", keyType: "GPGKeys" }] } },
      }),
    ],
    [
      "an unknown key type",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: { x: { y: [{ type: "signedBy", keyType: "PGP", keyPath: "/k" }] } },
      }),
    ],
    [
      "a key type that nobody has",
      "accepts",
      () => ({
        default: [ACCEPT],
        transports: {
          x: { y: [{ type: "signedBy", keyType: "X509Certificates", keyPath: "/k" }] },
        },
      }),
    ],
    [
      "an unknown identity",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: {
          x: { y: [{ type: "sigstoreSigned", keyPath: "/k", signedIdentity: { type: "any" } }] },
        },
      }),
    ],
    [
      "an exact reference without a tag",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: {
          x: {
            y: [
              {
                type: "sigstoreSigned",
                keyPath: "/k",
                signedIdentity: { type: "exactReference", dockerReference: "a/b" },
              },
            ],
          },
        },
      }),
    ],
    [
      "a prefix with a tag",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: {
          x: {
            y: [
              {
                type: "sigstoreSigned",
                keyPath: "/k",
                signedIdentity: {
                  type: "remapIdentity",
                  prefix: "q.io/a:b",
                  signedPrefix: "example.com",
                },
              },
            ],
          },
        },
      }),
    ],
    [
      "Fulcio without Rekor",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: {
          x: {
            y: [
              {
                type: "sigstoreSigned",
                fulcio: { caPath: "/c", oidcIssuer: "i", subjectEmail: "e" },
              },
            ],
          },
        },
      }),
    ],
    [
      "a key and Fulcio",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: {
          x: {
            y: [
              {
                type: "sigstoreSigned",
                keyPath: "/k",
                fulcio: { caPath: "/c", oidcIssuer: "i", subjectEmail: "e" },
                rekorPublicKeyPath: "/r",
              },
            ],
          },
        },
      }),
    ],
    [
      "data that is no base64",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: { x: { y: [{ type: "sigstoreSigned", keyData: "!" }] } },
      }),
    ],
    [
      "a key twice",
      "refuses",
      () =>
        '{"default":[{"type":"insecureAcceptAnything"}],"default":[{"type":"insecureAcceptAnything"}]}',
    ],
    ["text after it", "refuses", () => '{"default":[{"type":"insecureAcceptAnything"}]}]'],
    [
      "a PKI",
      "accepts",
      () => ({
        default: [ACCEPT],
        transports: {
          x: { y: [{ type: "sigstoreSigned", pki: { caRootsPath: "/c", subjectEmail: "e" } }] },
        },
      }),
    ],
    [
      "a PKI without a subject",
      "refuses",
      () => ({
        default: [ACCEPT],
        transports: { x: { y: [{ type: "sigstoreSigned", pki: { caRootsPath: "/c" } }] } },
      }),
    ],
  ])("a policy with %s: %s", async (_, expected, policy) => {
    const image = `docker://${rig.host}/os/none:v1`;
    expect(await compare(image, policy(rig.host))).toBe(expected);
  });
});
