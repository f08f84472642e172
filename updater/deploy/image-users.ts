// Who needs which image of the repository, and where each got it: deployments and tags. This is where a
// repair looks for a source, and what its report names.

import { shortId } from "../../shared/bytes/hex.ts";
import { type Finding, isDamage } from "../../shared/store/finding.ts";
import { linkedObject } from "../../shared/store/links.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { manifestStreamName } from "../image/image-streams.ts";
import {
  type ImageReference,
  parseOriginReference,
  parseTransportReference,
} from "../image/reference.ts";
import type { ImageUser } from "../image/repair-source.ts";
import { isDeploymentTag, listTaggedManifests } from "./image-tag.ts";
import { referencedDeployments, type World } from "./world.ts";

/** Tags that people gave; a name like "oci:/path" is a place as well. */
export function listTagUsers(repo: Repository): ImageUser[] {
  return listTaggedManifests(repo).map(({ tag, manifestDigest }) => ({
    label: `tag "${tag}"`,
    manifestDigest,
    reference: isDeploymentTag(tag) ? null : parseOrNull(tag, parseTransportReference),
    deploymentId: null,
  }));
}

/** Deployments that a boot entry leads to. */
export function listDeploymentUsers(world: World): ImageUser[] {
  const referenced = referencedDeployments(world);
  return world.states
    .filter(({ id }) => referenced.has(id))
    .map(({ id, origin }) => ({
      label: `deployment ${shortId(id)}${id === world.booted?.id ? " (booted)" : ""}`,
      manifestDigest: origin?.manifestDigest ?? null,
      reference: parseOrNull(origin?.imageReference ?? null, parseOriginReference),
      deploymentId: id,
    }));
}

function parseOrNull(
  text: string | null,
  parse: (text: string) => ImageReference,
): ImageReference | null {
  try {
    return text === null ? null : parse(text);
  } catch {
    return null; // a name, or the origin of another program: no place to fetch from
  }
}

/** What a deployment needs and the repository does not even name. */
export function checkUsers(
  repo: Repository,
  users: readonly ImageUser[],
): { readonly findings: readonly Finding[]; readonly checked: { readonly deployments: number } } {
  const deployments = users.filter(({ deploymentId }) => deploymentId !== null);
  const findings = deployments.flatMap(({ label, deploymentId, manifestDigest }): Finding[] => [
    ...(isNamed(repo, "images", deploymentId!)
      ? []
      : [missing("image-open-failed", `images/${deploymentId}`, `${label} starts from it`)]),
    ...(manifestDigest === null || isNamed(repo, "streams", manifestStreamName(manifestDigest))
      ? []
      : [
          missing(
            "manifest-read-failed",
            `streams/${manifestStreamName(manifestDigest)}`,
            `${label} was made from it`,
          ),
        ]),
  ]);
  return { findings, checked: { deployments: deployments.length } };
}

function isNamed(repo: Repository, category: "images" | "streams", name: string): boolean {
  try {
    return linkedObject(repo, category, name) !== null;
  } catch (error) {
    if (isDamage(error)) return true; // the check of the repository says what is wrong with it
    throw error;
  }
}

function missing(kind: string, path: string, user: string): Finding {
  const advice = 'let "fsck --repair" fetch it again, or switch to another image';
  return { kind, path, problem: `It is missing, and ${user}`, advice };
}
