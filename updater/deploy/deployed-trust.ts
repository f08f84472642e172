// What the image of a deployment trusts that is on the disk: from the record that staging left, else from the
// image itself (deployments of bootc, and of earlier releases).

import { shortId } from "../../shared/bytes/hex.ts";
import { describeError } from "../../shared/error.ts";
import { readFileContent } from "../image/file-content.ts";
import { type ImageTrust, readImageTrust } from "../trust/image-trust.ts";
import { readEntryUki } from "../trust/running-trust.ts";
import type { Deployer } from "./deployer.ts";
import { readImageTree } from "./image-tree.ts";
import type { DeploymentState } from "./state-directory.ts";
import type { World } from "./world.ts";

const TRUST_LIMIT_BYTES = 1 << 20;

/** Null, and a problem, when neither can be read. */
export function readDeployedTrust(
  { repo }: Pick<Deployer, "repo">,
  world: World,
  { id, trust }: DeploymentState,
  problems: string[] = [],
): ImageTrust | null {
  if (trust !== undefined) return trust;
  const entries = [...(world.staged ?? []), ...world.live];
  const entry = entries.find(({ deploymentId }) => deploymentId === id);
  try {
    return readImageTrust(
      readImageTree(repo, id),
      (file) => readFileContent(repo, file, TRUST_LIMIT_BYTES),
      readEntryUki(entry, world.layout),
    );
  } catch (error) {
    problems.push(
      `What the image of deployment ${shortId(id)} trusts is unknown: ${describeError(error)}`,
    );
    return null;
  }
}
