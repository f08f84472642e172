// The Host document of a machine that ostree deployed (bootc.md 2.2, the ostree backend). Pure.

import { displayReference } from "../image/reference.ts";
import type { CommitImage } from "../ostree/commit-image.ts";
import type { OstreeHostDeployment, OstreeHostState } from "../ostree/host-state.ts";
import type { BootEntry, Host, ImageStatus } from "./host.ts";
import { copyReference, makeEmptyHost } from "./make-host.ts";
import { normalizeTimestamp } from "./timestamp.ts";

export function makeOstreeHost(state: OstreeHostState): Host {
  const problems = [...state.problems];
  const entry = (deployment: OstreeHostDeployment | null): BootEntry | null =>
    deployment === null ? null : makeEntry(deployment, problems);
  const { staged, booted, rollback, usrOverlay } = state;
  const others = state.others.map((deployment) => makeEntry(deployment, problems));
  const wanted = staged?.reference ?? booted?.reference ?? null;
  const empty = makeEmptyHost();
  return {
    ...empty,
    spec: {
      image: wanted === null ? null : copyReference(wanted),
      bootOrder: state.rollbackQueued ? "rollback" : "default",
    },
    status: {
      staged: entry(staged),
      booted: entry(booted),
      rollback: entry(rollback),
      ...(others.length === 0 ? {} : { otherDeployments: others }),
      rollbackQueued: state.rollbackQueued,
      type: booted === null || booted.reference === null ? null : "bootcHost",
      usrOverlay:
        usrOverlay === null
          ? null
          : {
              accessMode: usrOverlay.readOnly ? "readOnly" : "readWrite",
              persistence: usrOverlay.isPersistent ? "persistent" : "transient",
            },
      readOnly: state.readOnly,
      ...(problems.length === 0 ? {} : { problems }),
    },
  };
}

function makeEntry(deployment: OstreeHostDeployment, problems: string[]): BootEntry {
  const { reference, current, update, commit } = deployment;
  if (reference !== null && current === null) {
    problems.push(
      `Deployment ${commit.slice(0, 12)} of ${displayReference(reference)}: its commit does not say which image it is`,
    );
  }
  const describe = (image: CommitImage | null): ImageStatus | null =>
    reference === null || image === null
      ? null
      : {
          image: copyReference(reference),
          version: image.version,
          timestamp: image.timestamp === null ? null : normalizeTimestamp(image.timestamp),
          imageDigest: image.manifestDigest,
          architecture: image.architecture,
        };
  return {
    image: describe(current),
    cachedUpdate: describe(update),
    incompatible: deployment.isLayered,
    pinned: deployment.isPinned,
    softRebootCapable: deployment.canSoftReboot,
    downloadOnly: deployment.isLocked,
    store: "ostreeContainer",
    ostree: { stateroot: deployment.stateroot, checksum: commit, deploySerial: deployment.serial },
    composefs: null,
  };
}
