// cosign 3's signatures: a Sigstore bundle (v0.1 to v0.3) that refers to the image. It holds a DSSE
// envelope with an in-toto statement about the image's digest, or a plain signature over the manifest.
//
// A bundle names no repository. It counts for the repository it was found in, or for the name in the
// signed annotation "docker-reference" where the signer gave one (docs/decisions/0012).

import { createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { type Bundle, bundleFromJSON } from "@sigstore/bundle";
import { type TrustMaterial, toSignedEntity, Verifier } from "@sigstore/verify";
import * as z from "zod";
import { splitDigest } from "../../../shared/format/oci/digest.ts";
import { parseCertificate } from "./certificate.ts";
import { type LoggedSignature, requireAbout } from "./rekor-entry.ts";
import { identifySigner, type SigstoreTrust } from "./sigstore-signer.ts";
import { parseStrictJson } from "./strict-json.ts";
import { type AcceptedSignature, SignatureRejection } from "./verdict.ts";

/** What the bundle must be about. */
export interface BundleSubject {
  readonly digest: string;
  /** The bytes with that digest. */
  readonly bytes: Uint8Array;
  /** Repository it was found in, "quay.io/os/desktop"; null where the transport has no names. */
  readonly repository: string | null;
}

const STATEMENT_TYPE = "application/vnd.in-toto+json";
/** Other statements (SBOMs, scans, provenance) are signed by the same keys, and approve of nothing. */
const SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1";
const NAME_ANNOTATION = "docker-reference";

const statementSchema = z.object({
  _type: z.enum(["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"]),
  predicateType: z.string(),
  subject: z
    .array(
      z.object({
        digest: z.record(z.string(), z.string()),
        annotations: z.record(z.string(), z.unknown()).optional(),
      }),
    )
    .min(1),
});

/** SignatureRejection when it is not about `subject`, or not by somebody trusted. */
export function verifyBundle(
  json: Uint8Array,
  subject: BundleSubject,
  trust: SigstoreTrust,
): AcceptedSignature {
  const bundle = readBundle(json);
  const content = readContent(bundle, subject);
  const key = identifySigner(trust, {
    signature: content.signature,
    signed: content.signed,
    ...readCertificates(bundle),
    checkLog: (verifier) => checkLog(bundle, subject, trust, { ...content, verifier }),
  });
  // Only now is it known who says so.
  const claimed = content.payload === undefined ? null : readStatement(content.payload, subject);
  const name = claimed ?? subject.repository;
  if (name === null) {
    throw new SignatureRejection(
      `it names no repository; sign with the annotation "${NAME_ANNOTATION}"`,
    );
  }
  return { key, name, manifestDigest: subject.digest };
}

function readBundle(json: Uint8Array): Bundle {
  try {
    return bundleFromJSON(JSON.parse(Buffer.from(json).toString("utf8")));
  } catch (cause) {
    throw new SignatureRejection("it is no Sigstore bundle", { cause });
  }
}

type Content = Omit<LoggedSignature, "verifier">;

function readContent(bundle: Bundle, subject: BundleSubject): Content {
  const { content } = bundle;
  if (content.$case === "messageSignature") {
    return { signature: content.messageSignature.signature, signed: subject.bytes };
  }
  const { payload, payloadType, signatures } = content.dsseEnvelope;
  const [first, ...more] = signatures;
  if (first === undefined || more.length > 0) {
    throw new SignatureRejection("its envelope does not have one signature");
  }
  if (payloadType !== STATEMENT_TYPE) {
    throw new SignatureRejection(`it signs a "${payloadType}", not a statement about an image`);
  }
  const head = `DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${payload.length} `;
  return { signature: first.sig, signed: Buffer.concat([Buffer.from(head), payload]), payload };
}

/** The name that the signer gives the image; null when none. */
function readStatement(payload: Uint8Array, { digest }: BundleSubject): string | null {
  const statement = parseStrictJson(statementSchema, payload, "the signed statement");
  if (statement.predicateType !== SIGN_PREDICATE) {
    throw new SignatureRejection(
      `it is an attestation ("${statement.predicateType}"), not a signature`,
    );
  }
  const { algorithm, hex } = splitDigest(digest);
  const about = statement.subject.find((subject) => subject.digest[algorithm] === hex);
  if (about === undefined) throw new SignatureRejection("it is of another image");
  const name = about.annotations?.[NAME_ANNOTATION];
  return typeof name === "string" ? name : null;
}

function readCertificates({ verificationMaterial: { content } }: Bundle) {
  if (content.$case === "publicKey") return { certificate: null, intermediates: [] };
  const ders =
    content.$case === "certificate"
      ? [content.certificate.rawBytes]
      : content.x509CertificateChain.certificates.map(({ rawBytes }) => rawBytes);
  const [leaf, ...others] = ders.map((der) => ({
    parsed: parseCertificate(der, "its certificate"),
    der: new Uint8Array(der),
  }));
  return { certificate: leaf ?? null, intermediates: others.map(({ parsed }) => parsed) };
}

/** Inclusion is proved by a signed timestamp or a checkpoint of a log that the policy trusts. */
function checkLog(
  bundle: Bundle,
  subject: BundleSubject,
  trust: SigstoreTrust,
  logged: LoggedSignature,
): Date | null {
  const { tlogEntries } = bundle.verificationMaterial;
  const [entry, ...more] = tlogEntries;
  if (entry === undefined) throw new SignatureRejection("it has no log entry");
  if (more.length > 0) throw new SignatureRejection("it has more than one log entry");
  requireAbout(entry.canonicalizedBody, logged);
  const entity = toSignedEntity(bundle, Buffer.from(subject.bytes));
  // The signature and its certificate were judged with the policy's rules; what is left is the log's word.
  const accepted = { ...entity, key: { $case: "public-key", hint: "" } as const, timestamps: [] };
  const material = (log: SigstoreTrust["logs"][number]): TrustMaterial => ({
    certificateAuthorities: [],
    timestampAuthorities: [],
    ctlogs: [],
    tlogs: [
      {
        // Names of logs are theirs to choose: a policy knows them by their keys.
        logID: entry.logId.keyId,
        baseURL: entry.inclusionProof?.checkpoint?.envelope ?? "",
        publicKey: log.key,
        validFor: { start: new Date(0), end: new Date(8.64e15) },
      },
    ],
    publicKey: () => ({ publicKey: signerKey(logged.verifier), validFor: () => true }),
  });
  const options = { tlogThreshold: 1, ctlogThreshold: 0, timestampThreshold: 0 };
  const reasons: unknown[] = [];
  const isLogged = trust.logs.some((log) => {
    try {
      new Verifier(material(log), options).verify(accepted);
      return true;
    } catch (cause) {
      reasons.push(cause);
      return false;
    }
  });
  if (!isLogged) {
    const names = trust.logs.map(({ name }) => `"${name}"`).join(" or ");
    throw new SignatureRejection(`its log entry is not vouched for by ${names}`, {
      cause: reasons[0],
    });
  }
  const hasTime = entry.inclusionPromise !== undefined && entry.integratedTime !== "0";
  return hasTime ? new Date(Number(entry.integratedTime) * 1000) : null;
}

/** From DER of a public key or a certificate. */
function signerKey(der: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(der), format: "der", type: "spki" });
  } catch {
    return new X509Certificate(der).publicKey;
  }
}
