// Who made a Sigstore signature, if it is somebody the policy trusts: one of its keys, a person or
// workflow that a Fulcio of the policy certified (offline, with a log entry that says when), or a
// certificate of an ordinary CA.

import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { FormatError, PolicyError } from "../../../shared/error.ts";
import {
  type Certificate,
  type CertificateNames,
  parseCertificates,
  readNames,
  requireChain,
} from "./certificate.ts";
import type { SigstoreSigned } from "./requirement.ts";
import { loadBytes, type NamedBytes, parsePublicKey, type TrustedKey } from "./trusted-key.ts";
import { SignatureRejection } from "./verdict.ts";

export interface SigstoreTrust {
  readonly signer:
    | { readonly kind: "keys"; readonly keys: readonly TrustedKey[] }
    | {
        readonly kind: "certificate";
        readonly roots: readonly Certificate[];
        readonly intermediates: readonly Certificate[];
        readonly oidcIssuer: string | null;
        readonly email: string | null;
        readonly host: string | null;
      };
  /** Keys of transparency logs; empty: entries are neither needed nor looked at. */
  readonly logs: readonly TrustedKey[];
}

/** A signature with what is needed to judge it. */
export interface SignedBytes {
  readonly signature: Uint8Array;
  readonly signed: Uint8Array;
  /** The signer's, in DER; null when it is not there. */
  readonly certificate: { readonly parsed: Certificate; readonly der: Uint8Array } | null;
  readonly intermediates: readonly Certificate[];
  /**
   * Checks the log entry, which must name `verifier` (DER of the key or certificate), and returns when
   * it was logged; null when the log does not say. SignatureRejection.
   */
  readonly checkLog: (verifier: Uint8Array) => Date | null;
}

/** Reads keys and certificates of the requirement. PolicyError when one is missing or unusable. */
export function loadSigstoreTrust(requirement: SigstoreSigned): SigstoreTrust {
  const { keyPath, keyPaths, keyData, keyDatas, fulcio, pki } = requirement;
  const logs = loadBytes({
    field: "rekorPublicKey",
    path: requirement.rekorPublicKeyPath,
    paths: requirement.rekorPublicKeyPaths,
    data: requirement.rekorPublicKeyData,
    datas: requirement.rekorPublicKeyDatas,
  }).map(parsePublicKey);
  if (fulcio !== undefined) {
    const { caPath: path, caData: data, oidcIssuer, subjectEmail } = fulcio;
    const roots = loadAuthorities(loadBytes({ field: "fulcio.ca", path, data }));
    const names = { oidcIssuer, email: subjectEmail, host: null };
    return { signer: { kind: "certificate", roots, intermediates: [], ...names }, logs };
  }
  if (pki !== undefined) {
    const roots = { field: "pki.caRoots", path: pki.caRootsPath, data: pki.caRootsData };
    const between = {
      field: "pki.caIntermediates",
      path: pki.caIntermediatesPath,
      data: pki.caIntermediatesData,
    };
    const signer = {
      kind: "certificate",
      roots: loadAuthorities(loadBytes(roots)),
      intermediates: loadAuthorities(loadBytes(between)),
      oidcIssuer: null,
      email: pki.subjectEmail ?? null,
      host: pki.subjectHostname ?? null,
    } as const;
    return { signer, logs };
  }
  const keys = loadBytes({
    field: "key",
    path: keyPath,
    paths: keyPaths,
    data: keyData,
    datas: keyDatas,
  });
  return { signer: { kind: "keys", keys: keys.map(parsePublicKey) }, logs };
}

