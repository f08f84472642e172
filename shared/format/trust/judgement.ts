// May this image start? The one decision that prepare-root and the updater share (decision 0021).
//
// Reasons to refuse, in this order, of which the first one found is given:
//   1. revoked        the image's digest is in revoked.d; holds without keys, too
//   -- no key in the trust directory: nothing else is asked --
//   2. unsigned       there is no statement, or it is none that can be understood
//   3. wrong-image    the statement is for another image
//   4. untrusted-key  no good signature by a trusted key (`revoked` when one is by a revoked key)
//   5. downgrade      its version is below the floor
//   6. expired        its time is over (a warning, where trust.conf says so)
// One good signature by one trusted key is enough: that is how keys are changed, old and new both sign.

import { shortId } from "../../bytes/hex.ts";
import { describeError, PolicyError } from "../../error.ts";
import { isSignedBy } from "../ed25519/signature.ts";
import type { TrustAnchors } from "./anchors.ts";
import { describeKey, type TrustKey } from "./key.ts";
import { type ImageStatement, parseSignedStatement, type SignedStatement } from "./statement.ts";

export interface TrustJudgement {
  /** "unsigned": there are no keys; whether the image is sealed or unlocked cannot be told here. */
  readonly mode: "signed" | "unsigned";
  /** Whose signature counted, with its statement; both null when unsigned. */
  readonly key: TrustKey | null;
  readonly statement: ImageStatement | null;
  readonly warnings: readonly string[];
}

export interface TrustQuestion {
  /** The deployment: hex digest of its boot image. */
  readonly id: string;
  /** "sha512-12" or "sha256-12". */
  readonly algorithm: string;
  readonly anchors: TrustAnchors;
  /** The signed statement that came with the image. */
  readonly document: Uint8Array | null;
  /** Lowest version allowed; null when there is no floor. */
  readonly floor: number | null;
  readonly now: Date;
}

/** PolicyError with the reason as its code. */
export function judgeImage(question: TrustQuestion): TrustJudgement {
  const { id, anchors, floor, now } = question;
  if (anchors.revokedDigests.has(id)) {
    throw refusal("revoked", id, "is revoked: choose another one");
  }
  if (!anchors.signed) return { mode: "unsigned", key: null, statement: null, warnings: [] };
  const signed = readStatement(question);
  const { statement } = signed;
  const key = findSigner(id, signed, anchors);
  if (floor !== null && statement.version < floor) {
    const problem = `has version ${statement.version}, and this machine starts none below ${floor}: choose a newer one`;
    throw refusal("downgrade", id, problem);
  }
  const warnings: string[] = [];
  if (statement.expires !== null && now.getTime() >= Date.parse(statement.expires)) {
    const expired = refusal("expired", id, `expired at ${statement.expires}: choose a newer one`);
    if (anchors.expired === "refuse") throw expired;
    warnings.push(expired.message);
  }
  return { mode: "signed", key, statement, warnings };
}

function readStatement({ id, algorithm, document }: TrustQuestion): SignedStatement {
  if (document === null) {
    throw refusal(
      "unsigned",
      id,
      "is not signed, and this machine wants a signature: choose another one, or sign it",
    );
  }
  const signed = parseOrRefuse(id, document);
  const { statement } = signed;
  if (statement.digest === id && statement.algorithm === algorithm) return signed;
  const other = statement.digest === id ? statement.algorithm : shortId(statement.digest);
  throw refusal(
    "wrong-image",
    id,
    `has a statement for another one (${other}): choose another one, or sign it`,
  );
}

function parseOrRefuse(id: string, document: Uint8Array): SignedStatement {
  try {
    return parseSignedStatement(document, `${shortId(id)}.statement`);
  } catch (error) {
    const problem = `has no usable statement (${describeError(error)}): choose another one, or sign it`;
    throw refusal("unsigned", id, problem);
  }
}

function findSigner(id: string, signed: SignedStatement, anchors: TrustAnchors): TrustKey {
  const text = Buffer.from(signed.text);
  for (const { fingerprint, signature } of signed.signatures) {
    const key = anchors.keys.find((one) => one.fingerprint === fingerprint);
    if (key !== undefined && isSignedBy(key.bytes, text, signature)) return key;
  }
  const signers = signed.signatures.map(({ fingerprint }) => fingerprint);
  const revoked = signers.find((one) => anchors.revokedKeys.has(one));
  if (revoked !== undefined) {
    throw refusal(
      "revoked",
      id,
      `is signed by key ${revoked.slice(0, 16)}, which is revoked: choose another one, or sign it`,
    );
  }
  const altered = anchors.keys.find(({ fingerprint }) => signers.includes(fingerprint));
  if (altered !== undefined) {
    throw refusal(
      "untrusted-key",
      id,
      `has no good signature by key ${describeKey(altered)}, it or its statement was changed: choose another one`,
    );
  }
  const names = signers.map((one) => one.slice(0, 16)).join(", ");
  throw refusal(
    "untrusted-key",
    id,
    `is signed by no key that is trusted here, only by ${names}: choose another one, or sign it`,
  );
}

function refusal(code: PolicyError["code"], id: string, problem: string): PolicyError {
  return new PolicyError(code, `Image ${shortId(id)} ${problem}`, { id });
}
