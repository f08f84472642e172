// An update of a scratch machine from an OCI layout, which nobody watches.

import {
  type UpdateOutcome,
  type UpdateRequest,
  updateImage,
} from "../../updater/deploy/update.ts";
import { makeImageReference } from "../../updater/image/reference.ts";
import { openSource } from "../../updater/image/source.ts";
import type { RunningMachine } from "./scratch-machine.ts";

export async function updateScratch(
  running: RunningMachine,
  imagePath: string,
  changes: Partial<UpdateRequest> = {},
): Promise<UpdateOutcome> {
  const reference = changes.reference ?? makeImageReference("oci", imagePath);
  await using source = openSource(reference);
  const request: UpdateRequest = {
    kind: "upgrade",
    reference,
    source,
    checkOnly: false,
    downloadOnly: false,
    dryRun: false,
    ...changes,
  };
  const observer = { onProgress: () => {}, onStep: () => {} };
  return await updateImage(running, running.booted, request, observer);
}

/** The id of what is staged afterwards; an error when nothing is. */
export async function stageScratch(
  running: RunningMachine,
  imagePath: string,
  changes: Partial<UpdateRequest> = {},
): Promise<string> {
  const outcome = await updateScratch(running, imagePath, changes);
  if (outcome.kind !== "staged") throw new Error(`"${imagePath}" is ${outcome.kind}`);
  return outcome.id;
}
