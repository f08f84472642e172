// The key and the certificate that sign for Secure Boot, looked at before anything is made: so that what is wrong with
// them is said at once, in one line, and not by the signer at the end.

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { FormatError, StateError } from "../../shared/error.ts";

export interface CheckedCertificate {
  readonly pem: string;
  readonly warnings: readonly string[];
}

/** In PEM, as it is given or made of DER. StateError when it cannot be read, FormatError when it is none. */
export function readCertificate(path: string): CheckedCertificate {
  const bytes = readInput(path, "certificate");
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(bytes);
  } catch {
    // The library's reason is a list of function names.
    throw new FormatError("bad-value", `"${path}" is no certificate, in PEM or DER`, { path });
  }
  const end = new Date(certificate.validTo);
  const isOver = end.getTime() < Date.now();
  const warnings = [
    ...(isOver
      ? [
          `The certificate "${path}" was valid until ${end.toISOString().slice(0, 10)} only: firmware does not look at that, other programs may`,
        ]
      : []),
    ...warnAboutKind(certificate, path),
  ];
  return { pem: certificate.toString(), warnings };
}

/** FormatError for a kind of key that signs no EFI program (RFC 2315 has none of them): no signer takes it. */
function warnAboutKind(certificate: X509Certificate, path: string): readonly string[] {
  const kind = kindOf(certificate);
  if (kind === "rsa") return [];
  if (kind === "ec") {
    return [
      `The certificate "${path}" has a key of type ec, which much firmware cannot check: RSA of 2048 bits is what all of it knows`,
    ];
  }
  throw new FormatError(
    "bad-value",
    `The certificate "${path}" has a key of type ${kind}, which signs no EFI program: make one with "openssl req -x509 -newkey rsa:2048"`,
    { path },
  );
}

function kindOf(certificate: X509Certificate): string {
  try {
    return certificate.publicKey.asymmetricKeyType ?? "unknown";
  } catch {
    // One that the library does not know, such as RSA-PSS.
    return "unknown";
  }
}

/** StateError when the key cannot be read, FormatError when it is none, or not the certificate's. */
export function requireKeyOf(certificatePath: string, keyPath: string): void {
  const text = readInput(keyPath, "key").toString("latin1");
  if (text.includes("ENCRYPTED")) {
    throw badKey(
      keyPath,
      'is encrypted; decrypt it for this with "openssl pkey", or sign elsewhere ("--unsigned-uki-out")',
    );
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw badKey(keyPath, "is no private key in PEM");
  }
  const { pem } = readCertificate(certificatePath);
  if (new X509Certificate(pem).checkPrivateKey(key)) return;
  throw badKey(keyPath, `is not the key of the certificate "${certificatePath}"`);
}

function readInput(path: string, what: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new StateError("missing", `Cannot read the ${what} "${path}"`, { path }, { cause });
  }
}

function badKey(path: string, problem: string): FormatError {
  return new FormatError("bad-value", `The Secure Boot key "${path}" ${problem}`, { path });
}
