// The documents that signatures are about: payloads, signature files, log entries.

import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../../shared/error.ts";
import { verifyGpgMessage } from "./gpg-signature.ts";
import { parseClaim } from "./payload.ts";
import { type LoggedSignature, requireAbout, verifyTimestamp } from "./rekor-entry.ts";
import { parseSignatureFile } from "./signature-source.ts";
import { parsePublicKey } from "./trusted-key.ts";
import { SignatureRejection } from "./verdict.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value));
const base64 = (value: Uint8Array | string) => Buffer.from(value).toString("base64");

describe("payloads", () => {
  const critical = {
    type: "cosign container image signature",
    image: { "docker-manifest-digest": DIGEST },
    identity: { "docker-reference": "q.io/a" },
  };
  test.each<[string, unknown]>([
    ["cosign's", { critical, optional: null }],
    ["with notes", { critical, optional: { creator: "x", timestamp: 7, any: { thing: 1 } } }],
  ])("%s", (_, payload) => {
    expect(parseClaim(bytes(payload), "cosign")).toEqual({
      manifestDigest: DIGEST,
      name: "q.io/a",
    });
  });

  test.each<[string, unknown]>([
    [
      "of the other kind",
      { critical: { ...critical, type: "atomic container signature" }, optional: {} },
    ],
    ["an unknown critical key", { critical: { ...critical, expires: 1 }, optional: {} }],
    ["an unknown key", { critical, optional: {}, extra: 1 }],
    ["no optional", { critical }],
    [
      "a bad digest",
      {
        critical: { ...critical, image: { "docker-manifest-digest": "sha256:../x" } },
        optional: {},
      },
    ],
    [
      "more in image",
      {
        critical: { ...critical, image: { "docker-manifest-digest": DIGEST, x: 1 } },
        optional: {},
      },
    ],
    ["no identity", { critical: { ...critical, identity: {} }, optional: {} }],
    ["a fractional time", { critical, optional: { timestamp: 1.5 } }],
    ["a list", [critical]],
  ])("refused: %s", (_, payload) => {
    expect(() => parseClaim(bytes(payload), "cosign")).toThrow(FormatError);
  });

  test("a digest that is there twice is refused", () => {
    const text = JSON.stringify({ critical, optional: null });
    const twice = text.replace(
      '"identity"',
      `"image":{"docker-manifest-digest":"${DIGEST}"},"identity"`,
    );
    expect(() => parseClaim(Buffer.from(twice), "cosign")).toThrow("twice");
  });
});

describe("GPG messages", () => {
  test("without gpgv the package is named", () => {
    const message = Buffer.from([0xa3, 1]);
    expect(() => verifyGpgMessage(message, [], "/nonexistent")).toThrow(
      'The program "gpgv" is needed to check signatures of GPG keys; install the package "gpgv" (Fedora: "gnupg2")',
    );
  });
  test.each([
    ["text", "-----BEGIN PGP MESSAGE-----"],
    ["nothing", ""],
  ])("%s is none", (_, text) => {
    expect(() => verifyGpgMessage(Buffer.from(text), [])).toThrow("not an OpenPGP message");
  });
});

describe("signature files", () => {
  const file = (value: unknown) => Buffer.concat([Buffer.from("\0sigstore-json\n"), bytes(value)]);
  const mimeType = "application/vnd.dev.cosign.simplesigning.v1+json";
  test("an OpenPGP message", () => {
    expect(parseSignatureFile(Buffer.from([0xa3, 1]), "x")).toMatchObject({ kind: "simple" });
  });
  test("a Sigstore signature", () => {
    const found = parseSignatureFile(
      file({ mimeType, payload: base64("pay"), annotations: { a: "b" } }),
      "x",
    );
    expect(found).toEqual({
      kind: "attachment",
      payload: new Uint8Array(Buffer.from("pay")),
      annotations: { a: "b" },
      where: "x",
    });
  });
  test.each([
    ["another format", Buffer.from("\0other\n{}")],
    ["text", Buffer.from("-----BEGIN PGP MESSAGE-----")],
    ["nothing", Buffer.alloc(0)],
    ["an attachment that is no signature", file({ mimeType: "text/plain", payload: "" })],
  ])("passed over: %s", (_, content) => {
    expect(parseSignatureFile(content, "x")).toBeNull();
  });
  test("one that is malformed is an error", () => {
    expect(() => parseSignatureFile(file({ mimeType }), "x")).toThrow(FormatError);
  });
});

