// What an update leaves in the journal (docs/journal.md).

import type { System } from "../boot/system.ts";
import { displayReference, type ImageReference, parseOriginReference } from "../image/reference.ts";
import { recordEvent } from "../journal/events.ts";
import type { BootFailure } from "./boot-failure.ts";
import type { ImageFacts } from "./image-facts.ts";
import type { RenewedStatement } from "./update-trust.ts";
import type { World } from "./world.ts";

export interface UpdatedImage {
  readonly reference: ImageReference;
  readonly manifestDigest: string;
  readonly facts: ImageFacts;
}

export function recordAvailable(system: System, image: UpdatedImage): void {
  const name = displayReference(image.reference);
  recordEvent(system, "updateAvailable", `Update available for ${name}`, describe(image));
}

export function recordPulled(
  system: System,
  image: UpdatedImage,
  pulled: { readonly id: string; readonly fetchedBytes: number | null },
): void {
  const name = displayReference(image.reference);
  recordEvent(system, "pulled", `Fetched ${name}`, {
    ...describe(image),
    DEPLOYMENT: pulled.id,
    FETCHED_BYTES: pulled.fetchedBytes,
  });
}

export function recordRenewed(system: System, renewed: RenewedStatement): void {
  const { expires, id, version } = renewed;
  recordEvent(system, "statementRenewed", `Deployment ${id} has better signatures now`, {
    DEPLOYMENT: id,
    STATEMENT_VERSION: version,
    EXPIRES: expires,
  });
}

/** Two records: that something was staged, and by which verb. */
export function recordStaged(
  system: System,
  image: UpdatedImage,
  staged: {
    readonly id: string;
    readonly kind: "upgrade" | "switch";
    readonly downloadOnly: boolean;
    /** Before it was staged. */
    readonly world: World;
  },
): void {
  const { id, kind, downloadOnly, world } = staged;
  const name = displayReference(image.reference);
  const fields = { ...describe(image), DEPLOYMENT: id };
  const when = downloadOnly ? "which shutdown does not apply" : "which boots next";
  recordEvent(system, "staged", `Staged ${name}, ${when}`, {
    ...fields,
    DOWNLOAD_ONLY: downloadOnly,
  });
  if (kind === "upgrade") {
    recordEvent(system, "upgraded", `Upgraded to ${image.manifestDigest} of ${name}`, fields);
    return;
  }
  const previous = followedImage(world);
  const from = previous === null ? "" : ` from ${previous}`;
  recordEvent(system, "switched", `Switched${from} to ${name}`, {
    ...fields,
    PREVIOUS_IMAGE: previous,
  });
}

/** The image failed to boot here before. */
export function recordRefused(system: System, image: UpdatedImage, failure: BootFailure): void {
  const { IMAGE, DIGEST } = describe(image);
  const message = `Not staging ${IMAGE}: it failed to boot at ${failure.at} (${failure.reason})`;
  recordEvent(system, "restagingRefused", message, {
    IMAGE,
    DIGEST,
    DEPLOYMENT: failure.id,
    REASON: failure.reason,
    FAILED_AT: failure.at,
  });
}

function describe({ reference, manifestDigest, facts }: UpdatedImage) {
  return {
    IMAGE: displayReference(reference),
    DIGEST: manifestDigest,
    VERSION: facts.version,
  };
}

/** Null when nobody knows. */
function followedImage({ states, stagedFile, booted }: World): string | null {
  const origin = (id: string | undefined) => states.find((state) => state.id === id)?.origin;
  const text = (origin(stagedFile?.id) ?? origin(booted?.id))?.imageReference ?? null;
  if (text === null) return null;
  try {
    return displayReference(parseOriginReference(text));
  } catch {
    return text;
  }
}
