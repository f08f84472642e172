// How far the version floor may be raised once a start has proved itself (decision 0022). Pure.
//
// To the lowest version among the signed deployments that stay in the menu: whatever may be fallen back to
// starts, and nothing older does ever again. What the running image revokes does not hold it back.

import { shortId } from "../../shared/bytes/hex.ts";
import { PolicyError } from "../../shared/error.ts";
import type { TrustAnchors } from "../../shared/format/trust/anchors.ts";
import { judgeImage } from "../../shared/format/trust/judgement.ts";
import type { ImageStatement } from "../../shared/format/trust/statement.ts";
import type { ImageTrust } from "./image-trust.ts";

export interface MenuDeployment {
  readonly id: string;
  /** Its signed statement; null when there is none. */
  readonly document: Uint8Array | null;
  /** What its own initramfs trusts; null when nobody knows. */
  readonly anchors: TrustAnchors | null;
}

export type FloorTarget =
  | { readonly kind: "raise"; readonly version: number; readonly document: Uint8Array }
  /** One sentence. */
  | { readonly kind: "wait"; readonly reason: string };

/**
 * `running`: what the running image trusts. Where each image has a key of its own, the keys of the others count for
 * their versions.
 */
export function findFloorTarget(
  deployments: readonly MenuDeployment[],
  running: Pick<ImageTrust, "anchors" | "hasLastingKeys">,
): FloorTarget {
  const counted: { readonly version: number; readonly document: Uint8Array }[] = [];
  for (const deployment of deployments) {
    const { anchors, document, id } = deployment;
    if (document === null || running.anchors.revokedDigests.has(id)) continue;
    const version = acceptedVersion(deployment, running.anchors);
    const ownVersion = anchors === null ? null : acceptedVersion(deployment, anchors);
    if (version !== null) counted.push({ version, document });
    else if (ownVersion !== null && !running.hasLastingKeys) {
      counted.push({ version: ownVersion, document });
    } else if (ownVersion !== null) {
      return {
        kind: "wait",
        reason: `Deployment ${shortId(id)} is signed by a key that the running image does not know, and could not start any more`,
      };
    }
  }
  const [lowest] = counted.sort((a, b) => a.version - b.version);
  return lowest === undefined
    ? {
        kind: "wait",
        reason: "No deployment in the boot menu is signed by a key of the running image",
      }
    : { kind: "raise", ...lowest };
}

/** Also when it has expired, which says nothing about its age. */
function acceptedVersion(
  { document, id }: MenuDeployment,
  anchors: TrustAnchors,
): ImageStatement["version"] | null {
  if (!anchors.signed) return null;
  try {
    const { statement } = judgeImage({
      id,
      algorithm: id.length === 128 ? "sha512-12" : "sha256-12",
      anchors: { ...anchors, expired: "warn" },
      document,
      floor: null,
      now: new Date(0),
    });
    return statement?.version ?? null;
  } catch (error) {
    if (error instanceof PolicyError) return null;
    throw error;
  }
}
