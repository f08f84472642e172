// Which of the statements that came with an image is kept. Whoever made it may have attached several: by
// the old key and the new one, in the manifest and beside it, an expired one and its successor.
//
// Statements with the same text become one document with all their signatures: the machine that runs may know
// one key and the image's own initramfs another. Nothing is chosen for being first.

import { describeError, FormatError, type PolicyError } from "../../shared/error.ts";
import { isSignedBy } from "../../shared/format/ed25519/signature.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import type { TrustKey } from "../../shared/format/trust/key.ts";
import {
  formatSignedStatement,
  type ImageStatement,
  MAX_SIGNATURES,
  parseSignedStatement,
  type SignedStatement,
  type StatementSignature,
} from "../../shared/format/trust/statement.ts";

export interface Candidate {
  readonly statement: ImageStatement;
  /** The signed document, in its one spelling. */
  readonly document: Uint8Array;
}

/** What cannot be understood is left out, as somebody else's; `problems` says why. */
export function mergeStatements(
  documents: readonly Uint8Array[],
  anchors: readonly TrustAnchors[],
): { readonly candidates: readonly Candidate[]; readonly problems: readonly string[] } {
  const byText = new Map<string, SignedStatement[]>();
  const problems: string[] = [];
  for (const [index, bytes] of documents.entries()) {
    try {
      const signed = parseSignedStatement(bytes, `number ${index + 1} of the image`);
      byText.set(signed.text, [...(byText.get(signed.text) ?? []), signed]);
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      problems.push(describeError(error));
    }
  }
  const keys = anchors.flatMap((each) => each.keys);
  const candidates = [...byText.values()].map((same) => mergeSame(same, keys));
  return { candidates, problems };
}

/** Signatures that count go first, so that no bad one by the same key, and no ninth, is in their place. */
function mergeSame(same: readonly SignedStatement[], keys: readonly TrustKey[]): Candidate {
  const [{ statement, text }] = same as readonly [SignedStatement];
  const bytes = Buffer.from(text);
  const isGood = ({ fingerprint, signature }: StatementSignature) =>
    keys.some((key) => key.fingerprint === fingerprint && isSignedBy(key.bytes, bytes, signature));
  const all = same.flatMap(({ signatures }) => signatures);
  const good = all.filter(isGood);
  const byKey = new Map<string, StatementSignature>();
  for (const each of [...good, ...all.filter((one) => !good.includes(one))]) {
    if (byKey.size < MAX_SIGNATURES && !byKey.has(each.fingerprint)) {
      byKey.set(each.fingerprint, each);
    }
  }
  const document = formatSignedStatement(statement, [...byKey.values()]);
  return { statement, document: Buffer.from(document) };
}

/** How a candidate was judged; both null when it is accepted. */
export interface JudgedCandidate extends Candidate {
  /** Why the image's own initramfs would refuse it. */
  readonly ownRefusal: PolicyError | null;
  /** Why the running system's keys do; null also where there are none. */
  readonly runningRefusal: PolicyError | null;
}

/** The best first: what both accept, then the higher version, then what lasts longer. */
export function orderCandidates(candidates: readonly JudgedCandidate[]): JudgedCandidate[] {
  return [...candidates].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      b.statement.version - a.statement.version ||
      lifetime(b.statement) - lifetime(a.statement),
  );
}

function rank({ ownRefusal, runningRefusal }: JudgedCandidate): number {
  return (ownRefusal === null ? 0 : 2) + (runningRefusal === null ? 0 : 1);
}

/** Milliseconds since 1970; what does not expire lasts longest. */
function lifetime({ expires }: ImageStatement): number {
  return expires === null ? Number.MAX_SAFE_INTEGER : Date.parse(expires);
}

/** Of the reasons against several statements, the one nearest to being right. */
export function nearestRefusal(refusals: readonly PolicyError[]): PolicyError | null {
  const order = ["unsigned", "wrong-image", "untrusted-key", "revoked", "downgrade", "expired"];
  const distance = ({ code }: PolicyError) => order.indexOf(code);
  return [...refusals].sort((a, b) => distance(b) - distance(a))[0] ?? null;
}
