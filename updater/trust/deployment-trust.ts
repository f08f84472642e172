// How a deployment proves what it is, as `bootc status` names it (decision 0022). Pure.
//
// The mode is what holds, never what an image would like: a sealed image on a machine without Secure Boot is as
// unlocked as any other, and a deployment whose initramfs checked nothing is not signed. What the image is made for
// stands beside it.

import { PolicyError } from "../../shared/error.ts";
import { judgeImage } from "../../shared/format/trust/judgement.ts";
import type { ImageTrust } from "./image-trust.ts";
import type { TrustMode } from "./next-mode.ts";
import type { StartEvidence } from "./running-trust.ts";
import type { SecureBoot } from "./secure-boot.ts";

export interface DeploymentTrust {
  readonly mode: TrustMode;
  /** The command line in its unified kernel names the image. */
  readonly sealed: boolean;
  /** Whose signature counts; null when none does. */
  readonly key: { readonly name: string; readonly fingerprint: string | null } | null;
  /** Of its statement. */
  readonly version: number | null;
  /** RFC 3339 */
  readonly expires: string | null;
  readonly verity: "enforced" | "optional" | "none";
  /** Why it would not start, one sentence; null: it would. */
  readonly refusal: string | null;
}

export interface TrustFacts {
  readonly id: string;
  /** Null when nobody knows. */
  readonly image: ImageTrust | null;
  readonly secureBoot: SecureBoot;
  /** Its signed statement on the disk; null when there is none. */
  readonly document: Uint8Array | null;
  /** The lowest version that starts; null: any. */
  readonly floor: number | null;
  readonly verity: DeploymentTrust["verity"];
  readonly now: Date;
}

/** The deployment that runs: what counts is what prepare-root did. */
export function describeRunning(
  facts: TrustFacts,
  evidence: StartEvidence | null,
): DeploymentTrust {
  const sealed = facts.image?.form === "sealed";
  const isSigned = evidence?.mode === "signed";
  const isKnown = isSigned && evidence.key !== null;
  return {
    mode: chooseMode(sealed, facts.secureBoot, isSigned),
    sealed,
    key: isKnown ? { name: evidence.keyName ?? "", fingerprint: evidence.key } : null,
    version: isSigned ? evidence.version : null,
    expires: isSigned ? evidence.expires : null,
    verity: facts.verity,
    // It runs; what matters is whether it will again.
    refusal: isSigned ? describeOther(facts).refusal : null,
  };
}

/** Any other deployment: what its initramfs will find when it is started. */
export function describeOther(facts: TrustFacts): DeploymentTrust {
  const { document, floor, id, image, now, secureBoot, verity } = facts;
  const sealed = image?.form === "sealed";
  const nothing = { key: null, version: null, expires: null };
  const mode = chooseMode(sealed, secureBoot, image?.anchors.signed === true);
  if (image === null) return { mode, sealed, ...nothing, verity, refusal: null };
  try {
    const { key, statement } = judgeImage({
      ...{ id, anchors: image.anchors, document, floor, now },
      algorithm: id.length === 128 ? "sha512-12" : "sha256-12",
    });
    return {
      ...{ mode, sealed, verity, refusal: null },
      key: key === null ? null : { name: key.name, fingerprint: key.fingerprint },
      version: statement?.version ?? null,
      expires: statement?.expires ?? null,
    };
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    return { mode, sealed, ...nothing, verity, refusal: error.message };
  }
}

function chooseMode(sealed: boolean, secureBoot: SecureBoot, isSigned: boolean): TrustMode {
  if (sealed && secureBoot === "enabled") return "sealed";
  return isSigned ? "signed" : "unlocked";
}
