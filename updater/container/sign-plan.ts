// What is to be signed, and what becomes of statements that the image has already: decided before a key is touched.
//
// - Signing what is signed already adds signatures to it: that is how a vendor goes from one key to the next.
// - What a statement says is taken over only when a key that was named has signed it: whoever can write to a
//   registry could otherwise have a version signed that ends all updates.
// - A statement that says something else takes the place of the older one, never of one with a higher version.

import { StateError, UsageError } from "../../shared/error.ts";
import { isSignedBy } from "../../shared/format/ed25519/signature.ts";
import { describeKey, type TrustKey } from "../../shared/format/trust/key.ts";
import {
  formatSignedStatement,
  formatStatement,
  type ImageStatement,
  type SignedStatement,
  type StatementFormat,
  type StatementSignature,
} from "../../shared/format/trust/statement.ts";

export interface SignRequest {
  /** Id that the image's deployments will have: sha512. */
  readonly digest: string;
  readonly format: StatementFormat;
  /** Null: that of the statement which one of `signedBy` signed. */
  readonly version: number | null;
  readonly expires: string | null;
  /** Whose word about version and expiry is taken. */
  readonly signedBy: readonly TrustKey[];
  /** Also below a version that was signed, and again by the same key. */
  readonly force: boolean;
  /** Readable statements of the image; those of other images do not count. */
  readonly existing: readonly SignedStatement[];
}

export interface SignPlan {
  readonly statement: ImageStatement;
  /** The bytes to sign. */
  readonly text: string;
  /** Of the same text. */
  readonly signatures: readonly StatementSignature[];
  /** Versions of statements that this one replaces. */
  readonly replaced: readonly number[];
}

/** UsageError without a version, StateError("conflict") below one that was signed. */
export function planSigning(request: SignRequest): SignPlan {
  const { digest, force } = request;
  const own = request.existing
    .filter(({ statement }) => statement.digest === digest)
    .toSorted((a, b) => b.statement.version - a.statement.version);
  const statement = makeStatement(request, own);
  const text = formatStatement(statement);
  const newest = own[0]?.statement.version ?? 0;
  if (newest > statement.version && !force) {
    throw new StateError(
      "conflict",
      `The image has a statement of version ${newest}, which is above ${statement.version}; give a higher --version, or --force`,
    );
  }
  const signatures = new Map<string, StatementSignature>();
  for (const each of own.filter((one) => one.text === text)) {
    for (const one of each.signatures) signatures.set(one.fingerprint, one);
  }
  const others = own.filter((one) => one.text !== text);
  return {
    statement,
    text,
    signatures: [...signatures.values()],
    replaced: others.map((one) => one.statement.version),
  };
}

function makeStatement(
  { digest, format, version, expires, signedBy }: SignRequest,
  own: readonly SignedStatement[],
): ImageStatement {
  const known = version === null ? findTrusted(own, signedBy) : null;
  return {
    digest,
    algorithm: "sha512-12",
    format,
    version: version ?? known!.version,
    expires: expires ?? known?.expires ?? null,
  };
}

/** The newest statement that one of the keys signed. */
function findTrusted(own: readonly SignedStatement[], keys: readonly TrustKey[]): ImageStatement {
  if (keys.length === 0) {
    throw new UsageError(
      "missing",
      "Which version is it? Give --version, a number that grows with every image, or --signed-by with the key of the statement that the image has",
    );
  }
  for (const { signatures, statement, text } of own) {
    const message = Buffer.from(text);
    const isTrusted = signatures.some(({ fingerprint, signature }) =>
      keys.some((key) => {
        return key.fingerprint === fingerprint && isSignedBy(key.bytes, message, signature);
      }),
    );
    if (isTrusted) return statement;
  }
  const names = keys.map(describeKey).join(", ");
  throw new StateError(
    "missing",
    `The image has no statement signed by key ${names}; give --version`,
  );
}

/** StateError("exists") for a key that has signed this already. */
export function requireNewSigners(
  { signatures }: SignPlan,
  keys: readonly TrustKey[],
  force: boolean,
): void {
  const seen = new Set<string>();
  for (const key of keys) {
    const isTwice = seen.has(key.fingerprint);
    const isSigned = signatures.some(({ fingerprint }) => fingerprint === key.fingerprint);
    seen.add(key.fingerprint);
    if (isTwice) throw new UsageError("conflict", `Key ${describeKey(key)} is given twice`);
    if (isSigned && !force) {
      throw new StateError(
        "exists",
        `The image has this statement signed by key ${describeKey(key)} already; --force signs again`,
      );
    }
  }
}

/** The document: old signatures, then new ones. FormatError when there are more than a document may have. */
export function makeDocument(plan: SignPlan, added: readonly StatementSignature[]): string {
  const fingerprints = new Set(added.map(({ fingerprint }) => fingerprint));
  const kept = plan.signatures.filter(({ fingerprint }) => !fingerprints.has(fingerprint));
  return formatSignedStatement(plan.statement, [...kept, ...added]);
}
