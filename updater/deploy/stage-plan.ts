// Staging, the thinking part: from the world and a new boot image to exact file names and texts
// (bootc.md 4.4, 4.6, 4.10 f; Appendix A). Pure.
//
// The staged entry directory holds the new deployment first and the booted one as what to fall back
// to, plus every entry that is not ours, unchanged: the exchange at shutdown replaces the directory.

import { StateError, UnsupportedError } from "../../shared/error.ts";
import { type Cmdline, formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { type BootEntry, isSealed } from "../boot/boot-entry.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import type { KernelDirectory } from "../boot/kernel-directory.ts";
import { type BootFailure, retryFailure } from "./boot-failure.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { findDropped, findKargsBase, inheritArguments, readBaseArguments } from "./kargs-base.ts";
import type { SourcedOptions } from "./kargs-source.ts";
import {
  type FormerAddons,
  type KernelPlan,
  NO_ADDONS,
  planKernel,
  recordAddons,
  type UnifiedImage,
} from "./kernel-plan.ts";
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
  /** Absent: it has a plain kernel. */
  readonly unified?: UnifiedImage;
}

export interface StagePlan {
  readonly id: string;
  readonly kernel: KernelPlan;
  /** What the kernel gets from its boot entry, or has in it. */
  readonly cmdline: string;
  /** Arguments of this machine that a sealed kernel does not take over; "" for none. */
  readonly droppedArguments: string;
  readonly entries: readonly EntryFile[];
  readonly origin: string;
  /** Text of the record of addons that it needs; null for a plain kernel. */
  readonly addons: string | null;
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
  /** Of the running deployment; absent: none. */
  readonly formerAddons?: FormerAddons;
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
  requireLoader(world.layout, image);
  if (request.retryFailed !== true || !isFailed(world, image.id)) refuseCollision(world, image.id);
  const bootedEntry = findBootedEntry(world, booted.id);
  const kernel = planKernel(image, request.kernels, request.formerAddons ?? NO_ADDONS);
  const { options, extra, dropped } = planArguments(world, request, bootedEntry);
  const cmdline = formatCmdline(options);
  return {
    id: image.id,
    kernel,
    cmdline: image.unified?.sealedCmdline ?? cmdline,
    droppedArguments: formatCmdline(dropped),
    entries: planMenu(world, {
      names: "image",
      items: [
        { kind: "new", image, kernel, options: cmdline, extra },
        ...findFallbacks(world, bootedEntry, image.id),
      ],
    }),
    origin: formatOrigin({
      imageReference: image.originReference,
      bootType: kernel.kind,
      bootDigest: image.bootDigest,
      manifestDigest: image.manifestDigest,
    }),
    addons: recordAddons(kernel),
    stagedFile: formatStagedFile({ id: image.id, locked: request.locked }),
    failures: request.retryFailed === true ? retryFailure(world.failures, image) : null,
  };
}

/** Of the new entry; one that starts a sealed kernel has none. */
function planArguments(
  world: World,
  { image, imageKargs, verityOptional }: StageRequest,
  bootedEntry: BootEntry,
): SourcedOptions & { readonly dropped: Cmdline } {
  const base = findKargsBase(world, bootedEntry, imageKargs);
  const sealed = image.unified?.sealedCmdline ?? null;
  if (sealed !== null && isSealed(base)) return { options: [], extra: [], dropped: [] };
  const kargsD = imageKargs.get(base.deploymentId ?? "") ?? [];
  const current = readBaseArguments(base, kargsD, image.unified === undefined);
  if (sealed !== null) {
    return { options: [], extra: [], dropped: findDropped(current, parseCmdline(sealed)) };
  }
  const made = { id: image.id, verityOptional, kargs: image.kargs };
  return { ...inheritArguments(current, made), dropped: [] };
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

/** GRUB starts unified kernels from a file of its own, which nothing is staged to (docs/boot-loaders.md). */
function requireLoader(
  { loader, userConfig }: BootLayout,
  { unified }: Pick<NewImage, "unified">,
): void {
  if (loader !== "grub" || (unified === undefined && userConfig === null)) return;
  throw new UnsupportedError(
    "feature",
    unified === undefined
      ? `GRUB on this machine starts unified kernels by "${userConfig}", to which nothing can be staged; install the image anew, with systemd-boot`
      : "The image has a unified kernel, which this program does not start with GRUB; use an image with vmlinuz and initramfs.img, or install this one anew, with systemd-boot",
  );
}

/** In the menu only because its tries ran out. */
function isFailed(world: World, id: string): boolean {
  const entries = world.live.filter(({ deploymentId }) => deploymentId === id);
  return id !== world.booted?.id && entries.every(isGivenUp);
}

/** Its kernel arguments are carried over, so it must be there and have some. */
function findBootedEntry(world: World, id: string): BootEntry {
  const found = world.live.find((entry) => entry.deploymentId === id);
  if (found !== undefined) return found;
  throw new StateError(
    "missing",
    `The running deployment ${id} has no boot entry, so its kernel arguments are unknown; "bootc internals fsck --repair" writes it again`,
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
