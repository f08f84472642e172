// The Host document of a machine that ostree deployed (bootc.md 2.2, the ostree backend). Pure.

import { shortId } from "../../shared/bytes/hex.ts";
import { displayReference } from "../image/reference.ts";
import type { CommitImage } from "../ostree/commit-image.ts";
import type { OstreeHostDeployment, OstreeHostState, OstreeStart } from "../ostree/host-state.ts";
import { findNextMode } from "../trust/next-mode.ts";
import type { BootEntry, DeploymentTrust, Host, ImageStatus, MachineTrust } from "./host.ts";
import { copyMachineTrust, copyReference, makeEmptyHost } from "./make-host.ts";
import { normalizeTimestamp } from "./timestamp.ts";

type Firmware = Pick<MachineTrust, "secureBoot" | "tpm">;

/** `firmware`: what the machine has to check its start with. */
export function makeOstreeHost(state: OstreeHostState, firmware: Firmware): Host {
  const problems = [...state.problems];
  const entry = (deployment: OstreeHostDeployment | null): BootEntry | null =>
    deployment === null ? null : makeEntry(deployment, problems);
  const { staged, booted, rollback, usrOverlay } = state;
  const others = state.others.map((deployment) => makeEntry(deployment, problems));
  const wanted = staged?.reference ?? booted?.reference ?? null;
  const empty = makeEmptyHost();
  const trust = makeTrust(state.start);
  const own = entry(booted);
  return {
    ...empty,
    spec: {
      image: wanted === null ? null : copyReference(wanted),
      bootOrder: state.rollbackQueued ? "rollback" : "default",
    },
    status: {
      staged: entry(staged),
      booted: own === null ? null : { ...own, trust },
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
      ...(own === null ? {} : { trust: makeMachineTrust(trust, firmware) }),
      ...(problems.length === 0 ? {} : { problems }),
    },
  };
}

/** Only of the running deployment: what other initramfs would do is not looked into. */
function makeTrust({ isImage, keyFile, requiresVerity }: OstreeStart): DeploymentTrust {
  return {
    mode: keyFile === null ? "unlocked" : "ostree-signed",
    sealed: false,
    key: keyFile === null ? null : { name: keyFile, fingerprint: null },
    version: null,
    expires: null,
    verity: requiresVerity ? "enforced" : isImage ? "optional" : "none",
    refusal: null,
  };
}

function makeMachineTrust(
  { mode, sealed, verity }: DeploymentTrust,
  firmware: Firmware,
): MachineTrust {
  const next = findNextMode({
    ...{ mode, sealed, verity, secureBoot: firmware.secureBoot },
    ...{ unified: false, hasKeys: false, isOstree: true },
  });
  return copyMachineTrust({ ...firmware, floor: { version: null, source: "none" }, next });
}

function makeEntry(deployment: OstreeHostDeployment, problems: string[]): BootEntry {
  const { reference, current, update, commit } = deployment;
  if (reference !== null && current === null) {
    problems.push(
      `Deployment ${shortId(commit)} of ${displayReference(reference)}: its commit does not say which image it is`,
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
