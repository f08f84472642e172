// What of an image's kernel goes to the boot partition, under which names (bootc.md 4.4-4.6; docs/boot-loaders.md,
// docs/decisions/0020). Pure.
//
// Plain kernels with equal files share a directory. A unified kernel is one deployment's, with its addons: those of
// the image, and those that the machine has of its own, which are carried from one deployment to the next.

import { UsageError } from "../../shared/error.ts";
import { ARTEFACT_PREFIX } from "../boot/artefact-name.ts";
import type { KernelDirectory } from "../boot/kernel-directory.ts";
import { formatAddonRecord } from "./addon-record.ts";
import type { NewImage } from "./stage-plan.ts";

/** What a unified kernel brings, as far as plans need to know. */
export interface UnifiedImage {
  /** Its own command line; null: the boot entry has the arguments. */
  readonly sealedCmdline: string | null;
  /** Names of its own addons. */
  readonly addons: readonly string[];
  readonly globalAddons: readonly GlobalAddon[];
}

/** An addon for every unified kernel of the machine. */
export interface GlobalAddon {
  /** In the image. */
  readonly name: string;
  /** On the boot partition: another one when other content has the name there. */
  readonly target: string;
  /** This very content is there already. */
  readonly isThere: boolean;
}

/** The addons of the deployment that the new one follows. */
export interface FormerAddons {
  /** Names in its directory on the boot partition. */
  readonly present: readonly string[];
  /** Names that its image has; null: unknown, or it has no unified kernel. */
  readonly ofImage: readonly string[] | null;
}

export const NO_ADDONS: FormerAddons = { present: [], ofImage: null };

export interface AddonPlan {
  readonly name: string;
  /** "machine": copied from the former deployment's directory. */
  readonly from: "image" | "machine";
}

export type KernelPlan =
  | {
      readonly kind: "bls";
      readonly directory: string;
      /** False: an equal kernel is there already, under this directory's name. */
      readonly write: boolean;
    }
  | {
      readonly kind: "uki";
      /** `bootc_composefs-<id>`: of the file less ".efi", and of the directory with its addons. */
      readonly name: string;
      readonly addons: readonly AddonPlan[];
      readonly globalAddons: readonly GlobalAddon[];
    };

/** A directory with equal files, else a new one named after the image; a unified kernel is never shared. */
export function planKernel(
  image: Pick<NewImage, "id" | "bootDigest" | "unified">,
  kernels: readonly KernelDirectory[],
  former: FormerAddons,
): KernelPlan {
  const { unified } = image;
  const name = `${ARTEFACT_PREFIX}${image.id}`;
  if (unified !== undefined) {
    const addons = planAddons(unified.addons, former);
    return { kind: "uki", name, addons, globalAddons: unified.globalAddons };
  }
  const equal = kernels.find((kernel) => kernel.bootDigest === image.bootDigest);
  return equal === undefined
    ? { kind: "bls", directory: name, write: true }
    : { kind: "bls", directory: equal.name, write: false };
}

/**
 * The image's, but for those that the former image had as well and this machine does not: somebody does not want
 * them. Then the machine's own, which are those its former image did not have, unless the new one has the name.
 */
function planAddons(
  ofImage: readonly string[],
  { present, ofImage: former }: FormerAddons,
): readonly AddonPlan[] {
  const has = (names: readonly string[] | null, name: string) =>
    names?.some((each) => each.toLowerCase() === name.toLowerCase()) === true;
  const own = present.filter((name) => !has(ofImage, name) && !has(former, name));
  return [
    ...ofImage
      .filter((name) => !has(former, name) || has(present, name))
      .map((name): AddonPlan => ({ name, from: "image" })),
    ...own.map((name): AddonPlan => ({ name, from: "machine" })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** `install --uki-addon NAME`, with or without ".addon.efi"; without names all. UsageError for one that is not there. */
export function chooseAddons(
  ofImage: readonly string[],
  wanted: readonly string[],
): readonly string[] {
  if (wanted.length === 0) return ofImage;
  const names = wanted.map((name) => `${name.replace(/\.addon\.efi$/, "")}.addon.efi`);
  const missing = names.find((name) => !ofImage.includes(name));
  if (missing === undefined) return ofImage.filter((name) => names.includes(name));
  const found = ofImage.length === 0 ? "it has none" : `it has ${ofImage.join(", ")}`;
  throw new UsageError(
    "missing",
    `--uki-addon: the image's unified kernel has no addon "${missing}"; ${found}`,
  );
}

/** Another name for content whose own is taken: `sha256` is that of the file. */
export function nameDifferent(name: string, sha256: string): string {
  return name.replace(/\.addon\.efi$/, `-${sha256.slice(0, 8)}.addon.efi`);
}

/** Text of the record of the addons for every kernel that it needs; null for a plain kernel. */
export function recordAddons(kernel: KernelPlan): string | null {
  if (kernel.kind === "bls") return null;
  return formatAddonRecord(kernel.globalAddons.map(({ target }) => target));
}
