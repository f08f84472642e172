// The signed statements of an image, judged as its own initramfs will (decision 0021), and by the keys that whoever
// checks it trusts.

import { describeError, PolicyError } from "../../shared/error.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import type { TrustKey } from "../../shared/format/trust/key.ts";
import { admitImage } from "../trust/admission.ts";
import type { ImageTrust } from "../trust/image-trust.ts";
import type { Notes, VerifiedImage } from "./verify-notes.ts";

export interface CheckedStatement {
  readonly version: number;
  readonly expires: string | null;
  /** Whose signature counted. */
  readonly key: { readonly name: string; readonly fingerprint: string };
}

interface Question {
  readonly id: string;
  readonly documents: readonly Uint8Array[];
  /** Of whoever asks. */
  readonly keys: readonly TrustKey[];
  readonly now: Date;
}

/** Null when the image needs none and none was asked for, and when none is good. */
export function checkStatements(
  { trust }: VerifiedImage,
  question: Question,
  notes: Notes,
): CheckedStatement | null {
  const own = judge(trust, question, "the image's own initramfs", notes);
  if (question.keys.length === 0) return own;
  const anchors: TrustAnchors = { ...trust.anchors, keys: question.keys, signed: true };
  return judge({ ...trust, anchors }, question, "the given keys", notes);
}

function judge(
  image: ImageTrust,
  { id, documents, now }: Question,
  who: string,
  notes: Notes,
): CheckedStatement | null {
  try {
    const { judgement, warnings } = admitImage({
      ...{ id, image, documents, gap: null, now },
      ...{ running: null, ownFloor: null, runningFloor: null, allowWeaker: false },
    });
    notes.warnings.push(...warnings);
    const { key, statement } = judgement;
    if (key === null || statement === null) return null;
    const { name, fingerprint } = key;
    return { version: statement.version, expires: statement.expires, key: { name, fingerprint } };
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    notes.findings.push(`Refused by ${who}: ${describeError(error)}`);
    return null;
  }
}
