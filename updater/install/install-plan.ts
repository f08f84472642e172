// What an installation will write, decided before anything is (design.md, habit 1). Pure.

import { describeError, StateError, UsageError } from "../../shared/error.ts";
import {
  type Cmdline,
  findParameters,
  formatCmdline,
  hasParameter,
  parseArguments,
} from "../../shared/format/kargs/cmdline.ts";
import type { BootLayout } from "../boot/boot-layout.ts";
import type { KernelDirectory } from "../boot/kernel-directory.ts";
import type { EntryFile } from "../deploy/entry-exchange.ts";
import { firstArguments } from "../deploy/kargs-base.ts";
import type { SourcedOptions } from "../deploy/kargs-source.ts";
import {
  chooseAddons,
  type KernelPlan,
  NO_ADDONS,
  planKernel,
  recordAddons,
} from "../deploy/kernel-plan.ts";
import { makeFirstEntry } from "../deploy/menu-plan.ts";
import { formatOrigin } from "../deploy/origin.ts";
import type { NewImage } from "../deploy/stage-plan.ts";

export interface InstallFacts {
  readonly image: NewImage;
  /** `--uki-addon`: which of the image's addons; none: all. */
  readonly ukiAddons?: readonly string[];
  /** From `rootArguments`. */
  readonly kargs: Cmdline;
  /** From `parseKargDeletes`; they count against the image's arguments, too. */
  readonly kargDeletes: Cmdline;
  readonly kernels: readonly KernelDirectory[];
  readonly layout: BootLayout;
  readonly verityOptional: boolean;
}

export interface InstallPlan {
  readonly id: string;
  readonly kernel: KernelPlan;
  /** What the kernel gets from its boot entry, or has in it. */
  readonly cmdline: string;
  readonly entry: EntryFile;
  readonly origin: string;
  /** Text of the record of addons that it needs; null for a plain kernel. */
  readonly addons: string | null;
}

/** Order of arguments: where the root is, the caller's, the image, what the image wants (bootc.md 9.7). */
export function planInstall(facts: InstallFacts): InstallPlan {
  const { image } = facts;
  const { options, extra } = planArguments(facts);
  const cmdline = formatCmdline(options);
  const kernel = planFirstKernel(facts);
  return {
    id: image.id,
    kernel,
    cmdline: image.unified?.sealedCmdline ?? cmdline,
    entry: makeFirstEntry({ kind: "new", image, kernel, options: cmdline, extra }, facts.layout),
    origin: formatOrigin({
      imageReference: image.originReference,
      bootType: kernel.kind,
      bootDigest: image.bootDigest,
      manifestDigest: image.manifestDigest,
    }),
    addons: recordAddons(kernel),
  };
}

/** Of the entry; one that starts a sealed kernel has none. */
function planArguments(facts: InstallFacts): SourcedOptions {
  const { image } = facts;
  if (image.unified !== undefined && image.unified.sealedCmdline !== null) {
    return { options: [], extra: [] };
  }
  const { options, extra } = firstArguments(facts.kargs, {
    id: image.id,
    verityOptional: facts.verityOptional,
    kargs: image.kargs,
  });
  const kept = deleteParameters(options, facts.kargDeletes);
  const isWanted = (each: Cmdline[number]) =>
    kept.includes(each) || hasParameter(facts.kargs, each);
  return { options: options.filter(isWanted), extra };
}

function planFirstKernel({ image, kernels, ukiAddons = [] }: InstallFacts): KernelPlan {
  const { unified } = image;
  if (unified === undefined && ukiAddons.length > 0) {
    throw new UsageError("conflict", "--uki-addon: the image has no unified kernel");
  }
  const chosen = unified && { ...unified, addons: chooseAddons(unified.addons, ukiAddons) };
  return planKernel({ ...image, ...(chosen && { unified: chosen }) }, kernels, NO_ADDONS);
}

/** Options of the installation that set kernel arguments. */
export interface ArgumentOptions {
  /** Null: not given. */
  readonly rootMountSpec: string | null;
  readonly bootMountSpec: string | null;
  readonly kargs: readonly string[];
  readonly kargDeletes: readonly string[];
}

