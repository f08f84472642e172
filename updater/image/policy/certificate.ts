// X.509 certificates that stand behind a signature: a chain to a CA of the policy at the time of the
// signature, and whom the certificate names (RFC 5280; Fulcio's OIDs are 1.3.6.1.4.1.57264.1.*).
//
// Stricter than needed where it is cheap: unknown critical extensions, name constraints and extensions
// that are there twice refuse a certificate. Certificate transparency (SCT) is not looked at: the
// policy has no field for its keys, and the log entry of the signature holds the certificate anyway.

import { X509Certificate } from "@sigstore/core";
import { SignatureRejection } from "./verdict.ts";

const OID = {
  keyUsage: "2.5.29.15",
  alternativeName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  extendedKeyUsage: "2.5.29.37",
  codeSigning: "1.3.6.1.5.5.7.3.3",
  anyUsage: "2.5.29.37.0",
  issuer1: "1.3.6.1.4.1.57264.1.1",
  issuer2: "1.3.6.1.4.1.57264.1.8",
} as const;
const KNOWN_CRITICAL: ReadonlySet<string> = new Set([
  ...[OID.keyUsage, OID.alternativeName, OID.basicConstraints, OID.extendedKeyUsage],
]);
const SAN_TAG = { email: 1, dns: 2, uri: 6 } as const;
const MAX_CHAIN = 8;

export type Certificate = X509Certificate;

export interface CertificateNames {
  readonly emails: readonly string[];
  readonly hosts: readonly string[];
  readonly uris: readonly string[];
  /** Who vouched for the person or workflow, by Fulcio's extension; null without. */
  readonly oidcIssuer: string | null;
}

/** All certificates of a PEM text, in order. Throws SignatureRejection("… what"). */
export function parseCertificates(pem: Uint8Array | string, what: string): readonly Certificate[] {
  const text = typeof pem === "string" ? pem : Buffer.from(pem).toString("latin1");
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  return blocks.map((block) => {
    const body = block.replace(/-----[A-Z ]+-----/g, "").replace(/\s/g, "");
    return parseCertificate(Buffer.from(body, "base64"), what);
  });
}

export function parseCertificate(der: Uint8Array, what: string): Certificate {
  try {
    const certificate = X509Certificate.parse(Buffer.from(der));
    // The parser is lazy: whatever is read later must be readable.
    const dates = [certificate.notBefore.getTime(), certificate.notAfter.getTime()];
    if (dates.some(Number.isNaN)) throw new Error("its dates cannot be read");
    checkExtensions(certificate);
    return certificate;
  } catch (cause) {
    throw new SignatureRejection(`${what} is malformed`, { cause });
  }
}

export interface ChainRequest {
  readonly leaf: Certificate;
  /** Trusted by the policy. */
  readonly roots: readonly Certificate[];
  /** Trusted only as far as a root leads to them. */
  readonly intermediates: readonly Certificate[];
  readonly at: Date;
}

/** SignatureRejection unless a root leads to the leaf, all of them valid at the time. */
export function requireChain({ leaf, roots, intermediates, at }: ChainRequest): void {
  requireUsable(leaf, at, "its certificate");
  if (!allowsCodeSigning(leaf)) {
    throw new SignatureRejection("its certificate is not for signing code");
  }
  const isTrusted = (certificate: Certificate) => roots.some((root) => root.equals(certificate));
  /** `below`: certificates between this one and the leaf. */
  const reaches = (certificate: Certificate, below: number): boolean => {
    if (isTrusted(certificate)) return true;
    if (below >= MAX_CHAIN) return false;
    return [...roots, ...intermediates].some(
      (issuer) =>
        certificate.issuer.equals(issuer.subject) &&
        !issuer.equals(certificate) &&
        isIssuerAt(issuer, at, below) &&
        isSignedBy(certificate, issuer) &&
        reaches(issuer, below + 1),
    );
  };
  if (!reaches(leaf, 0)) {
    throw new SignatureRejection("no CA of the policy leads to its certificate at that time");
  }
}

export function readNames(certificate: Certificate): CertificateNames {
  const names = (tag: number) => {
    const general = certificate.extension(OID.alternativeName)?.valueObj.subs[0]?.subs ?? [];
    return general
      .filter((name) => name.tag.isContextSpecific(tag))
      .map((name) => name.value.toString("utf8"));
  };
  return {
    emails: names(SAN_TAG.email),
    hosts: names(SAN_TAG.dns),
    uris: names(SAN_TAG.uri),
    oidcIssuer: readOidcIssuer(certificate),
  };
}

/** Two generations of the extension; where both are there they must agree. */
function readOidcIssuer(certificate: Certificate): string | null {
  const old = certificate.extension(OID.issuer1)?.value.toString("utf8") ?? null;
  const recent =
    certificate.extension(OID.issuer2)?.valueObj.subs[0]?.value.toString("utf8") ?? null;
  if (old !== null && recent !== null && old !== recent) {
    throw new SignatureRejection("its certificate names two OIDC issuers");
  }
  return recent ?? old;
}

function isIssuerAt(issuer: Certificate, at: Date, below: number): boolean {
  const pathLength = issuer.extBasicConstraints?.pathLenConstraint;
  return (
    issuer.isCA &&
    issuer.validForDate(at) &&
    allowsCodeSigning(issuer) &&
    (pathLength === undefined || pathLength >= BigInt(below))
  );
}

function isSignedBy(certificate: Certificate, issuer: Certificate): boolean {
  try {
    return certificate.signatureAlgorithm !== undefined && certificate.verify(issuer);
  } catch {
    return false;
  }
}

function requireUsable(certificate: Certificate, at: Date, what: string): void {
  if (certificate.validForDate(at)) return;
  throw new SignatureRejection(
    `${what} was valid from ${certificate.notBefore.toISOString()} to ${certificate.notAfter.toISOString()}, ` +
      `not at ${at.toISOString()}`,
  );
}

/** Without the extension a certificate is for everything. */
function allowsCodeSigning(certificate: Certificate): boolean {
  const usages = certificate.extension(OID.extendedKeyUsage)?.valueObj.subs[0]?.subs;
  if (usages === undefined) return true;
  return usages.some((usage) =>
    ([OID.codeSigning, OID.anyUsage] as string[]).includes(usage.toOID()),
  );
}

function checkExtensions(certificate: Certificate): void {
  const seen = new Set<string>();
  for (const extension of certificate.extensions) {
    const oid = extension.subs[0]?.toOID() ?? "";
    if (seen.has(oid)) throw new Error(`extension ${oid} is there twice`);
    seen.add(oid);
    const isCritical = extension.subs.length === 3 && extension.subs[1]?.toBoolean() === true;
    if (oid === OID.nameConstraints || (isCritical && !KNOWN_CRITICAL.has(oid))) {
      throw new Error(`extension ${oid} is not supported`);
    }
  }
}
