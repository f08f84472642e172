// What a repair could not do, for a person: which images and deployments need it, why not, and what to do.

import type { Finding } from "../../shared/store/finding.ts";
import { layerStreamName } from "./image-streams.ts";
import type { ImageSurvey } from "./repair-image-survey.ts";
import { namesOf, type RepairStep } from "./repair-plan.ts";
import type { Sources } from "./repair-source.ts";
import type { Survey } from "./repair-survey.ts";

export interface Unrepaired {
  readonly finding: Finding;
  /** Labels of the users, or the image's digest when it has none. */
  readonly neededBy: readonly string[];
  readonly reason: string;
  readonly advice: string;
}

type Failure = { readonly step: RepairStep; readonly error: string | null };

export function explainFindings(
  survey: Survey,
  failures: readonly Failure[],
  sources: Sources,
): readonly Unrepaired[] {
  return survey.findings.map((finding) => {
    const known = survey.images.filter((image) => needs(image, finding));
    // Of an image whose documents are damaged nobody can tell what it needs.
    const owners = known.length > 0 ? known : survey.images.filter(isUnknown);
    const certainty = known.length > 0 ? "" : "perhaps ";
    const neededBy = [...new Set(owners.flatMap(describeOwner))].map((who) => certainty + who);
    const failure = failures.findLast(({ step }) => concerns(step, finding, owners));
    const reason = failure?.error ?? "There is no way to repair it";
    const isUsed = owners.some(({ users }) => users.length > 0);
    const advice =
      isUsed && failure?.step.kind.startsWith("fetch-") === true
        ? adviseSource(owners, sources)
        : adviseOther(finding, owners.length > 0, isUsed);
    return { finding, neededBy, reason, advice };
  });
}

function isUnknown({ documents, users }: ImageSurvey): boolean {
  return documents === null && users.length > 0;
}

function describeOwner({ users, manifestDigest }: ImageSurvey): string[] {
  if (users.length === 0) return [`image ${manifestDigest}, which has no tag`];
  return users.map(({ label }) => `${label} (image ${manifestDigest})`);
}

function needs(image: ImageSurvey, { path, object }: Finding): boolean {
  const { layers, erofs } = image;
  if (namesOf(image).includes(path)) return true;
  if (object === undefined) return false;
  return (
    layers.some(({ linked, damaged }) => linked === object || damaged.includes(object)) ||
    erofs.some(({ id }) => id === object)
  );
}

function concerns(
  step: RepairStep,
  { path, object }: Finding,
  owners: readonly ImageSurvey[],
): boolean {
  const isOwner = (image: string) => owners.some(({ manifestDigest }) => manifestDigest === image);
  switch (step.kind) {
    case "seal-object":
      return step.object === object;
    case "remove-objects":
      return object !== undefined && step.objects.includes(object);
    case "fetch-documents":
    case "write-references":
      return isOwner(step.image);
    case "fetch-layer":
      return (
        path === `streams/${layerStreamName(step.diffId)}` ||
        (object !== undefined && step.objects?.includes(object) === true) ||
        (step.objects === null && isOwner(step.image))
      );
    case "link-object":
      return path === step.name;
    case "build-image":
      return path === `images/${step.id}` || object === step.id;
    case "point-reference":
      return path === `${step.category}/refs/${step.name}`;
    case "remove-link":
      return path === step.path;
  }
}

function adviseSource(owners: readonly ImageSurvey[], sources: Sources): string {
  const places = owners.flatMap(({ users, manifestDigest }) => sources.list(users, manifestDigest));
  const tried = places.length === 0 ? "" : ` (tried: ${[...new Set(places)].join(", ")})`;
  return `name a place that still has the image with "--source"${tried}, or switch to another image`;
}

function adviseOther(finding: Finding, isOwned: boolean, isUsed: boolean): string {
  if (isUsed) return "pull or deploy the image again, or switch to another one";
  if (isOwned) return "neither a tag nor a deployment needs it: garbage collection removes it";
  return finding.object === undefined
    ? finding.advice
    : "no image that can be read needs it: garbage collection removes it";
}
