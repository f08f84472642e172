// Will the firmware refuse this EFI program? Said only where it is certain (decision 0022): a refused program costs more than
// the trial, since some firmware stops after two of them until a person comes. Pure.
//
// Who signed is told by the certificates in the signature. That the signature is right is not checked: the program
// came with an image whose digests were.

import { X509Certificate } from "node:crypto";
import type { FirmwareKeys } from "./firmware-keys.ts";

export interface ProgramSignature {
  /** Of the program in the image. */
  readonly path: string;
  /** Certificates in its signatures, in DER; null when it is not signed. */
  readonly certificates: readonly Uint8Array[] | null;
  /** Why they are not known, one clause; null: they are. */
  readonly problem: string | null;
}

export type ProgramVerdict =
  | { readonly kind: "fine" }
  /** One clause about the program. */
  | { readonly kind: "refused" | "unclear"; readonly reason: string };

export function judgeProgram(
  { certificates, path, problem }: ProgramSignature,
  { allowed, forbidden, problem: keysProblem, shim }: FirmwareKeys,
): ProgramVerdict {
  const what = `its unified kernel "${path}"`;
  if (problem !== null) return { kind: "unclear", reason: `${what} cannot be judged (${problem})` };
  // A list of programs by their hashes may have it all the same.
  const mayBeListed = allowed.hasOthers || shim?.hasOthers === true;
  if (certificates === null) {
    const reason = `${what} has no Secure Boot signature`;
    return { kind: mayBeListed ? "unclear" : "refused", reason };
  }
  const signers = certificates.flatMap(parse);
  const revoked = findSigner(signers, forbidden.certificates.flatMap(parse));
  if (revoked !== null) {
    return { kind: "refused", reason: `${what} is signed by ${revoked}, which is in dbx` };
  }
  if (keysProblem !== null) {
    return { kind: "unclear", reason: `who may sign ${what} is unknown (${keysProblem})` };
  }
  const known = [...allowed.certificates, ...(shim?.certificates ?? [])].flatMap(parse);
  if (findSigner(signers, known) !== null) return { kind: "fine" };
  const names = [...new Set(signers.map(nameOf))].join(", ") || "nobody that can be told";
  const reason = `${what} is signed by ${names}, and by no key in the firmware's db`;
  // Not all that shim knows has to be in its list.
  return { kind: mayBeListed || shim !== null ? "unclear" : "refused", reason };
}

/** The subject of the first that is one of `known`, or was issued by one; null when none is. */
function findSigner(
  signers: readonly X509Certificate[],
  known: readonly X509Certificate[],
): string | null {
  const found = signers.find((signer) =>
    known.some((one) => one.raw.equals(signer.raw) || isIssuedBy(signer, one)),
  );
  return found === undefined ? null : nameOf(found);
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.issuer === issuer.subject && certificate.verify(issuer.publicKey);
  } catch {
    // A key of a kind that cannot have signed it.
    return false;
  }
}

/** None when it is no certificate. */
function parse(der: Uint8Array): readonly X509Certificate[] {
  try {
    return [new X509Certificate(der)];
  } catch {
    return [];
  }
}

/** The common name, in ASCII that no terminal acts upon. */
function nameOf({ subject }: X509Certificate): string {
  const name = /^CN=(.*)$/m.exec(subject)?.[1] ?? subject.replaceAll("\n", ", ");
  return `"${name.replaceAll(/[^\x20-\x7e]|["\\]/g, "?").slice(0, 80)}"`;
}
