// The way of an update, for `upgrade` and `switch` alike: find the image, see whether it is news, fetch
// it, build its boot image, stage it, clean up (bootc.md 4.10, 4.11).

import { raceAbort } from "../../shared/abortable.ts";
import { StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { runProgram } from "../boot/program.ts";
import { hasSystemd, type System } from "../boot/system.ts";
import { type BootImage, makeBootImage } from "../image/boot-image.ts";
import { dropDownloads, settleDownloads } from "../image/kept-downloads.ts";
import { type AdmittedImage, resolveAdmitted } from "../image/policy/admission.ts";
import { planImagePull, pullResolvedImage } from "../image/pull.ts";
import type { PullPlan } from "../image/pull-plan.ts";
import type { PullProgress } from "../image/pull-progress.ts";
import { formatOriginReference, type ImageReference } from "../image/reference.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { type BootFailure, findFailure } from "./boot-failure.ts";
import { keepCachedUpdate } from "./cached-update.ts";
import { applyCleanup, readCleanupScope } from "./cleanup.ts";
import { planCleanup } from "./cleanup-plan.ts";
import type { Deployer } from "./deployer.ts";
import type { BootedImage } from "./environment.ts";
import { observeRunningTrust, readClaims } from "./image-admission.ts";
import { describeImage, type ImageFacts } from "./image-facts.ts";
import { findKnown, findSlot, findUnwanted } from "./known-image.ts";
import { migrateNames } from "./name-migration.ts";
import { requireKernelSpace, requirePullSpace } from "./space.ts";
import { applyStage, prepareStage, type StagePreparation, setStagedLock } from "./stage.ts";
import {
  recordAvailable,
  recordPulled,
  recordRefused,
  recordStaged,
  type UpdatedImage,
} from "./update-events.ts";
import { IMPORTING, STAGING_STEPS, type UpdateStep } from "./update-step.ts";
import {
  findSignatures,
  type RenewedStatement,
  renewStatement,
  requireSigner,
} from "./update-trust.ts";
import { observeWorld, requireBooted, type World } from "./world.ts";

/** What cleaning up may take of the second within which Ctrl-C has to end the program. */
const HURRY_MS = 300;

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
  /** Stage it also when it failed to start before. */
  readonly retryFailed?: boolean;
  /** Also when the image proves less than what runs. */
  readonly allowWeakerTrust?: boolean;
  /** `reference` is not what the machine follows, only looked at. */
  readonly isExcursion?: boolean;
}

export interface UpdateObserver {
  readonly onProgress: (progress: PullProgress) => void;
  /** The step that begins; null: all are done. */
  readonly onStep: (step: UpdateStep | null) => void;
  /** Gives up as long as nothing was staged or installed; the verb then fails with its reason. */
  readonly signal?: AbortSignal;
}

export type UpdateOutcome =
  /** The image is deployed already. */
  | {
      readonly kind: "unchanged";
      readonly slot: "booted" | "rollback";
      readonly renewed?: RenewedStatement;
    }
  /** It did not start when it was tried, and nobody asked for another try. */
  | { readonly kind: "failed-before"; readonly failure: BootFailure }
  /** It is staged already; whether shutdown applies it may have changed. */
  | {
      readonly kind: "already-staged";
      readonly id: string;
      readonly lock: "locked" | "unlocked" | "kept";
      readonly renewed?: RenewedStatement;
    }
  | {
      readonly kind: "available";
      readonly manifestDigest: string;
      readonly facts: ImageFacts;
      /** What fetching it would take. */
      readonly plan: PullPlan;
    }
  | { readonly kind: "planned"; readonly preparation: StagePreparation }
  | {
      readonly kind: "staged";
      readonly id: string;
      readonly manifestDigest: string;
      readonly facts: ImageFacts;
      /** Kernel arguments of this machine that its sealed kernel does not take over; "" for none. */
      readonly droppedArguments: string;
      /** About its trust, one sentence each. */
      readonly warnings: readonly string[];
    };

export async function updateImage(
  deployer: Deployer,
  booted: BootedImage,
  request: UpdateRequest,
  observer: UpdateObserver,
): Promise<UpdateOutcome> {
  const { system } = deployer;
  const world = observeWorld(system, deployer.boot, booted);
  const resolving = resolveAdmitted(request.source, request.reference);
  const admitted = await raceAbort(resolving, observer.signal);
  const running = observeRunningTrust(system, world);
  const finding = findSignatures(running, request.source, admitted.resolved);
  const resolved = await raceAbort(finding, observer.signal);
  const { manifestDigest } = resolved;
  const facts = describeImage(resolved.manifest, resolved.config);
  if (!request.dryRun && request.isExcursion !== true) {
    const originReference = formatOriginReference(request.reference);
    keepCachedUpdate(system.physicalRoot, { originReference, manifestDigest, facts }, new Date());
  }
  const known = request.kind === "upgrade" ? findKnown(world, request, manifestDigest) : null;
  if (known !== null) {
    const changes = known.kind === "already-staged" && known.lock !== "kept";
    if (changes && !request.dryRun) setStagedLock(system, known.id, known.lock === "locked");
    const id = known.kind === "already-staged" ? known.id : requireBooted(world).id;
    return { ...known, ...renewStatement(deployer, world, request, { id, resolved }) };
  }
  requireSigner(deployer, running, request, resolved);
  const failure = findUnwanted(world, request, { manifestDigest });
  const found: UpdatedImage = { reference: request.reference, manifestDigest, facts };
  if (failure !== null) return refuseFailed(system, request, found, failure);
  const makePlan = () =>
    planImagePull(deployer.repo, request.source, resolved, {
      isForDisplay: request.checkOnly,
      ...(observer.signal && { signal: observer.signal }),
    });
  if (request.checkOnly) {
    const plan = await makePlan();
    recordAvailable(system, found);
    return { kind: "available", manifestDigest, facts, plan };
  }
  const plan = await findRoom(deployer, world, request, makePlan);
  try {
    return await fetchAndStage(deployer, world, request, { ...admitted, resolved, plan }, observer);
  } catch (error) {
    // Whatever was fetched takes space that /var may need; what the next attempt goes on from is bounded.
    const isInterrupted = observer.signal?.aborted === true;
    cleanUpQuietly(deployer, booted, error, isInterrupted ? HURRY_MS : undefined);
    throw error;
  }
}

