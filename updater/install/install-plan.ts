// What an installation will write, decided before anything is (design.md, habit 1). Pure.

import { describeError, UsageError } from "../../shared/error.ts";
import {
  addParameter,
  type Cmdline,
  formatCmdline,
  parseArguments,
} from "../../shared/format/kargs/cmdline.ts";
import type { KernelDirectory } from "../boot/kernel-directory.ts";
import type { EntryFile } from "../deploy/entry-exchange.ts";
import { formatOrigin } from "../deploy/origin.ts";
import {
  chooseKernel,
  makeImageParameter,
  makeNewEntry,
  type NewImage,
  type StagePlan,
} from "../deploy/stage-plan.ts";

export interface InstallFacts {
  readonly image: NewImage;
  /** From `rootArguments`. */
  readonly kargs: Cmdline;
  readonly kernels: readonly KernelDirectory[];
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
  const options = image.kargs.reduce(addParameter, [
    ...facts.kargs,
    makeImageParameter(image.id, facts.verityOptional),
  ]);
  const cmdline = formatCmdline(options);
  const kernel = chooseKernel(image, facts.kernels);
  return {
    id: image.id,
    kernel,
    cmdline,
    entry: makeNewEntry(image, kernel.directory, cmdline),
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
}

/** UsageError for a `--karg` that would fight the ones made here. */
export function rootArguments(sources: ArgumentSources): Cmdline {
  const own = sources.kargs.flatMap(parseKarg);
  const forbidden = own.find(({ key }) => key === "composefs" || key === "composefs.digest");
  if (forbidden !== undefined) {
    throw new UsageError(
      "bad-value",
      `--karg ${forbidden.text}: the image's argument is made here`,
    );
  }
  const root = sources.rootSpec === "" ? "" : `root=${sources.rootSpec} `;
  const { bootSpec } = sources;
  const boot =
    bootSpec === null || bootSpec === ""
      ? ""
      : ` boot=${bootSpec} systemd.mount-extra=${bootSpec}:/boot:auto:ro`;
  return [...parseArguments(`${root}rw${boot}`), ...own];
}

function parseKarg(text: string): Cmdline {
  try {
    return parseArguments(text);
  } catch (error) {
    throw new UsageError("bad-value", `--karg ${describeError(error)}`);
  }
}
