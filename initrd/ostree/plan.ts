// What is mounted where for an ostree deployment: plain data, computed from what was found.
//
// Order, paths and options are upstream's, so that the mount table of the booted system is the same
// whichever program made it (ostree.md 1.3). The new root is put together on /sysroot.tmp.

import { StateError } from "../../shared/error.ts";
import type { Dictionary } from "../../shared/format/gvariant/dictionary.ts";

import type { OstreeConfig } from "./config.ts";

/** Where the new root is put together; overlays of it show this path for ever. */
export const ASSEMBLY = "/sysroot.tmp";
export const IMAGE_NAME = ".ostree.cfs";
export const HOTFIX_WORK = ".usr-ovl-work";
const HOTFIX_UPPER = ".usr-ovl-upper";

export type OstreeStep =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | {
      readonly kind: "image";
      /** Relative to the deployment, as all paths without a slash in front. */
      readonly image: string;
      /** Where the image itself is mounted for a moment. */
      readonly scratch: string;
      readonly objects: string;
      readonly at: string;
      readonly requireVerity: boolean;
      /** fs-verity digest that the image must have; null: any. */
      readonly digest: string | null;
      readonly upper: { readonly upper: string; readonly work: string } | null;
      readonly readOnly: boolean;
    }
  | { readonly kind: "bind"; readonly from: string; readonly at: string }
  | { readonly kind: "remount"; readonly at: string; readonly readOnly: boolean }
  | { readonly kind: "propagation"; readonly at: string; readonly to: "slave" | "shared" }
  | {
      readonly kind: "overlay";
      readonly at: string;
      readonly lower: string;
      readonly upper: string;
      readonly work: string;
      readonly readOnly: boolean;
    };

/** What was found; nothing of it has been changed yet. */
export interface OstreeFacts {
  /** Where the root disk is mounted, without symlinks. */
  readonly sysroot: string;
  readonly run: string;
  /** Absolute path on the root disk. */
  readonly deployment: string;
  readonly device: { readonly number: bigint; readonly inode: bigint };
  readonly config: OstreeConfig;
  /** What the repository's config says, read only where nothing has to be trusted. */
  readonly legacyReadOnly: boolean;
  /** The root disk is mounted read-only as a whole. */
  readonly diskReadOnly: boolean;
  readonly hasImage: boolean;
  readonly hasHotfix: boolean;
  /** /var is to be mounted here and not by systemd. */
  readonly mountsVar: boolean;
  /** Signed fs-verity digest of the image; null unless the config says `signed`. */
  readonly digest: string | null;
  /** A directory that does not exist yet, for a transient /etc. */
  readonly etcScratch: string;
}

export interface OstreePlan {
  readonly deployment: string;
  /** In order; all below ASSEMBLY and `run`. */
  readonly steps: readonly OstreeStep[];
  /** /run/ostree-booted: how libostree and ostree-remount know what was started (ostree.md 1.5). */
  readonly booted: Dictionary;
  /** The root comes from an image and is an overlay. */
  readonly isImage: boolean;
  /** Overlays lie on the image's own overlay. */
  readonly stacksOverlays: boolean;
  /** For the journal: "root=ro etc=bind var=none". */
  readonly text: string;
}

