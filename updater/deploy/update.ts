// The way of an update, for `upgrade` and `switch` alike: find the image, see whether it is news, fetch
// it, build its boot image, stage it, clean up (bootc.md 4.10, 4.11).

import { StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { runProgram } from "../boot/program.ts";
import { hasSystemd, type System } from "../boot/system.ts";
import { type BootImage, makeBootImage } from "../image/boot-image.ts";
import { type PullProgress, pullImage } from "../image/pull.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { applyCleanup } from "./cleanup.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import { requireSpace } from "./deployment-state.ts";
import type { BootedImage } from "./environment.ts";
import { describeImage, type ImageFacts } from "./image-facts.ts";
import { listTags } from "./image-tag.ts";
import { applyStage, prepareStage, type StagePreparation, setStagedLock } from "./stage.ts";
import { observeWorld, requireBooted, type World } from "./world.ts";

export interface UpdateRequest {
  /** An upgrade that finds nothing new is fine; a switch must lead somewhere. */
  readonly kind: "upgrade" | "switch";
  readonly reference: ImageReference;
  readonly source: ImageSource;
  /** Look only. */
  readonly checkOnly: boolean;
  /** Stage, but do not let shutdown apply it. */
  readonly downloadOnly: boolean;
  /** Fetch and plan, but change nothing that boots. */
  readonly dryRun: boolean;
}

export interface UpdateObserver {
  readonly onProgress: (progress: PullProgress) => void;
  /** A line for a person about the step that begins. */
  readonly onStep: (text: string) => void;
  /** Gives up as long as nothing was staged or installed; the verb then fails with its reason. */
  readonly signal?: AbortSignal;
}

export type UpdateOutcome =
  /** The image is deployed already. */
  | { readonly kind: "unchanged"; readonly slot: "booted" | "rollback" }
  /** It is staged already; whether shutdown applies it may have changed. */
  | {
      readonly kind: "already-staged";
      readonly id: string;
      readonly lock: "locked" | "unlocked" | "kept";
    }
  | { readonly kind: "available"; readonly manifestDigest: string; readonly facts: ImageFacts }
  | { readonly kind: "planned"; readonly preparation: StagePreparation }
  | {
      readonly kind: "staged";
      readonly id: string;
      readonly manifestDigest: string;
      readonly facts: ImageFacts;
    };

export async function updateImage(
  deployer: Deployer,
  booted: BootedImage,
  request: UpdateRequest,
  observer: UpdateObserver,
): Promise<UpdateOutcome> {
  const { system, boot } = deployer;
  const world = observeWorld(system, boot.path, booted);
  const resolved = await request.source.resolve();
  const { manifestDigest } = resolved;
  const facts = describeImage(resolved.manifest, resolved.config);
  const known = request.kind === "upgrade" ? findKnown(world, request, manifestDigest) : null;
  if (known !== null) {
    const changes = known.kind === "already-staged" && known.lock !== "kept";
    if (changes && !request.dryRun) setStagedLock(system, known.id, known.lock === "locked");
    return known;
  }
  if (request.checkOnly) return { kind: "available", manifestDigest, facts };

  try {
    return await fetchAndStage(deployer, world, request, resolved, observer);
  } catch (error) {
    // Whatever was fetched takes space that /var may need.
    cleanUpQuietly(deployer, booted);
    throw error;
  }
}

async function fetchAndStage(
  deployer: Deployer,
  world: World,
  request: UpdateRequest,
  resolved: ResolvedImage,
  observer: UpdateObserver,
): Promise<UpdateOutcome> {
  const { manifestDigest } = resolved;
  const image = await fetchImage(deployer, request, resolved, observer);
  const slot = findSlot(world, image.deploymentId);
  if (slot !== null && request.kind === "upgrade") return { kind: "unchanged", slot };
  const input = {
    image,
    manifestDigest,
    originReference: formatOriginReference(request.reference),
    locked: request.downloadOnly,
  };
  const preparation = prepareStage(deployer, world, input);
  if (request.dryRun) return { kind: "planned", preparation };
  observer.onStep("Staging the deployment");
  applyStage(deployer, input, preparation);
  cleanUpStaged(deployer, requireBooted(world));
  const facts = describeImage(resolved.manifest, resolved.config);
  return { kind: "staged", id: image.deploymentId, manifestDigest, facts };
}

/** A deployment of exactly this manifest. */
function findKnown(
  world: World,
  request: UpdateRequest,
  manifestDigest: string,
): Exclude<UpdateOutcome, { kind: "planned" | "staged" | "available" }> | null {
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

function findSlot(world: World, id: string): "booted" | "rollback" | null {
  if (world.booted?.id === id) return "booted";
  return world.live.some((entry) => entry.deploymentId === id) ? "rollback" : null;
}

async function fetchImage(
  deployer: Deployer,
  request: UpdateRequest,
  resolved: ResolvedImage,
  observer: UpdateObserver,
): Promise<BootImage> {
  const { system, repo } = deployer;
  const layersBytes = resolved.manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
  requireSpace(system.physicalRoot, layersBytes, `"${request.source.name}"`);
  if (!request.dryRun) startFinalizeService(system);
  return await pullBootImage(repo, request.source, resolved, observer);
}

/** Fetches exactly the image that `source` was resolved to, and makes its bootable form. */
export async function pullBootImage(
  repo: Repository,
  source: ImageSource,
  resolved: ResolvedImage,
  { onProgress, onStep, signal }: UpdateObserver,
): Promise<BootImage> {
  // A tag may have moved on since.
  const pinned: ImageSource = {
    name: source.name,
    resolve: () => Promise.resolve(resolved),
    openLayer: (layer) => source.openLayer(layer),
  };
  const pulled = await pullImage(repo, pinned, { onProgress, ...(signal && { signal }) });
  onStep("Building the bootable image");
  const image = await makeBootImage(repo, pulled);
  signal?.throwIfAborted();
  return image;
}

/** Its ExecStop finalizes at shutdown, which it does only when it was started. */
function startFinalizeService(system: System): void {
  if (!hasSystemd(system)) return;
  runProgram("systemctl", ["start", "--quiet", "bootc-finalize-staged.service"], {
    package: "systemd",
  });
}

function cleanUp(deployer: Deployer, booted: BootedImage): void {
  const world = observeWorld(deployer.system, deployer.boot.path, booted);
  const plan = planCleanup(world, { tags: listTags(deployer.repo), kernelsOnly: false });
  applyCleanup(deployer, plan, { dryRun: false });
}

/** After a failure, which is what is to be reported; the next cleanup removes what stays. */
function cleanUpQuietly(deployer: Deployer, booted: BootedImage): void {
  try {
    cleanUp(deployer, booted);
  } catch {}
}

function cleanUpStaged(deployer: Deployer, booted: BootedImage): void {
  try {
    cleanUp(deployer, booted);
  } catch (cause) {
    throw new StateError(
      "conflict",
      "The image is staged, but what is no longer needed could not be removed",
      {},
      { cause },
    );
  }
}
