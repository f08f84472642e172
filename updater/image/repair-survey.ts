// What a repair has to know before it plans: which objects are bad, what is left of every image, and which
// names something leads to. Only reads.

import type { Finding } from "../../shared/store/finding.ts";
import { type Category, listNames } from "../../shared/store/links.ts";
import { hashFile, openStored } from "../../shared/store/object-inspection.ts";
import { isRefName, listRefs } from "../../shared/store/refs.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { manifestStreamName } from "./image-streams.ts";
import {
  attempt,
  type ImageSurvey,
  isArtifact,
  presentObject,
  surveyImage,
} from "./repair-image-survey.ts";
import type { ImageUser } from "./repair-source.ts";

const MANIFEST_PREFIX = manifestStreamName("");

/** A reference whose target is there, but not where the link says. */
export interface MisplacedRef {
  readonly category: Category;
  /** Below refs/. */
  readonly name: string;
  /** First-level name. */
  readonly target: string;
}

export interface Survey {
  readonly findings: readonly Finding[];
  /** Damaged or missing; "unsealed" are intact and lack only fs-verity. */
  readonly bad: ReadonlyMap<string, "damaged" | "unsealed">;
  readonly images: readonly ImageSurvey[];
  /** First-level names a reference or deployment needs: "streams/…", "images/…"; null: unknown. */
  readonly roots: ReadonlySet<string> | null;
  readonly misplaced: readonly MisplacedRef[];
}

export function surveyRepository(
  repo: Repository,
  findings: readonly Finding[],
  users: readonly ImageUser[],
): Survey {
  const bad = findBad(repo, findings);
  const streamRefs = attempt(() => listRefs(repo, "streams"), null);
  const imageRefs = attempt(() => listRefs(repo, "images"), null);
  const names = [
    ...attempt(() => listNames(repo, "streams"), []),
    ...(streamRefs ?? []).map(({ target }) => target),
    ...users.flatMap(({ manifestDigest }) =>
      manifestDigest === null ? [] : [manifestStreamName(manifestDigest)],
    ),
  ];
  const manifests = new Set(names.filter((name) => name.startsWith(MANIFEST_PREFIX)));
  const images = [...manifests]
    .map((name) => name.slice(MANIFEST_PREFIX.length))
    .filter((digest) => !isArtifact(repo, digest))
    .map((digest) => surveyImage({ repo, findings, bad }, digest, ownersOf(users, digest)));
  const deployed = users.flatMap(({ deploymentId: id }) => (id === null ? [] : [`images/${id}`]));
  const roots =
    streamRefs === null || imageRefs === null
      ? null
      : new Set([
          ...streamRefs.map(({ target }) => `streams/${target}`),
          ...imageRefs.map(({ target }) => `images/${target}`),
          ...deployed,
        ]);
  const misplaced = (["streams", "images"] as const).flatMap((category) =>
    findMisplaced(repo, findings, category),
  );
  return { findings, bad, images, roots, misplaced };
}

function findMisplaced(
  repo: Repository,
  findings: readonly Finding[],
  category: Category,
): MisplacedRef[] {
  const broken = new Set(
    findings.filter(({ kind }) => kind === "broken-symlink").map(({ path }) => path),
  );
  return attempt(() => listRefs(repo, category), [])
    .filter(({ name, target }) => {
      if (!broken.has(`${category}/refs/${name}`) || !isRefName(name)) return false;
      return attempt(() => presentObject(repo, category, target) !== null, false);
    })
    .map(({ name, target }) => ({ category, name, target }));
}

function ownersOf(users: readonly ImageUser[], manifestDigest: string): ImageUser[] {
  return users.filter((user) => user.manifestDigest === manifestDigest);
}

/** Every object that a finding is about. */
function findBad(repo: Repository, findings: readonly Finding[]): Survey["bad"] {
  const bad = new Map<string, "damaged" | "unsealed">();
  for (const { kind, object } of findings) {
    if (object === undefined) continue;
    const isUnsealed = kind === "object-verity-missing" && isIntact(repo, object);
    if (isUnsealed) bad.set(object, "unsealed");
    else if (!bad.has(object)) bad.set(object, "damaged");
  }
  return bad;
}

function isIntact(repo: Repository, digest: string): boolean {
  return attempt(() => {
    using fd = openStored(repo, digest);
    return fd !== null && hashFile(repo, fd) === digest;
  }, false);
}
