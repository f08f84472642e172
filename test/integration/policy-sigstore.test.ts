// Policies with Sigstore keys and identities: images that cosign and skopeo signed in a real registry, and what
// a Fulcio and a Rekor of our own certify, honestly and otherwise.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeCosign, openPolicyRig, type PolicyRig, refusal } from "../support/policy-rig.ts";
import {
  type Authority,
  type KeyPair,
  makeAuthority,
  makeKeyPair,
  type SignerCertificate,
} from "../support/signing-keys.ts";
import {
  type AttachmentParts,
  type BundleParts,
  makeAttachment,
  makeBundle,
  makePayload,
  pushAttachments,
  pushBundles,
  pushManifest,
  signBytes,
} from "../support/sigstore-artifacts.ts";

const notRoot = process.geteuid?.() === 0 ? "" : " (SKIPPED: the tools root takes root)";
const REJECT = { type: "reject" };
const MATCH_REPOSITORY = { signedIdentity: { type: "matchRepository" } };
const EMAIL = "builder@example.com";
const ISSUER = "https://issuer.example.com";
const SIGNED_AT = Date.UTC(2026, 0, 2, 3, 4, 5) / 1000;
const VALID = { notBefore: "20260102030000Z", notAfter: "20260102031000Z" };

let rig: PolicyRig;
let cosign: Awaited<ReturnType<typeof makeCosign>>;

const sigstoreSigned = (keyPath: string, changes: object = MATCH_REPOSITORY) => ({
  type: "sigstoreSigned",
  keyPath,
  ...changes,
});
const admit = (name: string, ...requirements: readonly object[]) =>
  rig.admit(`docker://${rig.host}/${name}`, {
    default: [REJECT],
    transports: { docker: { [rig.host]: requirements } },
  });

