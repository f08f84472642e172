// A bundle and an attachment by a person, whose parts are exchanged and changed one by one.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifyAttachment } from "./sigstore-attachment.ts";
import { verifyBundle } from "./sigstore-bundle.ts";
import { loadSigstoreTrust } from "./sigstore-signer.ts";

const VECTORS = join(import.meta.dirname, "../../../test/vectors/signatures");
const read = (name: string) => readFileSync(join(VECTORS, name), "utf8");
const SUBJECT = {
  digest: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
  bytes: Buffer.from("{}"),
  repository: "quay.io/example/os",
};
const SIGNER = "builder@example.com (https://issuer.example.com)";
const keys = JSON.parse(read("trust.json")) as { authority: string; rekor: string };
const trust = loadSigstoreTrust({
  type: "sigstoreSigned",
  fulcio: {
    caData: Buffer.from(keys.authority),
    oidcIssuer: "https://issuer.example.com",
    subjectEmail: "builder@example.com",
  },
  rekorPublicKeyData: Buffer.from(keys.rekor),
  signedIdentity: { type: "matchRepository" },
});
const verify = (bundle: unknown, subject = SUBJECT) =>
  verifyBundle(Buffer.from(JSON.stringify(bundle)), subject, trust);
type Json = Record<string, unknown>;
/** The bundle after a change. */
const changed = (change: (bundle: Json) => void) => {
  const bundle = JSON.parse(read("bundle.json")) as Json;
  change(bundle);
  return bundle;
};
const entryOf = (bundle: Json): Json => {
  const material = bundle["verificationMaterial"] as Json;
  return (material["tlogEntries"] as Json[])[0]!;
};
const set = (object: unknown, key: string, value: unknown) =>
  Object.assign(object as Json, { [key]: value });

describe("bundle", () => {
  test("as it is", () => {
    expect(verify(JSON.parse(read("bundle.json")))).toEqual({
      key: SIGNER,
      name: "quay.io/example/os",
      manifestDigest: SUBJECT.digest,
    });
  });

  test("of another image", () => {
    const other = { ...SUBJECT, digest: `sha256:${"00".repeat(32)}` };
    expect(() => verify(JSON.parse(read("bundle.json")), other)).toThrow("of another image");
  });

  test("in a place without names", () => {
    const nameless = { ...SUBJECT, repository: null } as unknown as typeof SUBJECT;
    expect(() => verify(JSON.parse(read("bundle.json")), nameless)).toThrow("names no repository");
  });

  test.each<[string, (bundle: Json) => void, string]>([
    [
      "no log entry",
      (bundle) => set(bundle["verificationMaterial"], "tlogEntries", []),
      "no log entry",
    ],
    [
      "two log entries",
      (bundle) => {
        const entry = entryOf(bundle);
        set(bundle["verificationMaterial"], "tlogEntries", [entry, entry]);
      },
      "more than one log entry",
    ],
    [
      "another time",
      (bundle) => set(entryOf(bundle), "integratedTime", "1767323046"),
      "not vouched for",
    ],
    ["another log index", (bundle) => set(entryOf(bundle), "logIndex", "1"), "not vouched for"],
    [
      "a time that nobody signed",
      (bundle) => delete entryOf(bundle)["inclusionPromise"],
      "does not say when it was made",
    ],
    [
      "another checkpoint",
      (bundle) => {
        const proof = entryOf(bundle)["inclusionProof"] as Json;
        const checkpoint = proof["checkpoint"] as Json;
        const { envelope } = checkpoint as { envelope: string };
        set(checkpoint, "envelope", envelope.replace("log.example.com\n1", "log.example.com\n2"));
      },
      "not vouched for",
    ],
    [
      "a changed payload",
      (bundle) => {
        const { payload } = bundle["dsseEnvelope"] as { payload: string };
        const text = Buffer.from(payload, "base64").toString().replace("{}", "{ }");
        set(bundle["dsseEnvelope"], "payload", Buffer.from(text).toString("base64"));
      },
      "does not fit what it signs",
    ],
    [
      "another type of payload",
      (bundle) => set(bundle["dsseEnvelope"], "payloadType", "text/plain"),
      'signs a "text/plain"',
    ],
    [
      "two signatures",
      (bundle) => {
        const envelope = bundle["dsseEnvelope"] as Json;
        const [first] = envelope["signatures"] as Json[];
        set(envelope, "signatures", [first, first]);
      },
      "no Sigstore bundle",
    ],
    [
      "a key instead of the certificate",
      (bundle) => {
        const material = bundle["verificationMaterial"] as Json;
        delete material["certificate"];
        set(material, "publicKey", { hint: "x" });
      },
      "no certificate",
    ],
    [
      "a certificate that is none",
      (bundle) => {
        const material = bundle["verificationMaterial"] as Json;
        set(material["certificate"], "rawBytes", "aGFsbG8=");
      },
      "its certificate is malformed",
    ],
    [
      "another kind of document",
      (bundle) => set(bundle, "mediaType", "text/plain"),
      "no Sigstore bundle",
    ],
  ])("refused: %s", (_, change, message) => {
    expect(() => verify(changed(change))).toThrow(message);
  });
});

describe("attachment", () => {
  const { payload, annotations } = JSON.parse(read("attachment.json")) as {
    readonly payload: string;
    readonly annotations: Readonly<Record<string, string>>;
  };
  const found = (changes: Readonly<Record<string, string | undefined>> = {}, text = payload) => ({
    kind: "attachment" as const,
    where: "x",
    payload: Buffer.from(text),
    annotations: Object.fromEntries(
      Object.entries({ ...annotations, ...changes }).filter(
        (entry): entry is [string, string] => entry[1] !== undefined,
      ),
    ),
  });

  test("as it is", () => {
    expect(verifyAttachment(found(), trust)).toEqual({
      key: SIGNER,
      name: "quay.io/example/os:v1",
      manifestDigest: SUBJECT.digest,
    });
  });

  test.each<[string, ReturnType<typeof found>, string]>([
    ["another payload", found({}, payload.replace("v1", "v2")), "does not fit what it signs"],
    ["no signature", found({ "dev.cosignproject.cosign/signature": undefined }), "no signature"],
    ["no certificate", found({ "dev.sigstore.cosign/certificate": undefined }), "no certificate"],
    ["no log entry", found({ "dev.sigstore.cosign/bundle": undefined }), "no log entry"],
    [
      "two certificates",
      found({ "dev.sigstore.cosign/certificate": annotations["dev.sigstore.cosign/chain"]! }),
      "does not hold one certificate",
    ],
    [
      "the certificate of the authority",
      found({
        "dev.sigstore.cosign/certificate": annotations["dev.sigstore.cosign/chain"]!.split(
          "-----BEGIN",
        )
          .slice(0, 2)
          .join("-----BEGIN"),
      }),
      "does not fit what it signs",
    ],
  ])("refused: %s", (_, attachment, message) => {
    expect(() => verifyAttachment(attachment, trust)).toThrow(message);
  });
});
