// Why a signature does not count. Signatures come from outside: a bad one is a reason to look at the
// next, not a failure, so it is said with a class of its own that never leaves this folder.

/** The message completes "signature … does not count: ". */
export class SignatureRejection extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "SignatureRejection";
  }
}

/** A signature that counts. */
export interface AcceptedSignature {
  /** Fingerprint of a GPG key, path or SHA-256 of a public key, or who a certificate names. */
  readonly key: string;
  /** The name that the signature gives the image. */
  readonly name: string;
  /** sha256:… of the document that was signed: the image's manifest or the index it was chosen from. */
  readonly manifestDigest: string;
}
