// Changing what a deployment follows, without fetching anything: `switch --mutate-in-place`
// (bootc.md 1.2; there for ostree only). Its origin file gets another image reference; all else in it stays.
//
// Installers use it, too: they deploy an image from a medium and name the registry to update from.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { formatIni, parseIni } from "../../shared/format/keyfile/ini.ts";
import { applyTransaction } from "../../shared/txn/apply.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import { statePaths } from "./state-directory.ts";
import { requireBooted, type World } from "./world.ts";

const GROUP = "origin";
const KEY = "container-image-reference";

export interface FollowPlan {
  readonly id: string;
  /** The origin file and its new content. */
  readonly path: string;
  readonly origin: string;
  /** As in origin files; null when there was none. */
  readonly previous: string | null;
  readonly reference: string;
}

/** The deployment that boots next, download-only ones included: what is staged is followed from then on. */
export function findNextDeployment(world: World): string {
  const first = world.live.find((entry) => entry.deploymentId !== null);
  return world.stagedFile?.id ?? first?.deploymentId ?? requireBooted(world).id;
}

/** On a disk that is not running: the newest deployment. StateError when there is none. */
export function findInstalledDeployment(physicalRoot: string): string {
  const { deploy } = statePaths(physicalRoot, "");
  const found = listNames(deploy)
    .filter(isDeploymentId)
    .map((id) => ({ id, mtimeMs: statSync(join(deploy, id)).mtimeMs }))
    .sort((a, b) => b.mtimeMs - a.mtimeMs || a.id.localeCompare(b.id));
  if (found[0] !== undefined) return found[0].id;
  throw new StateError("missing", `There is no deployment in "${deploy}" whose image could change`);
}

/** FormatError when the origin file is not one, SyscallError when it cannot be read. */
export function planFollow(physicalRoot: string, id: string, to: ImageReference): FollowPlan {
  const path = statePaths(physicalRoot, id).origin;
  const ini = parseIni(readFileSync(path, "utf8"), path);
  const reference = formatOriginReference(to);
  const keys = new Map(ini.get(GROUP) ?? []).set(KEY, reference);
  return {
    id,
    path,
    origin: formatIni(new Map(ini).set(GROUP, keys)),
    previous: ini.get(GROUP)?.get(KEY) ?? null,
    reference,
  };
}

export function applyFollow({ path, origin }: FollowPlan): void {
  const bytes = Buffer.from(origin);
  applyTransaction({
    prepare: [],
    commit: { kind: "write", path, bytes, mode: 0o644 },
    cleanup: [],
  });
}

function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