/** StateError when options want arguments that a sealed kernel does not take from anybody. */
export function requireNoArguments(given: ArgumentOptions): void {
  const options = [
    ...(given.kargs.length > 0 ? ["--karg"] : []),
    ...(given.kargDeletes.length > 0 ? ["--karg-delete"] : []),
    // "" says that there is to be none.
    ...(given.rootMountSpec ? ["--root-mount-spec"] : []),
    ...(given.bootMountSpec ? ["--boot-mount-spec"] : []),
  ];
  if (options.length === 0) return;
  throw new StateError(
    "conflict",
    `The image has a sealed unified kernel, which takes no other arguments (given: ${options.join(", ")}): leave them out; ` +
      "the root is found by the type of its GPT partition. Arguments come from kargs.d when the image is sealed, or from an " +
      "addon beside the kernel in the image (--uki-addon)",
  );
}

/** Types of root partitions in a GPT (UAPI.2 "Discoverable Partitions Specification"), by Node's architecture. */
const ROOT_TYPES: Readonly<Record<string, string>> = {
  x64: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
  arm64: "b921b045-1df0-41c3-af44-4c6f280d3fae",
  ppc64: "c31c45e6-3f39-412e-80fb-4809c4980599",
  s390x: "5eead9a9-fe09-4a1e-a1d7-520d00531306",
  riscv64: "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
};

/**
 * How the installed system finds its root, where nothing tells it: null when something does. `partitionType`: of the
 * partition that the target is on; null when it is on none, or nobody knows.
 */
export function describeRootDiscovery(
  { kernel, cmdline, entry }: Pick<InstallPlan, "kernel" | "cmdline" | "entry">,
  partitionType: string | null,
  architecture: string,
): string | null {
  const isSealed = kernel.kind === "uki" && !/^options /m.test(entry.text);
  // Addons may have an argument for it.
  const isTold = !isSealed || kernel.addons.length > 0 || /(?:^|\s)root=/.test(cmdline);
  if (isTold) return null;
  const found = "The sealed kernel has no root=: it finds the root by its GPT partition type";
  const wanted = ROOT_TYPES[architecture];
  const isRight = partitionType === null || wanted === undefined || partitionType === wanted;
  return isRight
    ? found
    : `${found}, which is ${partitionType} here and has to be ${wanted} ("sfdisk --part-type")`;
}

export interface ArgumentSources {
  /** e.g. `UUID=…`; "" leaves finding the root to the initramfs. */
  readonly rootSpec: string;
  /** e.g. `UUID=…` of a boot partition to mount on /boot; null or "" for none. */
  readonly bootSpec: string | null;
  /** `--karg`, each may hold several. */
  readonly kargs: readonly string[];
  /** From `parseKargDeletes`: not for what `kargs` says. */
  readonly kargDeletes: Cmdline;
}

/** UsageError for a `--karg` that would fight the ones made here. */
export function rootArguments(sources: ArgumentSources): Cmdline {
  const own = sources.kargs.flatMap((text) => parseKarg("--karg", text));
  const root = sources.rootSpec === "" ? "" : `root=${sources.rootSpec} `;
  const { bootSpec } = sources;
  const boot =
    bootSpec === null || bootSpec === ""
      ? ""
      : ` boot=${bootSpec} systemd.mount-extra=${bootSpec}:/boot:auto:ro`;
  const made = parseArguments(`${root}rw${boot}`);
  return [...deleteParameters(made, sources.kargDeletes), ...own];
}

/** `--karg-delete`, each may hold several; what is not there is fine. UsageError. */
export function parseKargDeletes(texts: readonly string[]): Cmdline {
  return texts.flatMap((text) => parseKarg("--karg-delete", text));
}

/** KEY=VALUE goes exactly, KEY with every value (bootc.md 9.6). */
export function deleteParameters(cmdline: Cmdline, deletes: Cmdline): Cmdline {
  const gone = deletes.flatMap((each) =>
    each.value === null ? findParameters(cmdline, each.key) : [each],
  );
  return cmdline.filter((parameter) => !hasParameter(gone, parameter));
}

/** `option`: where `text` is from, for messages. UsageError. */
export function parseKarg(option: string, text: string): Cmdline {
  let words: Cmdline;
  try {
    words = parseArguments(text);
  } catch (error) {
    throw new UsageError("bad-value", `${option} ${describeError(error)}`);
  }
  const forbidden = words.find(({ key }) => key === "composefs" || key === "composefs.digest");
  if (forbidden === undefined) return words;
  throw new UsageError(
    "bad-value",
    `${option} ${forbidden.text}: the image's argument is made here`,
  );
}
