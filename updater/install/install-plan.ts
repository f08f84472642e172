// What an installation will write, decided before anything is (design.md, habit 1). Pure.

import { describeError, UsageError } from "../../shared/error.ts";
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
import { makeFirstEntry } from "../deploy/menu-plan.ts";
import { formatOrigin } from "../deploy/origin.ts";
import { chooseKernel, type NewImage, type StagePlan } from "../deploy/stage-plan.ts";

export interface InstallFacts {
  readonly image: NewImage;
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
  readonly kernel: StagePlan["kernel"];
  readonly cmdline: string;
  readonly entry: EntryFile;
  readonly origin: string;
}

/** Order of arguments: where the root is, the caller's, the image, what the image wants (bootc.md 9.7). */
export function planInstall(facts: InstallFacts): InstallPlan {
  const { image } = facts;
  const { options, extra } = firstArguments(facts.kargs, {
    id: image.id,
    verityOptional: facts.verityOptional,
    kargs: image.kargs,
  });
  const kept = deleteParameters(options, facts.kargDeletes);
  const cmdline = formatCmdline(
    options.filter((each) => kept.includes(each) || hasParameter(facts.kargs, each)),
  );
  const kernel = chooseKernel(image, facts.kernels);
  return {
    id: image.id,
    kernel,
    cmdline,
    entry: makeFirstEntry(
      { kind: "new", image, kernelDirectory: kernel.directory, options: cmdline, extra },
      facts.layout,
    ),
    origin: formatOrigin({
      imageReference: image.originReference,
      bootType: "bls",
      bootDigest: image.bootDigest,
      manifestDigest: image.manifestDigest,
    }),
  };
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
function deleteParameters(cmdline: Cmdline, deletes: Cmdline): Cmdline {
  const gone = deletes.flatMap((each) =>
    each.value === null ? findParameters(cmdline, each.key) : [each],
  );
  return cmdline.filter((parameter) => !hasParameter(gone, parameter));
}

function parseKarg(option: string, text: string): Cmdline {
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
