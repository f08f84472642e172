// Changing what a deployment follows, without fetching anything: `switch --mutate-in-place`
// (bootc.md 1.2; there for ostree only). Its origin file gets another image reference; all else in it stays.
//
// Installers use it, too: they deploy an image from a medium and name the registry to update from.

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import { formatIni, parseIni } from "../../shared/format/keyfile/ini.ts";
import { readSmallText } from "../../shared/sys/small-file.ts";
import { applySteps } from "../../shared/txn/apply.ts";
import { writeText } from "../../shared/txn/plan.ts";
import { isDeploymentId } from "../boot/artefact-name.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import { statePaths } from "./state-directory.ts";
import { requireBooted, type World } from "./world.ts";

const GROUP = "origin";
const KEY = "container-image-reference";
const SIZE_LIMIT_BYTES = 1 << 20;

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

/** FormatError when the origin file is not one, StateError when there is none, SyscallError when it cannot be read. */
export function planFollow(physicalRoot: string, id: string, to: ImageReference): FollowPlan {
  const path = statePaths(physicalRoot, id).origin;
  const text = readSmallText(path, SIZE_LIMIT_BYTES);
  if (text === null) throw new StateError("missing", `There is no origin file "${path}"`, { path });
  const ini = parseIni(text, path);
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
  applySteps([writeText(path, origin)]);
}

function listNames(path: string): readonly string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
