// Origins in a check of the host side: is what they say what the repository says? Pure.
//
// Rewritten from what is certain: the tag that leads to the deployment's image, the kernel in it. The name of
// the image it came from is never guessed: an upgrade would follow a wrong one.

import type { DeploymentFacts, HostFacts } from "./host-facts.ts";
import type { HostFinding } from "./host-finding.ts";
import { formatOrigin, type Origin } from "./origin.ts";
import { type DeploymentState, statePaths } from "./state-directory.ts";

const NO_ORIGIN: Origin = {
  imageReference: null,
  bootType: "bls",
  bootDigest: null,
  manifestDigest: null,
};

export function judgeOrigin(
  { world, physicalRoot }: HostFacts,
  deployment: DeploymentFacts,
  state: DeploymentState,
): readonly HostFinding[] {
  const { origin } = state;
  const isBooted = deployment.id === world.booted?.id;
  const better = improveOrigin(deployment, state, findTwin(world.states, deployment, state));
  const kind =
    origin === null
      ? "origin-broken"
      : isIncomplete(state, isBooted)
        ? "origin-incomplete"
        : origin.bootDigest !== better.bootDigest
          ? "origin-wrong"
          : null;
  if (kind === null) return [];
  const text = formatOrigin(better);
  const isSame = origin !== null && text === formatOrigin(origin) && state.digestUncertain !== true;
  const knowsNothing = better.bootDigest === null && better.manifestDigest === null;
  return [
    {
      kind,
      path: statePaths(physicalRoot, deployment.id).origin,
      problem: {
        "origin-broken": "It cannot be read",
        "origin-incomplete": `It does not say ${missingParts(state, isBooted).join(" and ")}`,
        "origin-wrong": "Its boot digest is not that of the image's kernel",
      }[kind],
      advice: isBooted
        ? "switch to the image this machine is to follow"
        : "delete the deployment when it is not needed any more",
      steps: isSame || knowsNothing ? [] : [{ kind: "write-origin", id: deployment.id, text }],
    },
  ];
}

function isIncomplete(state: DeploymentState, isBooted: boolean): boolean {
  return missingParts(state, isBooted).length > 0;
}

/** Where another deployment came from matters to nobody but readers; what runs has to know it. */
function missingParts(
  { origin, digestUncertain }: DeploymentState,
  isBooted: boolean,
): readonly string[] {
  return [
    ...(isBooted && origin?.imageReference === null ? ["where the image is from"] : []),
    ...(origin?.manifestDigest === null || digestUncertain === true ? ["which image it is"] : []),
    ...(origin?.bootDigest === null ? ["which kernel it starts"] : []),
  ];
}

function improveOrigin(
  { image, manifestDigests }: DeploymentFacts,
  { origin, digestUncertain }: DeploymentState,
  twin: Origin | null,
): Origin {
  const known = origin ?? NO_ORIGIN;
  const [only, ...others] = manifestDigests;
  const byTag = only !== undefined && others.length === 0 ? only : null;
  return {
    imageReference: known.imageReference ?? twin?.imageReference ?? null,
    bootType: origin === null ? (image?.kernel?.kind ?? known.bootType) : known.bootType,
    bootDigest: image?.bootDigest ?? known.bootDigest,
    manifestDigest:
      (digestUncertain === true ? null : known.manifestDigest) ?? byTag ?? known.manifestDigest,
  };
}

/** Another deployment of the very same manifest is from the same place. */
function findTwin(
  states: readonly DeploymentState[],
  { id, manifestDigests }: DeploymentFacts,
  { origin }: DeploymentState,
): Origin | null {
  const digests = new Set([...manifestDigests, origin?.manifestDigest ?? ""]);
  const twin = states.find(
    (state) => state.id !== id && digests.has(state.origin?.manifestDigest ?? "none"),
  );
  return twin?.origin ?? null;
}
