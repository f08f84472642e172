// May this image be used? Policy, signatures and the image's name together give one answer, before
// anything but manifests was read (containers-policy.json(5); docs/decisions/0012).
//
// All requirements of the one scope that applies must hold; each needs one signature it accepts. A
// signature may be of the image's manifest or of an index that led to it: the index promises the
// manifest's digest, which was checked.

import { PolicyError } from "../../../shared/error.ts";
import type { ConfigPlace } from "../../registry/config-place.ts";
import type { RegistryReference } from "../../registry/reference.ts";
import { displayReference, type ImageReference } from "../reference.ts";
import type { ResolvedDocument } from "../resolved-image.ts";
import { type Policy, policyPaths, readPolicy } from "./policy-file.ts";
import type { Requirement } from "./requirement.ts";
import { openSignatureList, type SignatureList, satisfyRequirement } from "./satisfaction.ts";
import { chooseRequirements, describeSubject, type PolicySubject } from "./scopes.ts";
import type { SignatureSource } from "./signature-source.ts";
import type { AcceptedSignature } from "./verdict.ts";

export interface PolicyRequest {
  readonly reference: ImageReference;
  readonly found: RegistryReference | null;
  /** Indexes first, the manifest last; at least that. */
  readonly documents: readonly ResolvedDocument[];
  readonly signatures: SignatureSource | null;
  /** `--enforce-container-sigpolicy`: a policy that accepts anything by default is not enough. */
  readonly enforce: boolean;
  /** Where policies are looked for. */
  readonly place: ConfigPlace;
}

export interface PolicyDecision {
  /** Null: there is no policy, and the image is from this machine's own disk. */
  readonly policyPath: string | null;
  /** For people: `scope "quay.io/os" of transport "docker"`. */
  readonly scope: string;
  readonly requirements: readonly MetRequirement[];
  /** RFC 3339, UTC. */
  readonly time: string;
}

export interface MetRequirement {
  readonly type: Requirement["type"];
  /** Where a signature was required. */
  readonly signature: AcceptedSignature | null;
}

/** PolicyError naming policy file, scope and what is missing. */
export async function decidePolicy(request: PolicyRequest): Promise<PolicyDecision> {
  const { reference, place, enforce } = request;
  const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const policy = readPolicy(place);
  if (policy === null) {
    requirePolicyless(request);
    return { policyPath: null, scope: "no policy", requirements: [], time };
  }
  if (enforce) requireStrictDefault(policy, reference);
  const subject = describeSubject(reference, request.found);
  const { scope, requirements } = chooseRequirements(policy, subject);
  const signatures = openSignatures(request, requirements);
  const met: MetRequirement[] = [];
  for (const requirement of requirements) {
    met.push(await meetRequirement(requirement, { policy, scope, subject, signatures, request }));
  }
  return { policyPath: policy.path, scope, requirements: met, time };
}

/** From a network nothing is taken without a policy; what lies on the machine somebody put there. */
function requirePolicyless({ reference, enforce, place }: PolicyRequest): void {
  if (!enforce && reference.transport !== "registry") return;
  const places = policyPaths(place).map((path) => `"${path}"`);
  throw new PolicyError(
    "rejected",
    `Image "${displayReference(reference)}" cannot be accepted without a policy: there is none of ${places.join(", ")}; ` +
      (enforce
        ? "write one that names the keys of its signers (containers-policy.json(5))"
        : `to accept unsigned images put {"default":[{"type":"insecureAcceptAnything"}]} into one of them`),
  );
}

/** As bootc does for images that are to be signed (bootc.md 3.6). */
function requireStrictDefault(policy: Policy, reference: ImageReference): void {
  const [only, ...more] = policy.default;
  if (more.length > 0 || only?.type !== "insecureAcceptAnything") return;
  throw new PolicyError(
    "rejected",
    `Image "${displayReference(reference)}" is to be accepted by its signature, but policy "${policy.path}" accepts anything ` +
      'by default; let its "default" be "reject" and name the image\'s scope and key',
    { path: policy.path, scope: "the default" },
  );
}

interface Situation {
  readonly policy: Policy;
  readonly scope: string;
  readonly subject: PolicySubject;
  readonly signatures: SignatureList;
  readonly request: PolicyRequest;
}

async function meetRequirement(
  requirement: Requirement,
  situation: Situation,
): Promise<MetRequirement> {
  const { type } = requirement;
  switch (type) {
    case "insecureAcceptAnything":
      return { type, signature: null };
    case "reject":
      throw refuse(situation, "rejected", "it rejects all images there");
    case "signedBaseLayer":
      throw refuse(situation, "rejected", '"signedBaseLayer" is not supported by any program');
    case "signedBy":
    case "sigstoreSigned": {
      const { subject, signatures } = situation;
      let outcome: Awaited<ReturnType<typeof satisfyRequirement>>;
      try {
        outcome = await satisfyRequirement(requirement, subject.reference, signatures);
      } catch (cause) {
        throw explainFailure(cause, situation);
      }
      if (outcome.kind === "accepted") return { type, signature: outcome.signature };
      const { reasons, wanted } = outcome;
      const count = reasons.length;
      const why =
        count === 0
          ? `it has no ${type === "signedBy" ? "GPG" : "Sigstore"} signature, and one by ${wanted} is required`
          : `no signature by ${wanted} is among its ${count}: ${reasons.join("; ")}`;
      throw refuse(situation, count === 0 ? "unsigned" : "untrusted-key", why);
    }
  }
}

function openSignatures(
  { documents, signatures }: PolicyRequest,
  requirements: readonly Requirement[],
): SignatureList {
  const has = (type: Requirement["type"]) => requirements.some((each) => each.type === type);
  const wanted = { simple: has("signedBy"), sigstore: has("sigstoreSigned") };
  return openSignatureList(signatures, documents, wanted);
}

function refuse(
  { policy, scope, request }: Situation,
  code: "rejected" | "unsigned" | "untrusted-key",
  why: string,
  cause?: unknown,
): PolicyError {
  return new PolicyError(
    code,
    `Image "${displayReference(request.reference)}" is refused by policy "${policy.path}", ${scope}: ${why}`,
    { path: policy.path, scope },
    { cause },
  );
}

/** A key that is missing or a store that does not answer: say for which policy it was needed. */
function explainFailure(cause: unknown, situation: Situation): PolicyError {
  return refuse(situation, "rejected", "its signatures cannot be checked", cause);
}
