// Whether an image that an update has found is news: it may be deployed already, be staged, or have failed to start
// when it was tried. Pure.

import { StateError } from "../../shared/error.ts";
import {
  type BootFailure,
  describeFailure,
  type FailedImage,
  findFailure,
} from "./boot-failure.ts";
import { isGivenUp } from "./trial.ts";
import type { UpdateRequest } from "./update.ts";
import type { World } from "./world.ts";

export type KnownImage =
  /** It runs. */
  | { readonly kind: "unchanged"; readonly slot: "booted" }
  /** It is staged already; whether shutdown applies it may be about to change. */
  | {
      readonly kind: "already-staged";
      readonly id: string;
      readonly lock: "locked" | "unlocked" | "kept";
    };

/** StateError("conflict") when a switch leads to an image that failed to start. */
export function findUnwanted(
  world: World,
  request: Pick<UpdateRequest, "kind" | "retryFailed">,
  image: FailedImage,
): BootFailure | null {
  const failure = request.retryFailed === true ? null : findFailure(world.failures, image);
  if (failure === null || request.kind === "upgrade") return failure;
  throw new StateError(
    "conflict",
    `${describeFailure(failure)}; "--retry-failed" stages it all the same`,
    { id: failure.id },
  );
}

/** A deployment of exactly this manifest. */
export function findKnown(
  world: World,
  request: Pick<UpdateRequest, "checkOnly" | "downloadOnly">,
  manifestDigest: string,
): KnownImage | null {
  const isKnown = (id: string | undefined) =>
    world.states.some(
      (state) => state.id === id && state.origin?.manifestDigest === manifestDigest,
    );
  const { stagedFile, booted } = world;
  if (stagedFile !== null && isKnown(stagedFile.id)) {
    const lock =
      request.checkOnly || stagedFile.locked === request.downloadOnly
        ? "kept"
        : request.downloadOnly
          ? "locked"
          : "unlocked";
    return { kind: "already-staged", id: stagedFile.id, lock };
  }
  return isKnown(booted?.id) ? { kind: "unchanged", slot: "booted" } : null;
}

export function findSlot(world: World, id: string, retries: boolean): "booted" | "rollback" | null {
  if (world.booted?.id === id) return "booted";
  const own = world.live.filter((entry) => entry.deploymentId === id);
  return own.some((entry) => !(retries && isGivenUp(entry))) ? "rollback" : null;
}