/** StateError when the config asks for what this deployment cannot give. */
export function planOstreeRoot(facts: OstreeFacts): OstreePlan {
  const { config, deployment, hasHotfix, sysroot } = facts;
  const isImage = decideImage(facts);
  const sysrootReadOnly =
    (config.sysrootReadOnly ?? config.composefs === "yes") || facts.legacyReadOnly;
  const isTransient = config.rootTransient !== "no";
  const separateEtc = sysrootReadOnly || isImage;
  const etc = !separateEtc ? "none" : config.etcTransient ? "transient" : "bind";
  // A signature covers the image, not what lies beside it on the disk.
  const hotfix = hasHotfix && !(isImage && config.signed);
  const steps = [
    ...runSteps(facts),
    ...(isImage ? imageSteps(facts) : [bind(`${sysroot}${deployment}`, ASSEMBLY)]),
    ...etcSteps(etc, facts),
    ...usrSteps(hotfix, isImage, facts.diskReadOnly),
    bind(sysroot, `${ASSEMBLY}/sysroot`),
    ...varSteps(sysrootReadOnly, facts),
    // Last, as the mounts in it are made while it can be written.
    ...(sysrootReadOnly ? [remount(`${ASSEMBLY}/sysroot`, true)] : []),
  ];
  const root = isTransient ? config.rootTransient : isImage ? "ro" : "bind";
  return {
    deployment,
    steps,
    booted: bootedEntries(facts, isImage, sysrootReadOnly, etc === "transient"),
    isImage,
    stacksOverlays: isImage && (etc === "transient" || hotfix),
    text: `root=${root} etc=${etc} usr=${hotfix ? "hotfix" : "ro"} var=${facts.mountsVar ? "bind" : "none"} sysroot=${sysrootReadOnly ? "ro" : "rw"}`,
  };
}

function decideImage({ config, deployment, hasImage }: OstreeFacts): boolean {
  const isImage = config.composefs !== "no" && hasImage;
  if (config.composefs === "yes" && !hasImage) {
    throw new StateError(
      "missing",
      `Deployment "${deployment}" has no "${IMAGE_NAME}", and prepare-root.conf wants composefs: choose another boot entry, or deploy it again`,
    );
  }
  if (config.rootTransient !== "no" && !isImage) {
    throw new StateError(
      "conflict",
      "prepare-root.conf sets root.transient, which needs composefs: set [composefs] enabled=yes as well",
    );
  }
  return isImage;
}

/** `.private` is closed to everybody; root's programs come in all the same. */
function runSteps({ config, run }: OstreeFacts): OstreeStep[] {
  const own = `${run}/ostree/.private`;
  return [
    directory(`${run}/ostree`, 0o755),
    directory(own, 0),
    ...(config.composefs === "no" ? [] : [directory(`${own}/cfsroot-lower`, 0o700)]),
  ];
}

function imageSteps({ config, digest, run, sysroot }: OstreeFacts): OstreeStep[] {
  const own = `${run}/ostree/.private`;
  const { rootTransient } = config;
  const upper = { upper: `${own}/root/upper`, work: `${own}/root/work` };
  const isTransient = rootTransient !== "no";
  return [
    ...(isTransient
      ? [
          directory(`${own}/root`, 0o755),
          directory(upper.upper, 0o755),
          directory(upper.work, 0o700),
        ]
      : []),
    {
      kind: "image",
      image: IMAGE_NAME,
      scratch: `${own}/cfsroot-lower`,
      objects: `${sysroot}/ostree/repo/objects`,
      at: ASSEMBLY,
      requireVerity: config.requireVerity,
      digest,
      upper: isTransient ? upper : null,
      readOnly: rootTransient !== "writable",
    },
  ];
}

function etcSteps(etc: "none" | "bind" | "transient", { etcScratch }: OstreeFacts): OstreeStep[] {
  const at = `${ASSEMBLY}/etc`;
  if (etc === "none") return [];
  if (etc === "bind") return writableBind("etc", at);
  const upper = `${etcScratch}/upper`;
  const work = `${etcScratch}/work`;
  return [
    directory(etcScratch, 0o700),
    directory(upper, 0o755),
    directory(work, 0o755),
    { kind: "overlay", at, lower: `${ASSEMBLY}/usr/etc`, upper, work, readOnly: false },
  ];
}

function usrSteps(hotfix: boolean, isImage: boolean, diskReadOnly: boolean): OstreeStep[] {
  const at = `${ASSEMBLY}/usr`;
  if (hotfix) {
    const layers = { lower: at, upper: HOTFIX_UPPER, work: HOTFIX_WORK };
    return [{ kind: "overlay", at, ...layers, readOnly: diskReadOnly }];
  }
  return isImage ? [] : [bind(at, at), remount(at, true)];
}