/** For people: the key's path, or whom the certificate names. SignatureRejection when nobody trusted. */
export function identifySigner({ signer, logs }: SigstoreTrust, input: SignedBytes): string {
  if (signer.kind === "keys") {
    const found = signer.keys.find(({ key }) => fitsKey(key, input));
    if (found === undefined) {
      const names = signer.keys.map(({ name }) => `"${name}"`).join(", ");
      throw new SignatureRejection(`it was not made with the key ${names}`);
    }
    if (logs.length > 0) input.checkLog(found.key.export({ type: "spki", format: "der" }));
    return found.name;
  }
  try {
    return identifyHolder(signer, logs, input);
  } catch (cause) {
    if (cause instanceof SignatureRejection || cause instanceof FormatError) throw cause;
    // The parser of certificates looks at their parts when they are asked for.
    throw new SignatureRejection("its certificate is malformed", { cause });
  }
}

type CertifiedSigner = SigstoreTrust["signer"] & { readonly kind: "certificate" };

function identifyHolder(
  signer: CertifiedSigner,
  logs: readonly TrustedKey[],
  input: SignedBytes,
): string {
  const { certificate } = input;
  if (certificate === null) throw new SignatureRejection("it has no certificate");
  const key = createPublicKey({ key: certificate.parsed.publicKey, format: "der", type: "spki" });
  if (!fitsKey(key, input)) throw new SignatureRejection("it does not fit what it signs");
  const at = logs.length > 0 ? input.checkLog(certificate.der) : new Date();
  if (at === null) {
    throw new SignatureRejection(
      "its log entry does not say when it was made, so nobody knows whether its certificate was valid",
    );
  }
  const { roots } = signer;
  const intermediates = [...signer.intermediates, ...input.intermediates];
  requireChain({ leaf: certificate.parsed, roots, intermediates, at });
  return requireSubject(signer, readNames(certificate.parsed));
}

function requireSubject(
  wanted: Pick<CertifiedSigner, "oidcIssuer" | "email" | "host">,
  names: CertificateNames,
): string {
  if (wanted.oidcIssuer !== null && names.oidcIssuer !== wanted.oidcIssuer) {
    const found = names.oidcIssuer === null ? "none" : `"${names.oidcIssuer}"`;
    throw new SignatureRejection(
      `its certificate's OIDC issuer is ${found}, not "${wanted.oidcIssuer}"`,
    );
  }
  // Workflows have a URI where people have an address.
  const subjects = [...names.emails, ...(wanted.oidcIssuer === null ? [] : names.uris)];
  if (wanted.email !== null && !subjects.includes(wanted.email)) {
    throw new SignatureRejection(
      `its certificate is of ${subjects.map((name) => `"${name}"`).join(", ") || "nobody"}, not of "${wanted.email}"`,
    );
  }
  const { host } = wanted;
  if (host !== null && !names.hosts.some((name) => matchesHost(name, host))) {
    throw new SignatureRejection(`its certificate is not of host "${host}"`);
  }
  const who = wanted.email ?? host ?? "";
  return wanted.oidcIssuer === null ? who : `${who} (${wanted.oidcIssuer})`;
}

/** "*" stands for one label, the first. */
function matchesHost(pattern: string, host: string): boolean {
  const [name, wanted] = [pattern.toLowerCase(), host.toLowerCase()];
  if (!name.startsWith("*.")) return name === wanted;
  return wanted.includes(".") && wanted.slice(wanted.indexOf(".")) === name.slice(1);
}

/** ECDSA and RSA (PKCS #1 1.5) over SHA-256, as cosign signs with every key size; Ed25519 as it is. */
function fitsKey(key: KeyObject, { signed, signature }: SignedBytes): boolean {
  try {
    return verify(key.asymmetricKeyType === "ed25519" ? null : "sha256", signed, key, signature);
  } catch {
    return false;
  }
}

function loadAuthorities(files: readonly NamedBytes[]): readonly Certificate[] {
  return files.flatMap(({ name, bytes }) => {
    try {
      const certificates = parseCertificates(bytes, "a certificate");
      if (certificates.length === 0) throw new SignatureRejection("it holds no PEM certificate");
      return certificates;
    } catch (cause) {
      const message = `CA "${name}" cannot be used`;
      throw new PolicyError("untrusted-key", message, { path: name }, { cause });
    }
  });
}