describe("log entries", () => {
  const log = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const signer = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const other = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const pem = (pair: typeof log) =>
    pair.publicKey.export({ type: "spki", format: "pem" }).toString();
  const der = (pair: typeof log) => pair.publicKey.export({ type: "spki", format: "der" });
  const trusted = [parsePublicKey({ name: "rekor.pub", bytes: Buffer.from(pem(log)) })];
  const signed = Buffer.from("payload");
  const signature = sign("sha256", signed, signer.privateKey);
  const logged: LoggedSignature = { signature, signed, verifier: der(signer) };
  const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

  const body = (changes: { signature?: Uint8Array; signed?: Uint8Array; key?: string } = {}) => ({
    apiVersion: "0.0.1",
    kind: "hashedrekord",
    spec: {
      data: { hash: { algorithm: "sha256", value: sha256(changes.signed ?? signed) } },
      signature: {
        content: base64(changes.signature ?? signature),
        publicKey: { content: base64(changes.key ?? pem(signer)) },
      },
    },
  });
  const bundle = (content: unknown, key = log.privateKey) => {
    const Payload = {
      body: base64(bytes(content)),
      integratedTime: 1700000000,
      logID: "00",
      logIndex: 5,
    };
    const set = sign("sha256", Buffer.from(JSON.stringify(Payload)), key);
    return JSON.stringify({ SignedEntryTimestamp: base64(set), Payload });
  };

  test("one that is about the signature gives its time", () => {
    expect(verifyTimestamp(bundle(body()), trusted, logged)).toEqual(new Date(1700000000_000));
  });

  // CVE-2026-22703: entries that are genuine, but of something else.
  test.each<[string, Parameters<typeof body>[0], string]>([
    ["signature", { signature: sign("sha256", signed, signer.privateKey) }, "of another signature"],
    ["artifact", { signed: Buffer.from("other") }, "of another artifact"],
    ["key", { key: pem(other) }, "of another key"],
  ])("CVE-2026-22703: a valid entry of another %s is refused", (_, changes, message) => {
    expect(() => verifyTimestamp(bundle(body(changes)), trusted, logged)).toThrow(message);
  });

  test("one that another log signed is refused", () => {
    expect(() => verifyTimestamp(bundle(body(), other.privateKey), trusted, logged)).toThrow(
      'not signed by "rekor.pub"',
    );
  });

  test("one whose time was changed is refused", () => {
    const changed = bundle(body()).replace("1700000000", "1800000000");
    expect(() => verifyTimestamp(changed, trusted, logged)).toThrow("not signed by");
  });

  test.each<[string, unknown]>([
    ["unknown kind", { ...body(), kind: "rpm" }],
    ["unknown version", { ...body(), apiVersion: "0.0.9" }],
    ["no key", { ...body(), spec: { ...body().spec, signature: { content: base64(signature) } } }],
  ])("an entry that nobody understands is refused: %s", (_, content) => {
    expect(() => verifyTimestamp(bundle(content), trusted, logged)).toThrow(FormatError);
  });

  const verifier = { publicKey: { rawBytes: base64(der(signer)) } };
  const hash = (data: Uint8Array) => ({
    algorithm: "SHA2_256",
    digest: base64(createHash("sha256").update(data).digest()),
  });
  const payload = Buffer.from("statement");
  test.each<[string, unknown]>([
    [
      "dsse 0.0.1",
      {
        apiVersion: "0.0.1",
        kind: "dsse",
        spec: {
          payloadHash: { algorithm: "sha256", value: sha256(payload) },
          signatures: [{ signature: base64(signature), verifier: base64(pem(signer)) }],
        },
      },
    ],
    [
      "hashedrekord 0.0.2",
      {
        apiVersion: "0.0.2",
        kind: "hashedrekord",
        spec: {
          hashedRekordV002: {
            data: hash(signed),
            signature: { content: base64(signature), verifier },
          },
        },
      },
    ],
    [
      "dsse 0.0.2",
      {
        apiVersion: "0.0.2",
        kind: "dsse",
        spec: {
          dsseV002: {
            payloadHash: hash(payload),
            signatures: [{ content: base64(signature), verifier }],
          },
        },
      },
    ],
  ])("%s binds signature, artifact and key", (_, content) => {
    const about = { ...logged, payload };
    requireAbout(bytes(content), about);
    const wrong: LoggedSignature[] = [
      { ...about, signature: Buffer.from("x") },
      { ...about, verifier: der(other) },
      { ...about, signed: Buffer.from("x"), payload: Buffer.from("x") },
    ];
    for (const each of wrong) {
      expect(() => requireAbout(bytes(content), each)).toThrow(SignatureRejection);
    }
  });
});
