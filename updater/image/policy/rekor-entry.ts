// Entries of a transparency log (Rekor): proof that a signature was published, and when.
//
// An entry only counts for the signature, the artifact and the key or certificate it names; a valid
// entry of something else proves nothing (CVE-2026-22703). Formats: Rekor's hashedrekord 0.0.1 and
// 0.0.2, dsse 0.0.1 and 0.0.2; the signed entry timestamp (SET) is over canonical JSON (RFC 8785) of
// body, integratedTime, logID and logIndex.

import { createHash, createPublicKey, verify, X509Certificate } from "node:crypto";
import * as z from "zod";
import { parseStrictJson } from "./strict-json.ts";
import type { TrustedKey } from "./trusted-key.ts";
import { SignatureRejection } from "./verdict.ts";

/** What an entry must be about. */
export interface LoggedSignature {
  readonly signature: Uint8Array;
  /** The bytes that were signed: for DSSE with their type in front (PAE). */
  readonly signed: Uint8Array;
  /** DSSE only: the payload without that. */
  readonly payload?: Uint8Array;
  /** DER of the certificate, or of the public key, the signature was made with. */
  readonly verifier: Uint8Array;
}

const base64 = z.base64().transform((text) => new Uint8Array(Buffer.from(text, "base64")));

const bundleSchema = z.strictObject({
  SignedEntryTimestamp: base64,
  Payload: z.strictObject({
    body: z.base64(),
    integratedTime: z.int().nonnegative(),
    logIndex: z.int().nonnegative(),
    logID: z.string(),
  }),
});

/**
 * cosign's annotation "dev.sigstore.cosign/bundle": checks that one of `logs` signed it and that it is
 * about `logged`; returns when it was logged.
 */
export function verifyTimestamp(
  text: string,
  logs: readonly TrustedKey[],
  logged: LoggedSignature,
): Date {
  const bundle = parseStrictJson(bundleSchema, Buffer.from(text), "its log entry");
  const { body, integratedTime, logID, logIndex } = bundle.Payload;
  // Keys in this order and numbers as JSON.stringify writes them are the canonical form.
  const signed = Buffer.from(JSON.stringify({ body, integratedTime, logID, logIndex }));
  const isSigned = logs.some(
    ({ key }) =>
      key.asymmetricKeyType === "ec" && verify("sha256", signed, key, bundle.SignedEntryTimestamp),
  );
  if (!isSigned) {
    throw new SignatureRejection(
      `its log entry is not signed by ${logs.map(({ name }) => `"${name}"`).join(" or ")}`,
    );
  }
  requireAbout(Buffer.from(body, "base64"), logged);
  return new Date(integratedTime * 1000);
}

const rawVerifier = z.object({
  publicKey: z.object({ rawBytes: base64 }).optional(),
  x509Certificate: z.object({ rawBytes: base64 }).optional(),
});
const oldHash = z.object({ algorithm: z.string(), value: z.string() });
const newHash = z.object({ algorithm: z.string(), digest: base64 });

const bodySchema = z.union([
  z.object({
    kind: z.literal("hashedrekord"),
    apiVersion: z.literal("0.0.1"),
    spec: z.object({
      signature: z.object({ content: base64, publicKey: z.object({ content: base64 }) }),
      data: z.object({ hash: oldHash }),
    }),
  }),
  z.object({
    kind: z.literal("dsse"),
    apiVersion: z.literal("0.0.1"),
    spec: z.object({
      payloadHash: oldHash,
      signatures: z.array(z.object({ signature: base64, verifier: base64 })).length(1),
    }),
  }),
  z.object({
    kind: z.literal("hashedrekord"),
    apiVersion: z.literal("0.0.2"),
    spec: z.object({
      hashedRekordV002: z.object({
        signature: z.object({ content: base64, verifier: rawVerifier }),
        data: newHash,
      }),
    }),
  }),
  z.object({
    kind: z.literal("dsse"),
    apiVersion: z.literal("0.0.2"),
    spec: z.object({
      dsseV002: z.object({
        payloadHash: newHash,
        signatures: z.array(z.object({ content: base64, verifier: rawVerifier })).length(1),
      }),
    }),
  }),
]);

interface EntryFacts {
  readonly signature: Uint8Array;
  /** DER of a key or certificate. */
  readonly verifier: Uint8Array | null;
  readonly hash: { readonly of: "signed" | "payload"; readonly algorithm: string; hex: string };
}

/** SignatureRejection when the entry with this body is about anything else than `logged`. */
export function requireAbout(body: Uint8Array, logged: LoggedSignature): void {
  const entry = readBody(body);
  const same = (a: Uint8Array | null, b: Uint8Array) => a !== null && Buffer.compare(a, b) === 0;
  if (!same(entry.signature, logged.signature)) {
    throw new SignatureRejection("its log entry is of another signature");
  }
  const of = entry.hash.of === "payload" ? logged.payload : logged.signed;
  const algorithm = /^(?:SHA2_256|sha256)$/.test(entry.hash.algorithm) ? "sha256" : null;
  const hex = algorithm && of ? createHash(algorithm).update(of).digest("hex") : null;
  if (hex === null || hex !== entry.hash.hex) {
    throw new SignatureRejection("its log entry is of another artifact");
  }
  if (!same(entry.verifier, logged.verifier)) {
    throw new SignatureRejection("its log entry is of another key");
  }
}

function readBody(body: Uint8Array): EntryFacts {
  const entry = parseStrictJson(bodySchema, body, "the body of its log entry");
  if (entry.apiVersion === "0.0.1") {
    if (entry.kind === "hashedrekord") {
      const { signature, data } = entry.spec;
      const { algorithm, value: hex } = data.hash;
      const verifier = decodePem(signature.publicKey.content);
      return { signature: signature.content, verifier, hash: { of: "signed", algorithm, hex } };
    }
    const [first] = entry.spec.signatures;
    const { algorithm, value: hex } = entry.spec.payloadHash;
    return {
      signature: first?.signature ?? new Uint8Array(),
      verifier: decodePem(first?.verifier ?? new Uint8Array()),
      hash: { of: "payload", algorithm, hex },
    };
  }
  const isDsse = entry.kind === "dsse";
  const part = isDsse ? entry.spec.dsseV002.signatures[0] : entry.spec.hashedRekordV002.signature;
  const { algorithm, digest } = isDsse
    ? entry.spec.dsseV002.payloadHash
    : entry.spec.hashedRekordV002.data;
  const { publicKey, x509Certificate } = part?.verifier ?? {};
  return {
    signature: part?.content ?? new Uint8Array(),
    verifier: x509Certificate?.rawBytes ?? publicKey?.rawBytes ?? null,
    hash: {
      of: isDsse ? "payload" : "signed",
      algorithm,
      hex: Buffer.from(digest).toString("hex"),
    },
  };
}

/** DER of the one key or certificate in a PEM text. */
function decodePem(pem: Uint8Array): Uint8Array {
  const text = Buffer.from(pem).toString("latin1");
  try {
    if (text.includes("BEGIN CERTIFICATE")) return new X509Certificate(text).raw;
    return createPublicKey(text).export({ type: "spki", format: "der" });
  } catch (cause) {
    throw new SignatureRejection("its log entry holds no key", { cause });
  }
}
