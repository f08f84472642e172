// What sealing an image comes to, found out before anything is made: its kernel, what disappears from the tree, the
// digest of the rest, and the command line with it.

import { type Cmdline, formatCmdline, parseArguments } from "../../shared/format/kargs/cmdline.ts";
import { missingTrialKargs } from "../../shared/format/kargs/trial.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { readKargs } from "../image/boot-image.ts";
import { type FileReader, readFileContent } from "../image/file-content.ts";
import { applyEntry } from "../image/layer-tree.ts";
import { transformForBoot, transformForOci } from "../image/transform.ts";
import { readImageTree } from "../image/tree.ts";
import { computeBootId } from "./rootfs-tree.ts";
import { formatSealedCmdline } from "./rootfs-uki.ts";
import { chooseSealKernel, type SealKernel } from "./seal-kernel.ts";
import { listHidden, makeMembers } from "./seal-layer.ts";

/** Configuration read from images. */
const MAX_CONFIG_BYTES = 16 << 20;

export type SealMode = "sealed" | "signed";

export interface SealChoices {
  readonly mode: SealMode;
  readonly reseal: boolean;
  readonly allowMissingVerity: boolean;
  /** Added to the image's own. */
  readonly kargs: readonly string[];
}

export interface SealPlan {
  readonly mode: SealMode;
  readonly kernel: SealKernel;
  /** Paths that disappear. */
  readonly hidden: readonly string[];
  /** Id of the deployment. */
  readonly digest: string;
  /** Null: the kernel takes the arguments of its boot entry. */
  readonly cmdline: string | null;
  /** As the layers have it. */
  readonly tree: DirectoryNode;
  /** As it boots, without the kernel. */
  readonly bootTree: DirectoryNode;
}

/** StateError when the image is sealed already, FormatError when it cannot be sealed. */
export async function planSeal(
  repo: Repository,
  diffIds: readonly string[],
  choices: SealChoices,
): Promise<SealPlan> {
  const tree = await readImageTree(repo, diffIds);
  const kernel = chooseSealKernel(tree, choices);
  const hidden = listHidden(tree, kernel);
  const bootTree = await readImageTree(repo, diffIds);
  for (const { entry } of makeMembers(tree, { hidden, files: [] })) {
    applyEntry(bootTree, entry, { kind: "inline", bytes: new Uint8Array(0) });
  }
  const readFile: FileReader = (file) => readFileContent(repo, file, MAX_CONFIG_BYTES);
  transformForOci(bootTree);
  transformForBoot(bootTree, readFile);
  const digest = computeBootId(bootTree);
  const { mode } = choices;
  const cmdline =
    mode === "signed" ? null : makeSealedCmdline(readKargs(tree, readFile), digest, choices);
  return { mode, kernel, hidden, digest, cmdline, tree, bootTree };
}

/** Nothing can be added on the machine, so what boot assessment wants (docs/boot-assessment.md) is in it. */
function makeSealedCmdline(
  image: Cmdline,
  digest: string,
  { allowMissingVerity, kargs }: SealChoices,
): string {
  const trial = missingTrialKargs([...image, ...kargs.flatMap(parseArguments)]);
  return formatSealedCmdline({
    image: formatCmdline(image),
    digest,
    verityOptional: allowMissingVerity,
    more: [...kargs, formatCmdline(trial)],
  });
}
