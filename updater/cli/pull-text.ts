// What `upgrade --check` says about the size of an update, for people and for programs.

import type { UpdateOutcome } from "../deploy/update.ts";
import type { PullPlan } from "../image/pull-plan.ts";
import { displayReference, type ImageReference } from "../image/reference.ts";
import { formatSize } from "../output/progress.ts";

/** Lines without indentation. */
export function describePull(plan: PullPlan): readonly string[] {
  const { contentBytes, inodes, isExact } = plan.written;
  const least = isExact ? "" : "about ";
  const most = isExact ? "" : ", estimated: not all layers tell";
  return [
    `Download: ${countBytes(fetchedBytes(plan))}`,
    `Reused: ${countBytes(plan.reusedBytes)} of ${countBytes(imageBytes(plan))} are here already`,
    `Written: ${least}${countBytes(contentBytes)} in ${least}${inodes} new files${most}`,
  ];
}

/** What would come over the network for this update, with what is asked to find that out. */
function fetchedBytes({ fetchBytes, planningBytes }: PullPlan): number {
  return fetchBytes + planningBytes;
}

function imageBytes({ layers }: PullPlan): number {
  return layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
}

function countBytes(count: number): string {
  return count < 1024 ? `${count} bytes` : `${formatSize(count)} (${count} bytes)`;
}

/** The outcome of a check as JSON; a stable interface, described in docs/pull.md. */
export function describeCheck(outcome: UpdateOutcome, reference: ImageReference): object {
  const image = displayReference(reference);
  if (outcome.kind !== "available") return { kind: outcome.kind, image };
  const { manifestDigest, facts, plan } = outcome;
  const { written } = plan;
  const layers = { cached: 0, partial: 0, pieces: 0, whole: 0 };
  for (const { method } of plan.layers) layers[method] += 1;
  return {
    kind: outcome.kind,
    image,
    manifestDigest,
    version: facts.version,
    fetchBytes: fetchedBytes(plan),
    reusedBytes: plan.reusedBytes,
    writtenBytes: written.contentBytes,
    newFiles: written.inodes,
    isWrittenExact: written.isExact,
    layers,
  };
}
