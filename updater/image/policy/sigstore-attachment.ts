// cosign 2's signatures: a payload that names image and digest, with signature, certificate and log
// entry as annotations of the layer that holds it (cosign's SIGNATURE_SPEC.md).

import { parseCertificates } from "./certificate.ts";
import { parseClaim } from "./payload.ts";
import { verifyTimestamp } from "./rekor-entry.ts";
import type { FoundSignature } from "./signature-source.ts";
import { identifySigner, type SigstoreTrust } from "./sigstore-signer.ts";
import { type AcceptedSignature, SignatureRejection } from "./verdict.ts";

const ANNOTATION = {
  signature: "dev.cosignproject.cosign/signature",
  certificate: "dev.sigstore.cosign/certificate",
  chain: "dev.sigstore.cosign/chain",
  bundle: "dev.sigstore.cosign/bundle",
} as const;

/** SignatureRejection when it is not by somebody trusted; FormatError when its payload is malformed. */
export function verifyAttachment(
  { payload, annotations }: FoundSignature & { kind: "attachment" },
  trust: SigstoreTrust,
): AcceptedSignature {
  const text = annotations[ANNOTATION.signature];
  if (text === undefined) throw new SignatureRejection("it has no signature annotation");
  const signature = new Uint8Array(Buffer.from(text, "base64"));
  const key = identifySigner(trust, {
    signature,
    signed: payload,
    certificate: readCertificate(annotations[ANNOTATION.certificate]),
    intermediates: parseCertificates(annotations[ANNOTATION.chain] ?? "", "its certificate chain"),
    checkLog: (verifier) => {
      const entry = annotations[ANNOTATION.bundle];
      if (entry === undefined) throw new SignatureRejection("it has no log entry");
      return verifyTimestamp(entry, trust.logs, { signature, signed: payload, verifier });
    },
  });
  const { name, manifestDigest } = parseClaim(payload, "cosign");
  return { key, name, manifestDigest };
}

function readCertificate(pem: string | undefined) {
  if (pem === undefined || pem === "") return null;
  const [parsed, ...more] = parseCertificates(pem, "its certificate");
  if (parsed === undefined || more.length > 0) {
    throw new SignatureRejection("its certificate annotation does not hold one certificate");
  }
  return { parsed, der: parsed.root.toDER() };
}
