// What planning has to know of a unified kernel and its addons: those the image brings, those the running
// deployment has, and which of the ones for every kernel lie on the boot partition already.

import { join } from "node:path";
import { StateError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { fstatatIfExists } from "../../shared/sys/stat.ts";
import type { BootDirectory } from "../boot/boot-layout.ts";
import {
  ADDONS_PARENT,
  addonDirectory,
  hashRegularFile,
  listAddons,
} from "../boot/kernel-directory.ts";
import { requireAddon } from "../image/addon-file.ts";
import type { BootImage } from "../image/boot-image.ts";
import type { ImageFile } from "../image/boot-kernel.ts";
import {
  type FormerAddons,
  type GlobalAddon,
  NO_ADDONS,
  nameDifferent,
  type UnifiedImage,
} from "./kernel-plan.ts";
import { fileSizeBytes, hashFile } from "./kernel-source.ts";
import { readStoredKernel } from "./stored-kernel.ts";
import type { World } from "./world.ts";

/**
 * Undefined for a plain kernel. StateError when it asks for fs-verity, which the repository does not have; FormatError
 * for an addon that is none, or that says which image starts.
 */
export function readUnifiedImage(
  repo: Repository,
  boot: BootDirectory,
  { kernel, seal }: Pick<BootImage, "kernel" | "seal">,
): UnifiedImage | undefined {
  if (kernel.kind !== "uki") return undefined;
  if (seal !== null && !seal.verityOptional && !repo.secure) {
    throw new StateError(
      "conflict",
      `The image's unified kernel starts nothing without fs-verity, and "${repo.path}" was made without it; ` +
        'seal the image with "--allow-missing-verity", or install it anew on a file system with fs-verity',
    );
  }
  for (const addon of [...kernel.addons, ...kernel.globalAddons]) requireAddon(repo, addon);
  return {
    sealedCmdline: seal?.cmdline ?? null,
    addons: kernel.addons.map(({ name }) => name),
    globalAddons: kernel.globalAddons.map((addon) => placeGlobalAddon(repo, boot, addon)),
  };
}

/** Never in the place of other content: what has the name may be what another deployment starts with. */
function placeGlobalAddon(
  repo: Repository,
  boot: BootDirectory,
  { name, file }: ImageFile,
): GlobalAddon {
  const directory = join(boot.layout.ukiPath ?? boot.path, ADDONS_PARENT);
  const compare = (target: string): "same" | "other" | "free" => {
    const stat = fstatatIfExists(null, join(directory, target));
    if (stat === null) return "free";
    const isSame =
      stat.sizeBytes === fileSizeBytes(file) &&
      hashRegularFile(join(directory, target)) === hashFile(repo, file);
    return isSame ? "same" : "other";
  };
  const plain = compare(name);
  if (plain !== "other") return { name, target: name, isThere: plain === "same" };
  const target = nameDifferent(name, hashFile(repo, file));
  // A file of this name with other content is a copy that a power cut damaged.
  return { name, target, isThere: compare(target) === "same" };
}

export interface FormerKernel {
  /** The running deployment's unified kernel, less ".efi"; null when it has a plain one. */
  readonly artefact: string | null;
  readonly addons: FormerAddons;
}

/** Of the running deployment. */
export function readFormerKernel(
  repo: Repository,
  { layout }: Pick<BootDirectory, "layout">,
  world: World,
): FormerKernel {
  const entry = world.live.find(({ deploymentId }) => deploymentId === world.booted?.id);
  const artefact = entry?.entry.target.kind === "efi" ? entry.artefact : null;
  if (artefact === null) return { artefact, addons: NO_ADDONS };
  const origin = world.states.find(({ id }) => id === world.booted?.id)?.origin ?? null;
  const digest = origin?.manifestDigest ?? null;
  const kernel = digest === null ? null : readStoredKernel(repo, digest);
  const present = listAddons(layout, addonDirectory(artefact));
  const ofImage = kernel?.kind === "uki" ? kernel.addons.map(({ name }) => name) : null;
  return { artefact, addons: { present, ofImage } };
}
