// Staging, the thinking part: from the world and a new boot image to exact file names and texts
// (bootc.md 4.4, 4.6, 4.10 f; Appendix A). Pure.
//
// The staged entry directory holds the new deployment first and the booted one as what to fall back
// to, plus every entry that is not ours, unchanged: the exchange at shutdown replaces the directory.

import { StateError, UnsupportedError } from "../../shared/error.ts";
import { type BlsEntry, formatEntry } from "../../shared/format/bls/entry.ts";
import { formatEntryName, makeEntryId, makeSortKey } from "../../shared/format/bls/entry-name.ts";
import {
  applyKargsDiff,
  type Cmdline,
  formatCmdline,
  makeParameter,
  parseCmdline,
  replaceParameter,
} from "../../shared/format/kargs/cmdline.ts";
import type { BootEntry } from "../boot/boot-entry.ts";
import { ARTEFACT_PREFIX, KERNEL_PARENT, type KernelDirectory } from "../boot/kernel-directory.ts";
import type { EntryFile } from "./entry-exchange.ts";
import { formatOrigin } from "./origin.ts";
import { formatStagedFile } from "./staged-file.ts";
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
}

export interface StageRequest {
  readonly image: NewImage;
  /** kargs.d of the image that is running. */
  readonly bootedKargs: Cmdline;
  /** The boot partition's kernels with their digests. */
  readonly kernels: readonly KernelDirectory[];
  /** Whether the kernel may go without fs-verity. */
  readonly verityOptional: boolean;
  /** Download only. */
  readonly locked: boolean;
}

/** StateError("conflict") when a deployment boots this image already. */
export function planStage(world: World, request: StageRequest): StagePlan {
  const { image } = request;
  const booted = requireBooted(world);
  refuseCollision(world, image.id);
  const bootedEntry = findBootedEntry(world, booted.id);
  const kernel = chooseKernel(image, request.kernels);
  const options = applyKargsDiff(
    replaceParameter(
      parseCmdline(bootedEntry.entry.options),
      makeImageParameter(image.id, request.verityOptional),
    ),
    request.bootedKargs,
    image.kargs,
  );
  const cmdline = formatCmdline(options);
  const osId = image.osRelease.get("ID") ?? "bootc";
  return {
    id: image.id,
    kernel,
    cmdline,
    entries: [
      makeNewEntry(image, kernel.directory, cmdline),
      makeFallbackEntry(bootedEntry, osId),
      ...world.live.filter((entry) => entry.deploymentId === null).map(copyEntry),
    ],
    origin: formatOrigin({
      imageReference: image.originReference,
      bootType: "bls",
      bootDigest: image.bootDigest,
      manifestDigest: image.manifestDigest,
    }),
    stagedFile: formatStagedFile({ id: image.id, locked: request.locked }),
  };
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

export function makeImageParameter(id: string, verityOptional: boolean) {
  return makeParameter("composefs", verityOptional ? `?${id}` : id);
}

/** The entry of a deployment that is to boot first. */
export function makeNewEntry(
  image: Pick<NewImage, "id" | "osRelease">,
  kernelDirectory: string,
  cmdline: string,
): EntryFile {
  const { osRelease } = image;
  const osId = osRelease.get("ID") ?? "bootc";
  const version = osRelease.get("VERSION_ID") ?? osRelease.get("VERSION") ?? image.id;
  const directory = `/${KERNEL_PARENT}/${kernelDirectory}`;
  const entry: BlsEntry = {
    title: osRelease.get("PRETTY_NAME") ?? osRelease.get("NAME") ?? osRelease.get("ID") ?? image.id,
    version,
    target: { kind: "linux", linux: `${directory}/vmlinuz`, initrds: [`${directory}/initrd`] },
    options: cmdline,
    machineId: null,
    sortKey: makeSortKey(osId, 0),
    extra: [],
  };
  return {
    fileName: formatEntryName({ id: makeEntryId(osId, version, 1), counter: null }),
    text: formatEntry(entry),
  };
}

/** The running deployment's entry, second in the menu. Its boot counter goes with it. */
function makeFallbackEntry(booted: BootEntry, osId: string): EntryFile {
  const version = booted.entry.version ?? booted.deploymentId ?? "";
  return {
    fileName: formatEntryName({
      id: makeEntryId(osId, version, 0),
      counter: booted.name.counter,
    }),
    text: formatEntry({ ...booted.entry, sortKey: makeSortKey(osId, 1) }),
  };
}

export function copyEntry(entry: BootEntry): EntryFile {
  return { fileName: entry.fileName, text: entry.text };
}