/** A plan that there is room for, if need be after removing what nothing uses; StateError("no-space"). */
async function findRoom(
  deployer: Deployer,
  world: World,
  request: UpdateRequest,
  makePlan: () => Promise<PullPlan>,
): Promise<PullPlan> {
  const { system, boot } = deployer;
  const requireRoom = (plan: PullPlan) => {
    requirePullSpace(system.physicalRoot, plan, request.source.name);
    requireKernelSpace(boot, plan, world);
    return plan;
  };
  try {
    return requireRoom(await makePlan());
  } catch (error) {
    if (!(error instanceof StateError) || error.code !== "no-space") throw error;
    cleanUpQuietly(deployer, requireBooted(world), error);
  }
  // What the first plan wanted to use again may be gone.
  return requireRoom(await makePlan());
}

async function fetchAndStage(
  deployer: Deployer,
  world: World,
  request: UpdateRequest,
  { resolved, decision, plan }: AdmittedImage & { readonly plan: PullPlan },
  observer: UpdateObserver,
): Promise<UpdateOutcome> {
  const { manifestDigest } = resolved;
  const { system } = deployer;
  const facts = describeImage(resolved.manifest, resolved.config);
  const updated: UpdatedImage = { reference: request.reference, manifestDigest, facts };
  if (!request.dryRun) startFinalizeService(system);
  const image = await pullBootImage(deployer.repo, request.source, { resolved, plan }, observer);
  const id = image.deploymentId;
  if (!request.dryRun) recordPulled(system, updated, { id, fetchedBytes: plan.fetchBytes });
  const failure = findUnwanted(world, request, { id, manifestDigest });
  if (failure !== null) {
    observer.onStep(null);
    return refuseFailed(system, request, updated, failure);
  }
  const slot =
    findFailure(world.failures, { id }) === null
      ? findSlot(world, id, request.retryFailed === true)
      : null;
  if (slot !== null && request.kind === "upgrade") {
    observer.onStep(null);
    return {
      kind: "unchanged",
      slot,
      ...renewStatement(deployer, world, request, { id, resolved }),
    };
  }
  const input = {
    image,
    manifestDigest,
    originReference: formatOriginReference(request.reference),
    decision,
    locked: request.downloadOnly,
    retryFailed: request.retryFailed === true,
    claims: await raceAbort(
      readClaims(deployer.repo, request.source, resolved, image),
      observer.signal,
    ),
    allowWeakerTrust: request.allowWeakerTrust === true,
  };
  observer.onStep(request.dryRun ? null : STAGING_STEPS.merging);
  const current = request.dryRun ? world : migrateNames(deployer, world);
  const preparation = prepareStage(deployer, current, input);
  if (request.dryRun) return { kind: "planned", preparation };
  observer.onStep(STAGING_STEPS.deploying);
  applyStage(deployer, input, preparation);
  const { kind, downloadOnly } = request;
  recordStaged(system, updated, { id, kind, downloadOnly, world });
  observer.onStep(STAGING_STEPS.cleanup);
  dropDownloads(deployer.repo);
  cleanUpStaged(deployer, requireBooted(world));
  observer.onStep(null);
  const { droppedArguments } = preparation.plan;
  const { warnings } = preparation.trust;
  return { kind: "staged", id, manifestDigest, facts, droppedArguments, warnings };
}

function refuseFailed(
  system: System,
  { checkOnly, dryRun }: UpdateRequest,
  image: UpdatedImage,
  failure: BootFailure,
): UpdateOutcome {
  if (!checkOnly && !dryRun) recordRefused(system, image, failure);
  return { kind: "failed-before", failure };
}

/** What `source` was resolved to, and how to fetch it; without a plan one is made. */
export interface PlannedImage {
  readonly resolved: ResolvedImage;
  readonly plan?: PullPlan;
}

/** Fetches exactly this image, and makes its bootable form. */
export async function pullBootImage(
  repo: Repository,
  source: ImageSource,
  { resolved, plan }: PlannedImage,
  { onProgress, onStep, signal }: UpdateObserver,
): Promise<BootImage> {
  const options = { onProgress, ...(plan && { plan }), ...(signal && { signal }) };
  const pulled = await pullResolvedImage(repo, source, resolved, options);
  onStep(IMPORTING);
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

function cleanUp(deployer: Deployer, booted: BootedImage, timeLimitMs?: number): void {
  const world = observeWorld(deployer.system, deployer.boot, booted);
  const plan = planCleanup(world, readCleanupScope(deployer.repo, world));
  applyCleanup(deployer, plan, {
    dryRun: false,
    ...(timeLimitMs !== undefined && { timeLimitMs }),
  });
}

/** After a failure, which is what is to be reported; the next cleanup removes what stays. */
function cleanUpQuietly(
  deployer: Deployer,
  booted: BootedImage,
  failure: unknown,
  timeLimitMs?: number,
): void {
  try {
    settleDownloads(deployer.repo, failure);
    cleanUp(deployer, booted, timeLimitMs);
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
