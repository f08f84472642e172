// May this image be deployed here, as far as trust goes? Asked when it is staged or installed, and answered by
// the same judgement that prepare-root makes at its start (decision 0022). Pure.
//
// Two must agree: the image's own initramfs, because what that refuses would not start, and what runs now, because
// an update must not be the way around its keys. Only the second can be overruled.

import { shortId } from "../../shared/bytes/hex.ts";
import { PolicyError } from "../../shared/error.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import { judgeImage, type TrustJudgement } from "../../shared/format/trust/judgement.ts";
import { findWeakening } from "./continuity.ts";
import type { ImageTrust } from "./image-trust.ts";
import {
  type JudgedCandidate,
  mergeStatements,
  nearestRefusal,
  orderCandidates,
} from "./statement-choice.ts";

export interface AdmissionRequest {
  /** The deployment: hex digest of the boot image. */
  readonly id: string;
  readonly image: ImageTrust;
  /** What runs; null at installation, where nothing has been promised yet. */
  readonly running: ImageTrust | null;
  /** The signed statements that came with the image, in any order. */
  readonly documents: readonly Uint8Array[];
  /** Why these may not be all, a clause for a message; null: they are. */
  readonly gap: string | null;
  /** The lowest versions that the image's initramfs and the running system accept; null: any. */
  readonly ownFloor: number | null;
  readonly runningFloor: number | null;
  /** Also what is less than what runs. */
  readonly allowWeaker: boolean;
  readonly now: Date;
}

export interface Admission {
  /** What is kept with the deployment, where there is something for this image. */
  readonly document: Uint8Array | null;
  /** Of the image's own initramfs. */
  readonly judgement: TrustJudgement;
  readonly warnings: readonly string[];
}

/** PolicyError, which says what to do. */
export function admitImage(request: AdmissionRequest): Admission {
  const { allowWeaker, id, image, running } = request;
  if (running?.anchors.revokedDigests.has(id) === true) {
    throw new PolicyError(
      "revoked",
      `Image ${shortId(id)} is revoked by the running system: choose another one`,
      { id },
    );
  }
  const judged = judgeCandidates(request);
  const best = orderCandidates(judged.candidates)[0] ?? null;
  const judgement = judgeOwn(request, best, judged.problems);
  const document = best !== null && best.statement.digest === id ? best.document : null;
  const { warnings } = judgement;
  if (running === null) return { document, judgement, warnings };
  const refusal = refuseByRunning(request, running, best);
  const weakening = findWeakening(running, image, refusal?.message ?? null);
  if (weakening === null) return { document, judgement, warnings };
  const reason =
    weakening === refusal?.message
      ? weakening
      : `Image ${shortId(id)} is less than what runs: ${weakening}`;
  if (allowWeaker) return { document, judgement, warnings: [...warnings, reason] };
  throw new PolicyError(refusal?.code ?? "rejected", addRemedy(reason, request.gap), { id });
}

/** What was not found may be there: then trying again comes before doing without. */
function addRemedy(reason: string, gap: string | null): string {
  return gap === null
    ? `${reason}; "--allow-weaker-trust" takes it all the same`
    : addGap(reason, gap);
}

function addGap(reason: string, gap: string | null): string {
  return gap === null
    ? reason
    : `${reason}; ${gap}: try again when that works, or have the statement in the manifest itself ("bootc container sign")`;
}

/** Refuses before anything is fetched what can only be refused afterwards: PolicyError. */
export function requireStatement(
  request: Pick<AdmissionRequest, "allowWeaker" | "documents" | "gap" | "now" | "runningFloor">,
  running: ImageTrust,
): void {
  const { allowWeaker, documents, gap, now, runningFloor: floor } = request;
  if (allowWeaker || !running.hasLastingKeys) return;
  const { anchors } = running;
  const { candidates, problems } = mergeStatements(documents, [anchors]);
  const refusals = candidates.map(({ document, statement }) =>
    judge({ id: statement.digest, anchors, document, floor, now }),
  );
  if (refusals.includes(null)) return;
  const nearest = nearestRefusal(refusals.filter((refusal) => refusal !== null));
  const [problem] = problems;
  const missing = gap === null ? "it is not signed" : "no statement of it was found";
  const what = problem === undefined ? missing : `its statement is unusable: ${problem}`;
  const reason =
    nearest?.message ?? `The image cannot be taken by this machine of signed images: ${what}`;
  throw new PolicyError(nearest?.code ?? "unsigned", addRemedy(reason, gap));
}

/** The best of the statements, as far as there are any worth keeping; how good it is stands with it. */
export function chooseStatement(request: Omit<AdmissionRequest, "gap">): JudgedCandidate | null {
  return orderCandidates(judgeCandidates(request).candidates)[0] ?? null;
}

function judgeCandidates(request: Omit<AdmissionRequest, "gap">): {
  readonly candidates: readonly JudgedCandidate[];
  readonly problems: readonly string[];
} {
  const { documents, id, image, now, ownFloor, running, runningFloor } = request;
  const both = running === null ? [image.anchors] : [image.anchors, running.anchors];
  const { candidates, problems } = mergeStatements(documents, both);
  const judged = candidates.map((candidate): JudgedCandidate => {
    const { document } = candidate;
    const own = { id, anchors: image.anchors, document, floor: ownFloor, now };
    return {
      ...candidate,
      ownRefusal: judge(own),
      runningRefusal:
        running === null ? null : judge({ ...own, anchors: running.anchors, floor: runningFloor }),
    };
  });
  // Without keys every document is as good as none; one for another image is not to be kept.
  const isUseful = ({ statement }: JudgedCandidate) =>
    image.anchors.signed || statement.digest === id;
  return { candidates: judged.filter(isUseful), problems };
}

function judgeOwn(
  { gap, id, image, now, ownFloor }: AdmissionRequest,
  best: JudgedCandidate | null,
  problems: readonly string[],
): TrustJudgement {
  const document = best?.document ?? null;
  try {
    return judgeImage({ ...question(id), anchors: image.anchors, document, floor: ownFloor, now });
  } catch (cause) {
    if (!(cause instanceof PolicyError)) throw cause;
    const why = document === null && problems.length > 0 ? ` (${problems[0]})` : "";
    const isUnknown = cause.code === "unsigned" && gap !== null;
    const what = isUnknown ? `No statement of image ${shortId(id)} was found` : cause.message;
    const reason = `${what}${why}; its own initramfs would refuse it, so it cannot be deployed`;
    throw new PolicyError(cause.code, cause.code === "revoked" ? reason : addGap(reason, gap), {
      id,
    });
  }
}

function refuseByRunning(
  { id, now, runningFloor: floor }: AdmissionRequest,
  { anchors }: ImageTrust,
  best: JudgedCandidate | null,
): PolicyError | null {
  return best === null ? judge({ id, anchors, document: null, floor, now }) : best.runningRefusal;
}

interface Question {
  readonly id: string;
  readonly anchors: TrustAnchors;
  readonly document: Uint8Array | null;
  readonly floor: number | null;
  readonly now: Date;
}

/** Null when it is accepted. */
function judge(asked: Question): PolicyError | null {
  try {
    judgeImage({ ...asked, ...question(asked.id) });
    return null;
  } catch (error) {
    if (error instanceof PolicyError) return error;
    throw error;
  }
}

/** The deployment as the kernel command line names it: 128 digits are SHA-512. */
function question(id: string): { readonly id: string; readonly algorithm: string } {
  return { id, algorithm: id.length === 128 ? "sha512-12" : "sha256-12" };
}