/** The stateroot's var stays writable within the read-only /sysroot. */
function varSteps(sysrootReadOnly: boolean, { deployment, mountsVar }: OstreeFacts): OstreeStep[] {
  const from = `${ASSEMBLY}/sysroot${staterootOf(deployment)}/var`;
  const at = `${ASSEMBLY}/var`;
  return [
    ...(sysrootReadOnly ? writableBind(from, from) : []),
    ...(mountsVar
      ? [
          bind(from, at),
          { kind: "propagation", at, to: "slave" } as const,
          { kind: "propagation", at, to: "shared" } as const,
        ]
      : []),
  ];
}

export interface StaticFacts {
  readonly deployment: string;
  readonly device: OstreeFacts["device"];
  /** `[sysroot] readonly` of the repository's config. */
  readonly sysrootReadOnly: boolean;
  /** /boot/loader is a symlink, and the deployment has a directory /boot. */
  readonly hasBoot: boolean;
  readonly hasHotfix: boolean;
}

export type StaticPlan = Omit<OstreePlan, "text"> & {
  /** For a program that runs after the start: /sysroot is still writable. */
  readonly sysrootReadOnly: boolean;
};

/** Without an initramfs: the root disk is /, and nobody mounts /boot and /var later (ostree.md 1.6). */
export function planStaticRoot(facts: StaticFacts): StaticPlan {
  const { deployment, device, hasBoot, hasHotfix, sysrootReadOnly } = facts;
  const from = `${staterootOf(deployment)}/var`;
  const steps = [
    bind(deployment, ASSEMBLY),
    ...(hasBoot ? [bind("/boot", `${ASSEMBLY}/boot`)] : []),
    ...(sysrootReadOnly ? writableBind("etc", `${ASSEMBLY}/etc`) : []),
    ...usrSteps(hasHotfix, false, false),
    ...(sysrootReadOnly ? writableBind(from, from) : []),
    bind(from, `${ASSEMBLY}/var`),
  ];
  const booted = [...rootEntries(device, "no"), flagEntry("sysroot-ro", sysrootReadOnly)];
  return { deployment, steps, booted, isImage: false, stacksOverlays: false, sysrootReadOnly };
}

function staterootOf(deployment: string): string {
  return deployment.split("/").slice(0, -2).join("/");
}

function directory(path: string, mode: number): OstreeStep {
  return { kind: "directory", path, mode };
}

function bind(from: string, at: string): OstreeStep {
  return { kind: "bind", from, at };
}

function writableBind(from: string, at: string): OstreeStep[] {
  return [bind(from, at), remount(at, false)];
}

function remount(at: string, readOnly: boolean): OstreeStep {
  return { kind: "remount", at, readOnly };
}

/** In upstream's order, which the bytes of the file depend on. */
function bootedEntries(
  { config, device, etcScratch }: OstreeFacts,
  isImage: boolean,
  sysrootReadOnly: boolean,
  etcTransient: boolean,
): Dictionary {
  const signed = isImage && config.signed;
  return [
    ...rootEntries(device, config.rootTransient),
    ...(signed ? [textEntry("composefs.signed", config.keyFile)] : []),
    ...(isImage
      ? [flagEntry("composefs", true), flagEntry("composefs.verity", config.requireVerity)]
      : []),
    flagEntry("sysroot-ro", sysrootReadOnly),
    ...(etcTransient ? [textEntry("transient-etc", etcScratch)] : []),
  ];
}

function rootEntries(
  { number, inode }: OstreeFacts["device"],
  transient: OstreeConfig["rootTransient"],
): Dictionary {
  return [
    ["backing-root-device-inode", { type: "(tt)", value: [number, inode] }],
    flagEntry("root.transient", transient !== "no"),
    flagEntry("root.transient-ro", transient === "read-only"),
  ];
}

function flagEntry(key: string, value: boolean): Dictionary[number] {
  return [key, { type: "b", value }];
}

function textEntry(key: string, value: string): Dictionary[number] {
  return [key, { type: "s", value }];
}
