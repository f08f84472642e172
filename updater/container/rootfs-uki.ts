// `bootc container ukify` (bootc.md 10.4): the command line of ukify for an unpacked image, with the image's
// digest in the kernel's command line.

import { existsSync } from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { FormatError, StateError, UsageError } from "../../shared/error.ts";
import { formatCmdline, parseArguments } from "../../shared/format/kargs/cmdline.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import { readRootfsKargs } from "./rootfs-kargs.ts";
import { findRootfsKernel, requirePlainKernel } from "./rootfs-kernel.ts";
import { computeBootId, readRootfsTree } from "./rootfs-tree.ts";
import { checkRelease, ukifyArguments } from "./ukify.ts";

const OS_RELEASE = "usr/lib/os-release";

export interface RootfsUkiRequest {
  readonly rootfs: string;
  /** Null: that of the image itself. */
  readonly kernelDirectory: string | null;
  readonly allowMissingVerity: boolean;
  readonly kargs: readonly string[];
  /** For ukify. */
  readonly more: readonly string[];
}

export interface RootfsUki {
  readonly digest: string;
  readonly cmdline: string;
  readonly args: readonly string[];
  readonly tree: DirectoryNode;
}

/** StateError when there is no kernel to be used, or a unified one already. */
export function planRootfsUki(request: RootfsUkiRequest): RootfsUki {
  const { rootfs, more } = request;
  const kernel = chooseKernel(request);
  const tree = readRootfsTree(rootfs, { algorithm: "sha512", bootable: true });
  const digest = computeBootId(tree);
  const cmdline = formatSealedCmdline({
    image: formatCmdline(readRootfsKargs(rootfs)),
    digest,
    verityOptional: request.allowMissingVerity,
    more: request.kargs,
  });
  const args = ukifyArguments({
    linux: join(kernel.path, "vmlinuz"),
    initrds: [join(kernel.path, "initramfs.img")],
    release: checkRelease(kernel.version),
    cmdline: requireText(cmdline),
    osRelease: OS_RELEASE,
    more,
  });
  return { digest, cmdline, args, tree };
}

/** What of a root is not part of its digest. */
const UNMEASURED = ["boot", "run", "sysroot"];

/**
 * UsageError when ukify would write into what was measured before, which then is another image: with a name there, or
 * without any. `more` is for ukify, which runs in the root.
 */
export function requireOutput(rootfs: string, more: readonly string[]): void {
  const output = findOption(more, ["--output", "-o"]);
  if (output === null) {
    // Its configuration may have it.
    if (findOption(more, ["--config", "-c"]) !== null) return;
    throw new UsageError(
      "missing",
      'Where does the kernel go? Add "-- --output FILE": without it ukify would write into the root that is measured',
    );
  }
  requireOutside(rootfs, `--output ${output}`, resolve(rootfs, output));
}

/** UsageError when the dump would be written into what it lists; `path` as seen from the working directory. */
export function requireDumpOutside(rootfs: string, path: string): void {
  requireOutside(rootfs, `--write-dumpfile-to ${path}`, resolve(path));
}

function requireOutside(rootfs: string, option: string, path: string): void {
  const [first = ""] = relative(rootfs, path).split("/");
  if (first === ".." || UNMEASURED.includes(first)) return;
  throw new UsageError(
    "bad-value",
    `"${option}" is in the root that is measured, and would change its digest: give a full path elsewhere, or one below "boot/"`,
  );
}

/** Null when it is not given; "" when its value is missing, which ukify complains of. */
function findOption(words: readonly string[], names: readonly string[]): string | null {
  for (const [index, word] of words.entries()) {
    const name = names.find((each) => word === each || word.startsWith(`${each}=`));
    if (name === undefined) continue;
    return word === name ? (words[index + 1] ?? "") : word.slice(name.length + 1);
  }
  return null;
}

/**
 * The image's own arguments, its digest, then what was asked for. FormatError for an unclosed quote, and for what says
 * which image starts: that is the digest's business.
 */
export function formatSealedCmdline(parts: {
  readonly image: string;
  readonly digest: string;
  readonly verityOptional: boolean;
  readonly more: readonly string[];
}): string {
  const seal = `composefs=${parts.verityOptional ? "?" : ""}${parts.digest}`;
  for (const { key, text } of [parts.image, ...parts.more].flatMap(parseArguments)) {
    if (!["composefs", "composefs.digest", "ostree"].includes(key)) continue;
    throw new FormatError(
      "bad-value",
      `The kernel argument "${text}" says which image starts, and sealing adds that itself: leave it out`,
    );
  }
  return [parts.image, seal, ...parts.more].filter((text) => text !== "").join(" ");
}

/** FormatError for what ukify would take for the name of a file. */
function requireText(cmdline: string): string {
  if (!cmdline.startsWith("@")) return cmdline;
  throw new FormatError(
    "bad-value",
    `The first kernel argument of the image begins with "@": "${cmdline.split(" ")[0]}"`,
  );
}

function chooseKernel({ rootfs, kernelDirectory }: RootfsUkiRequest) {
  if (kernelDirectory === null) return requirePlainKernel(rootfs);
  const existing = findRootfsKernel(rootfs);
  if (existing?.isUnified === true) {
    throw new StateError(
      "conflict",
      `"${rootfs}" has a unified kernel already, "${existing.path}"; remove it to make another`,
    );
  }
  for (const name of ["vmlinuz", "initramfs.img"]) {
    const path = join(kernelDirectory, name);
    if (existsSync(path)) continue;
    throw new StateError(
      "missing",
      `There is no "${path}"; --kernel-dir is the directory that "bootc container split-kernel-and-rootfs" made`,
    );
  }
  return { version: basename(kernelDirectory), path: kernelDirectory };
}
