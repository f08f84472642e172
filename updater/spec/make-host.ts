// From what was observed to the Host document. Pure.
//
// Where upstream leaves fields empty on composefs they are filled: `type` is set, `rollbackQueued`
// also shows in `spec.bootOrder`, and an entry that cannot be described is named in `problems`.

import { shortId } from "../../shared/bytes/hex.ts";
import type { BootFailure } from "../deploy/boot-failure.ts";
import type { CachedUpdate } from "../deploy/cached-update.ts";
import type { Deployment, HostState } from "../deploy/host-state.ts";
import type { MachineTrust as ObservedTrust } from "../deploy/host-trust.ts";
import { displayReference, type ImageReference, parseOriginReference } from "../image/reference.ts";
import {
  API_VERSION,
  type BootEntry,
  type FailedDeployment,
  HOST_KIND,
  type Host,
  type ImageStatus,
  type MachineTrust,
} from "./host.ts";
import { normalizeTimestamp } from "./timestamp.ts";

/** The document of a system that does not run from a bootc image. */
export function makeEmptyHost(): Host {
  return {
    apiVersion: API_VERSION,
    kind: HOST_KIND,
    metadata: { name: "host" },
    spec: { image: null, bootOrder: "default" },
    status: {
      staged: null,
      booted: null,
      rollback: null,
      rollbackQueued: false,
      type: null,
      usrOverlay: null,
      readOnly: false,
    },
  };
}

export function makeHost(state: HostState): Host {
  const problems = [...state.problems];
  const entry = (deployment: Deployment | null): BootEntry | null =>
    deployment === null ? null : makeEntry(deployment, problems);
  const [staged, booted, rollback] = [state.staged, state.booted, state.rollback].map(entry) as [
    BootEntry | null,
    BootEntry | null,
    BootEntry | null,
  ];
  const others = state.others.map((deployment) => makeEntry(deployment, problems));
  const wanted = state.staged?.image ?? state.booted?.image ?? null;
  const empty = makeEmptyHost();
  return {
    ...empty,
    spec: {
      image: wanted === null ? null : copyReference(wanted),
      bootOrder: state.rollbackQueued ? "rollback" : "default",
    },
    status: {
      staged,
      booted: booted === null ? null : { ...booted, softRebootCapable: false },
      rollback,
      ...(others.length === 0 ? {} : { otherDeployments: others }),
      rollbackQueued: state.rollbackQueued,
      type: booted === null || state.booted?.image === null ? null : "bootcHost",
      usrOverlay:
        state.usrOverlay === null
          ? null
          : {
              accessMode: state.usrOverlay.readOnly ? "readOnly" : "readWrite",
              persistence: "transient",
            },
      readOnly: state.readOnly,
      ...(state.failures.length === 0
        ? {}
        : { failedDeployments: state.failures.map(makeFailedDeployment) }),
      ...(state.trust === null ? {} : { trust: copyMachineTrust(state.trust) }),
      ...(problems.length === 0 ? {} : { problems }),
    },
  };
}

/** `bootc status --booted`: the staged deployment and the rollback are left out. */
export function selectBooted(host: Host): Host {
  return { ...host, status: { ...host.status, staged: null, rollback: null } };
}

function makeEntry(deployment: Deployment, problems: string[]): BootEntry {
  return {
    image: makeImageStatus(deployment, problems),
    cachedUpdate: makeCachedUpdate(deployment),
    incompatible: false,
    pinned: deployment.pinned,
    softRebootCapable: deployment.softRebootCapable,
    downloadOnly: deployment.downloadOnly,
    store: null,
    ostree: null,
    composefs: {
      verity: deployment.id,
      bootType: deployment.bootType === "bls" ? "Bls" : "Uki",
      bootloader: deployment.bootloader,
      bootDigest: deployment.bootDigest,
      missingVerityAllowed: deployment.missingVerityAllowed,
    },
    ...(deployment.policy === null ? {} : { signaturePolicy: deployment.policy }),
    ...(deployment.trust === null ? {} : { trust: deployment.trust }),
  };
}

/** The document's lists are not read-only. */
export function copyMachineTrust({ next, ...trust }: ObservedTrust): MachineTrust {
  return { ...trust, next: next === null ? null : { mode: next.mode, needs: [...next.needs] } };
}

function makeImageStatus(deployment: Deployment, problems: string[]): ImageStatus | null {
  const { id, image, manifestDigest } = deployment;
  if (image === null) return null;
  if (manifestDigest === null) {
    problems.push(
      `Deployment ${shortId(id)} of ${displayReference(image)} has no manifest digest in its origin file`,
    );
    return null;
  }
  return {
    image: copyReference(image),
    version: deployment.version,
    timestamp: deployment.timestamp === null ? null : normalizeTimestamp(deployment.timestamp),
    imageDigest: manifestDigest,
    architecture: deployment.architecture,
  };
}

/** Only news: an update to what this deployment is already would be none. */
function makeCachedUpdate({ image, cachedUpdate, manifestDigest }: Deployment): ImageStatus | null {
  if (image === null || cachedUpdate === null || cachedUpdate.manifestDigest === manifestDigest) {
    return null;
  }
  return describeUpdate(image, cachedUpdate);
}

function describeUpdate(image: ImageReference, update: CachedUpdate): ImageStatus {
  const { version, timestamp, manifestDigest, architecture } = update;
  return {
    image: copyReference(image),
    version,
    timestamp: timestamp === null ? null : normalizeTimestamp(timestamp),
    imageDigest: manifestDigest,
    architecture,
  };
}

function makeFailedDeployment(failure: BootFailure): FailedDeployment {
  const { id, manifestDigest, image, at, reason, detail, attempts, retrying } = failure;
  return {
    verity: id,
    image: image === null ? null : readReference(image),
    imageDigest: manifestDigest,
    failedAt: at,
    reason,
    detail,
    attempts,
    retrying,
  };
}

function readReference(text: string): ImageStatus["image"] | null {
  try {
    return copyReference(parseOriginReference(text));
  } catch {
    return null;
  }
}

/** With `signature` only when it is set, as bootc prints it. */
export function copyReference({ image, transport, signature }: ImageReference) {
  return { image, transport, ...(signature === undefined ? {} : { signature }) };
}