describe.skipIf(notRoot !== "")(`sigstoreSigned${notRoot}`, () => {
  let log: KeyPair;
  let otherLog: KeyPair;
  let authority: Authority;
  let otherAuthority: Authority;
  let signer: SignerCertificate;

  beforeAll(async () => {
    rig = await openPolicyRig();
    cosign = await makeCosign(rig);
    log = makeKeyPair(rig.directory, "rekor");
    otherLog = makeKeyPair(rig.directory, "other-rekor");
    authority = await makeAuthority(rig.directory, "fulcio");
    otherAuthority = await makeAuthority(rig.directory, "stranger");
    signer = await authority.issue({ subject: `email:${EMAIL}`, issuer: ISSUER, ...VALID });
  });
  afterAll(() => rig?.[Symbol.asyncDispose]());

  describe("what the real programs sign", () => {
    test("skopeo: tag and key are bound", async () => {
      const script = "skopeo generate-sigstore-key --output-prefix sk --passphrase-file passphrase";
      await rig.script(script);
      const digest = await rig.push(
        ...(["os/skopeo:v1", 1, "--sign-by-sigstore-private-key", "sk.private"] as const),
        ...["--sign-passphrase-file", "passphrase"],
      );
      const key = join(rig.directory, "sk.pub");
      const { decision } = await admit("os/skopeo:v1", sigstoreSigned(key, {}));
      expect(decision.requirements).toEqual([
        {
          type: "sigstoreSigned",
          signature: { key, name: `${rig.host}/os/skopeo:v1`, manifestDigest: digest },
        },
      ]);
      await rig.script(
        `skopeo --insecure-policy copy -q --src-tls-verify=false --dest-tls-verify=false docker://${rig.host}/os/skopeo:v1 docker://${rig.host}/os/skopeo:v2`,
      );
      const error = await refusal(admit("os/skopeo:v2", sigstoreSigned(key, {})));
      expect(error.text).toContain(`named "${rig.host}/os/skopeo:v1"`);
    });

    test("cosign 2's tag: the repository is bound", async () => {
      const digest = await rig.push("os/cosign2:v1", 2);
      const image = `${rig.host}/os/cosign2@${digest}`;
      await cosign.sign(cosign.one.privatePath, image, "--new-bundle-format=false");
      await admit("os/cosign2:v1", sigstoreSigned(cosign.one.publicPath));
      await admit(`os/cosign2@${digest}`, sigstoreSigned(cosign.one.publicPath));
      const tagless = await refusal(
        admit("os/cosign2:v1", sigstoreSigned(cosign.one.publicPath, {})),
      );
      expect(tagless.text).toContain("no tag, which matchRepoDigestOrExact asks for");
      const error = await refusal(admit("os/cosign2:v1", sigstoreSigned(cosign.two.publicPath)));
      expect(error.code).toBe("untrusted-key");
      expect(error.text).toContain(cosign.two.publicPath);
      expect(error.text).toContain(`scope "${rig.host}" of transport "docker"`);
    });

    test("cosign 3's bundle through referrers", async () => {
      const digest = await rig.push("os/cosign3:v1", 3);
      await cosign.sign(cosign.one.privatePath, `${rig.host}/os/cosign3@${digest}`);
      const { decision } = await admit("os/cosign3:v1", sigstoreSigned(cosign.one.publicPath));
      expect(decision.requirements[0]?.signature).toEqual({
        key: cosign.one.publicPath,
        name: `${rig.host}/os/cosign3`,
        manifestDigest: digest,
      });
      await refusal(admit("os/cosign3:v1", sigstoreSigned(cosign.two.publicPath)));
      // It names no tag, and only the repository it is in.
      await refusal(admit("os/cosign3:v1", sigstoreSigned(cosign.one.publicPath, {})));
      const elsewhere = { type: "exactRepository", dockerRepository: "example.com/os" };
      const changes = { signedIdentity: elsewhere };
      await refusal(admit("os/cosign3:v1", sigstoreSigned(cosign.one.publicPath, changes)));
    });

    test("cosign 3 with the name as an annotation: tag and repository are bound", async () => {
      const digest = await rig.push("os/named:v1", 4);
      const name = `${rig.host}/os/named:v1`;
      const image = `${rig.host}/os/named@${digest}`;
      await cosign.sign(cosign.one.privatePath, image, "-a", `docker-reference=${name}`);
      const { decision } = await admit("os/named:v1", sigstoreSigned(cosign.one.publicPath, {}));
      expect(decision.requirements[0]?.signature?.name).toBe(name);
      const copy = (tag: string) =>
        rig.script(
          [
            `skopeo --insecure-policy copy -q --src-tls-verify=false --dest-tls-verify=false docker://${rig.host}/os/named:${tag}`,
            `docker://${rig.host}/stolen/named:${tag}`,
          ].join(" "),
        );
      await copy("v1");
      await rig.script(
        `skopeo --insecure-policy copy -q --all --src-tls-verify=false --dest-tls-verify=false docker://${rig.host}/os/named:${digest.replace(":", "-")} docker://${rig.host}/stolen/named:${digest.replace(":", "-")}`,
      );
      const error = await refusal(admit("stolen/named:v1", sigstoreSigned(cosign.one.publicPath)));
      expect(error.text).toContain(`named "${name}"`);
    });

    test("an attestation is no signature", async () => {
      const digest = await rig.push("os/attested:v1", 5);
      writeFileSync(join(rig.directory, "sbom.json"), "{}");
      const flags = "--tlog-upload=false --use-signing-config=false --yes --allow-http-registry";
      await rig.script(
        `cosign attest --key ${cosign.one.privatePath} ${flags} --type custom --predicate sbom.json ${rig.host}/os/attested@${digest}`,
        { COSIGN_PASSWORD: "of the test" },
      );
      const error = await refusal(admit("os/attested:v1", sigstoreSigned(cosign.one.publicPath)));
      expect(error.text).toContain("it is an attestation");
    });

    test("an unsigned image is refused", async () => {
      await rig.push("os/unsigned:v1", 6);
      const error = await refusal(admit("os/unsigned:v1", sigstoreSigned(cosign.one.publicPath)));
      expect(error.code).toBe("unsigned");
      expect(error.text).toContain("it has no Sigstore signature");
      expect(error.text).toContain(cosign.one.publicPath);
    });

    test("a signature of the index counts for its images", async () => {
      const manifest = await rig.push("os/multi:amd64", 7);
      const { resolved } = await admit("os/multi:amd64", { type: "insecureAcceptAnything" });
      const index = {
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [
          {
            mediaType: "application/vnd.oci.image.manifest.v1+json",
            digest: manifest,
            size: resolved.manifestBytes.length,
            platform: { os: "linux", architecture: resolved.config.architecture },
          },
        ],
      };
      const digest = await pushManifest(`${rig.host}/os/multi`, "v1", index);
      await refusal(admit("os/multi:v1", sigstoreSigned(cosign.one.publicPath)));
      await cosign.sign(cosign.one.privatePath, `${rig.host}/os/multi@${digest}`);
      const { decision } = await admit("os/multi:v1", sigstoreSigned(cosign.one.publicPath));
      expect(decision.requirements[0]?.signature?.manifestDigest).toBe(digest);
    });

    test("signatures travel in an image layout", async () => {
      const digest = await rig.push("os/layout:v1", 8);
      const tag = `${digest.replace(":", "-")}.sig`;
      const image = `${rig.host}/os/layout@${digest}`;
      await cosign.sign(cosign.one.privatePath, image, "--new-bundle-format=false");
      const copy =
        "skopeo --insecure-policy copy -q --remove-signatures --src-tls-verify=false --preserve-digests";
      await rig.script(
        [
          `${copy} docker://${rig.host}/os/layout:v1 oci:stick:v1`,
          `${copy} docker://${rig.host}/os/layout:${tag} oci:stick:${tag}`,
        ].join("; "),
      );
      const identity = { type: "exactRepository", dockerRepository: `${rig.host}/os/layout` };
      const policy = (key: string) => ({
        default: [REJECT],
        transports: { oci: { "": [sigstoreSigned(key, { signedIdentity: identity })] } },
      });
      const stick = `oci:${rig.directory}/stick:v1`;
      await rig.admit(stick, policy(cosign.one.publicPath));
      await refusal(rig.admit(stick, policy(cosign.two.publicPath)));
    });
  });

  /** Pushes a fresh image with these signatures. */
  let count = 100;
  async function pushSigned(parts: {
    readonly attachment?: Omit<AttachmentParts, "digest" | "name"> & { readonly name?: string };
    readonly bundle?: Omit<BundleParts, "digest">;
  }): Promise<{ readonly name: string; readonly digest: string }> {
    const path = `made/image${count}`;
    const repository = `${rig.host}/${path}`;
    const digest = await rig.push(`${path}:v1`, count++);
    const { attachment, bundle } = parts;
    if (attachment !== undefined) {
      const made = makeAttachment({ digest, name: repository, ...attachment });
      await pushAttachments(repository, digest, [made]);
    }
    if (bundle !== undefined) {
      await pushBundles(repository, digest, [makeBundle({ digest, ...bundle })]);
    }
    return { name: `${path}:v1`, digest };
  }

  describe.each(["attachment", "bundle"] as const)("%s", (kind) => {
    const signedWith = (parts: Omit<AttachmentParts, "digest" | "name">) =>
      pushSigned({ [kind]: parts });
    const fulcio = (changes: object = {}) => ({
      type: "sigstoreSigned",
      fulcio: {
        caPath: authority.path,
        oidcIssuer: ISSUER,
        subjectEmail: EMAIL,
        ...changes,
      },
      rekorPublicKeyPath: log.publicPath,
      ...MATCH_REPOSITORY,
    });
    const bySigner = (changes: Partial<AttachmentParts> = {}) => ({
      key: signer.privateKey,
      certificate: signer.pem,
      chain: authority.chain,
      logged: { log, time: SIGNED_AT },
      ...changes,
    });
    /** In bundles only the leaf travels, so that the policy must know the intermediate, too. */
    const withChain = (requirement: ReturnType<typeof fulcio>) => {
      const path = join(rig.directory, "chain.pem");
      writeFileSync(path, authority.chain);
      return { ...requirement, fulcio: { ...requirement.fulcio, caPath: path } };
    };
    const required = (changes: object = {}) =>
      kind === "bundle" ? withChain(fulcio(changes)) : fulcio(changes);

    test.each(["ec", "ed25519", "rsa"] as const)("a key of type %s", async (type) => {
      const pair = makeKeyPair(rig.directory, `${kind}-${type}`, type);
      const { name } = await signedWith({ key: pair.privateKey });
      await admit(name, sigstoreSigned(pair.publicPath));
      await refusal(admit(name, sigstoreSigned(log.publicPath)));
    });

    test("with a Rekor key a log entry is required", async () => {
      const pair = makeKeyPair(rig.directory, `${kind}-logged`);
      const needsLog = { ...sigstoreSigned(pair.publicPath), rekorPublicKeyPath: log.publicPath };
      const without = await signedWith({ key: pair.privateKey });
      expect((await refusal(admit(without.name, needsLog))).text).toContain("it has no log entry");
      const logged = { log, time: SIGNED_AT };
      const { name } = await signedWith({ key: pair.privateKey, logged });
      await admit(name, needsLog);
      const other = { ...needsLog, rekorPublicKeyPath: otherLog.publicPath };
      expect((await refusal(admit(name, other))).text).toContain(otherLog.publicPath);
    });

    test("CVE-2026-22703: a valid log entry of something else is refused", async () => {
      const pair = makeKeyPair(rig.directory, `${kind}-foreign`);
      const stranger = makeKeyPair(rig.directory, `${kind}-stranger`);
      const needsLog = { ...sigstoreSigned(pair.publicPath), rekorPublicKeyPath: log.publicPath };
      const logged = { log, time: SIGNED_AT };
      const pem = stranger.publicKey.export({ type: "spki", format: "pem" }).toString();
      const foreign = Buffer.from("something else");
      for (const [entry, message] of [
        [{ signature: signBytes(foreign, pair.privateKey) }, "of another signature"],
        [{ signed: foreign }, "of another artifact"],
        [{ verifier: pem }, "of another key"],
      ] as const) {
        const { name } = await signedWith({ key: pair.privateKey, logged, entry });
        expect((await refusal(admit(name, needsLog))).text).toContain(message);
      }
    });

    test("an identity that Fulcio certified", async () => {
      const { name, digest } = await signedWith(bySigner());
      const { decision } = await admit(name, required());
      expect(decision.requirements[0]?.signature).toMatchObject({
        key: `${EMAIL} (${ISSUER})`,
        manifestDigest: digest,
      });
    });

    test("another person, another issuer, another authority are refused", async () => {
      const { name } = await signedWith(bySigner());
      const person = await refusal(admit(name, required({ subjectEmail: "x@example.com" })));
      expect(person.text).toContain(`of "${EMAIL}", not of "x@example.com"`);
      const issuer = await refusal(admit(name, required({ oidcIssuer: "https://x" })));
      expect(issuer.text).toContain(`OIDC issuer is "${ISSUER}", not "https://x"`);
      const stranger = fulcio({ caPath: otherAuthority.path });
      expect((await refusal(admit(name, stranger))).text).toContain("no CA of the policy");
    });

    test("the certificate must have been valid when the signature was logged", async () => {
      for (const time of [SIGNED_AT - 3600, SIGNED_AT + 3600]) {
        const { name } = await signedWith(bySigner({ logged: { log, time } }));
        expect((await refusal(admit(name, required()))).text).toContain(
          "was valid from 2026-01-02T03:00",
        );
      }
    });

    test("a certificate's entry must be of that certificate", async () => {
      const other = await authority.issue({ subject: `email:${EMAIL}`, issuer: ISSUER, ...VALID });
      const { name } = await signedWith(bySigner({ entry: { verifier: other.pem } }));
      expect((await refusal(admit(name, required()))).text).toContain("of another key");
    });

    test("a certificate that is not for signing code is refused", async () => {
      const subject = { subject: `email:${EMAIL}`, issuer: ISSUER, ...VALID };
      const server = await authority.issue({ ...subject, usage: "serverAuth" });
      const { name } = await signedWith(
        bySigner({ key: server.privateKey, certificate: server.pem }),
      );
      expect((await refusal(admit(name, required()))).text).toContain("not for signing code");
    });

    test("a certificate with an unknown critical extension is refused", async () => {
      const subject = { subject: `email:${EMAIL}`, issuer: ISSUER, ...VALID };
      const odd = await authority.issue({ ...subject, extra: "1.2.3.4=critical,DER:0500" });
      const { name } = await signedWith(bySigner({ key: odd.privateKey, certificate: odd.pem }));
      expect((await refusal(admit(name, required()))).text).toContain("1.2.3.4");
    });

    test("a signature by another key than the certificate's is refused", async () => {
      const thief = makeKeyPair(rig.directory, `${kind}-thief`);
      const { name } = await signedWith(bySigner({ key: thief.privateKey }));
      expect((await refusal(admit(name, required()))).text).toContain("does not fit");
    });

    test("a workflow is known by its URI", async () => {
      const uri = "https://github.com/example/os/.github/workflows/build.yml@refs/heads/main";
      const workflow = await authority.issue({ subject: `URI:${uri}`, issuer: ISSUER, ...VALID });
      const { name } = await signedWith(
        bySigner({ key: workflow.privateKey, certificate: workflow.pem }),
      );
      await admit(name, required({ subjectEmail: uri }));
      await refusal(admit(name, required()));
    });

    test("an ordinary CA", async () => {
      const now = { notBefore: "20250101000000Z", notAfter: "20390101000000Z" };
      const leaf = await authority.issue({ subject: "DNS:*.example.com", ...now });
      const { name } = await signedWith({
        key: leaf.privateKey,
        certificate: leaf.pem,
        chain: authority.chain,
      });
      const intermediates = join(rig.directory, "between.pem");
      writeFileSync(intermediates, authority.chain);
      const pki = (caRootsPath: string, subjectHostname: string) => ({
        type: "sigstoreSigned",
        pki: { caRootsPath, caIntermediatesPath: intermediates, subjectHostname },
        ...MATCH_REPOSITORY,
      });
      await admit(name, pki(authority.path, "build.example.com"));
      await refusal(admit(name, pki(authority.path, "example.com")));
      await refusal(admit(name, pki(authority.path, "a.b.example.com")));
      await refusal(admit(name, pki(otherAuthority.path, "build.example.com")));
    });
  });

  test("a changed payload is refused", async () => {
    const pair = makeKeyPair(rig.directory, "tampered");
    const { name, digest } = await pushSigned({});
    const repository = `${rig.host}/${name.replace(":v1", "")}`;
    const made = makeAttachment({ digest, name: "example.com/other", key: pair.privateKey });
    const payload = makePayload(digest, repository);
    await pushAttachments(repository, digest, [{ ...made, payload }]);
    await refusal(admit(name, sigstoreSigned(pair.publicPath)));
    await pushAttachments(repository, digest, [
      makeAttachment({ digest, name: repository, key: pair.privateKey }),
    ]);
    await admit(name, sigstoreSigned(pair.publicPath));
  });

  test("a bad bundle does not hide a good one", async () => {
    const pair = makeKeyPair(rig.directory, "several");
    const { name, digest } = await pushSigned({});
    const repository = `${rig.host}/${name.replace(":v1", "")}`;
    const good = makeBundle({ digest, key: pair.privateKey });
    await pushBundles(repository, digest, [{ mediaType: "nonsense" }, { x: 1 }, good]);
    await admit(name, sigstoreSigned(pair.publicPath));
  });

  test("a bundle of another image is refused", async () => {
    const pair = makeKeyPair(rig.directory, "elsewhere");
    const { name, digest } = await pushSigned({});
    const repository = `${rig.host}/${name.replace(":v1", "")}`;
    const other = makeBundle({ digest: `sha256:${"00".repeat(32)}`, key: pair.privateKey });
    await pushBundles(repository, digest, [other]);
    const error = await refusal(admit(name, sigstoreSigned(pair.publicPath)));
    expect(error.text).toContain("it is of another image");
  });
});
