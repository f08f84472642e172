// Staging, the thinking part: from the world and a new boot image to exact file names and texts
// (bootc.md 4.4, 4.6, 4.10 f; Appendix A). Pure.
//
// The staged entry directory holds the new deployment first and the booted one as what to fall back
// to, plus every entry that is not ours, unchanged: the exchange at shutdown replaces the directory.

import { StateError, UnsupportedError } from "../../shared/error.ts";
import { type Cmdline, formatCmdline } from "../../shared/format/kargs/cmdline.ts";
import { ARTEFACT_PREFIX } from "../boot/artefact-name.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import type { KernelDirectory } from "../boot/kernel-directory.ts";
import { type BootFailure, retryFailure } from "./boot-failure.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { findKargsBase, inheritArguments } from "./kargs-base.ts";
import { type MenuItem, planMenu } from "./menu-plan.ts";
import { formatOrigin } from "./origin.ts";
import { formatStagedFile } from "./staged-file.ts";
import { findLastGood, isGivenUp, isOnTrial } from "./trial.ts";
import { requireBooted, type World } from "./world.ts";

/** What is known of the image that is to boot. */
export interface NewImage {
  readonly id: string;
  readonly manifestDigest: string;
  /** `ostree-unverified-image:<transport>:<image>` */
  readonly originReference: string;
  readonly osRelease: ReadonlyMap<string, string>;
  /** Its own kernel arguments (kargs.d). */
  readonly kargs: Cmdline;
  readonly bootDigest: string;
}

export interface StagePlan {
  readonly id: string;
  /** `write` false: an equal kernel is there already, under this directory's name. */
  readonly kernel: { readonly directory: string; readonly write: boolean };
  readonly cmdline: string;
  readonly entries: readonly EntryFile[];
  readonly origin: string;
  readonly stagedFile: string;
  /** All known failures, when this one is tried again; null: nothing changes. */
  readonly failures: readonly BootFailure[] | null;
}

export interface StageRequest {
  readonly image: NewImage;
  /** kargs.d of the images that are running and staged, by id; a staged one's may be missing. */
  readonly imageKargs: ReadonlyMap<string, Cmdline>;
  /** The boot partition's kernels with their digests. */
  readonly kernels: readonly KernelDirectory[];
  /** Whether the kernel may go without fs-verity. */
  readonly verityOptional: boolean;
  /** Download only. */
  readonly locked: boolean;
  /** Also when it failed to start before. */
  readonly retryFailed?: boolean;
}

/** StateError("conflict") when a deployment boots this image already. */
export function planStage(world: World, request: StageRequest): StagePlan {
  const { image } = request;
  const booted = requireBooted(world);
  if (request.retryFailed !== true || !isFailed(world, image.id)) refuseCollision(world, image.id);
  const bootedEntry = findBootedEntry(world, booted.id);
  const kernel = chooseKernel(image, request.kernels);
  const base = findKargsBase(world, bootedEntry, request.imageKargs);
  const { options, extra } = inheritArguments(
    base,
    request.imageKargs.get(base.deploymentId ?? "") ?? [],
    { id: image.id, verityOptional: request.verityOptional, kargs: image.kargs },
  );
  const cmdline = formatCmdline(options);
  return {
    id: image.id,
    kernel,
    cmdline,
    entries: planMenu(world, {
      names: "image",
      items: [
        { kind: "new", image, kernelDirectory: kernel.directory, options: cmdline, extra },
        ...findFallbacks(world, bootedEntry, image.id),
      ],
    }),
    origin: formatOrigin({
      imageReference: image.originReference,
      bootType: "bls",
      bootDigest: image.bootDigest,
      manifestDigest: image.manifestDigest,
    }),
    stagedFile: formatStagedFile({ id: image.id, locked: request.locked }),
    failures: request.retryFailed === true ? retryFailure(world.failures, image) : null,
  };
}

/** What stays behind the new deployment, in this order: the booted one, one that proved itself, pinned ones. */
function findFallbacks(world: World, booted: BootEntry, newId: string): readonly MenuItem[] {
  const lastGood = isOnTrial(world) ? findLastGood(world) : null;
  const pinned = world.live.filter(({ deploymentId }) => world.pins.has(deploymentId ?? ""));
  const kept = new Set([booted, ...(lastGood === null ? [] : [lastGood]), ...pinned]);
  return [...kept]
    .filter(({ deploymentId }) => deploymentId !== newId)
    .map((entry) => ({ kind: "kept", entry }));
}

/** In the menu only because its tries ran out. */
function isFailed(world: World, id: string): boolean {
  const entries = world.live.filter(({ deploymentId }) => deploymentId === id);
  return id !== world.booted?.id && entries.every(isGivenUp);
}

/** Its kernel arguments are carried over, so it must be there and have some. */
function findBootedEntry(world: World, id: string): BootEntry {
  const found = world.live.find((entry) => entry.deploymentId === id);
  if (found === undefined) {
    throw new StateError(
      "missing",
      `The running deployment ${id} has no boot entry, so its kernel arguments are unknown`,
      { id },
    );
  }
  if (found.entry.target.kind === "linux") return found;
  throw new UnsupportedError(
    "feature",
    "The running deployment starts from a unified kernel, whose arguments cannot be carried over yet",
    { id },
  );
}

function refuseCollision(world: World, id: string): void {
  const slot =
    world.booted?.id === id
      ? "booted"
      : world.live.some((entry) => entry.deploymentId === id)
        ? "rollback"
        : null;
  if (slot === null) return;
  throw new StateError(
    "conflict",
    `Target image has the same fs-verity digest as the existing ${slot} deployment`,
    { id },
  );
}

/** The kernel directory to boot from: one with equal files, else a new one named after the image. */
export function chooseKernel(
  image: Pick<NewImage, "id" | "bootDigest">,
  kernels: readonly KernelDirectory[],
): StagePlan["kernel"] {
  const equal = kernels.find((kernel) => kernel.bootDigest === image.bootDigest);
  return equal === undefined
    ? { directory: `${ARTEFACT_PREFIX}${image.id}`, write: true }
    : { directory: equal.name, write: false };
}
