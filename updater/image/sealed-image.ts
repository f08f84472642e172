// A sealed unified kernel and the image it is in: which image does its command line name, and is it this one?
// (bootc.md 4.10 f; composefs-rs.md 4.5; docs/decisions/0020)
//
// The id may be that of either EROFS format. Every `composefs=` in the line that could name an image of this
// repository must name this one: prepare-root takes the first that it finds, and must find no other. That goes for the
// lines of the kernel's other profiles, too, which a boot entry may ask for.

import { FormatError, IntegrityError } from "../../shared/error.ts";
import { writeErofs } from "../../shared/format/erofs/writer.ts";
import { isOpenQuoted } from "../../shared/format/kargs/cmdline.ts";
import { type ComposefsKarg, parseComposefsKargs } from "../../shared/format/kargs/composefs.ts";
import { findDumpDifference } from "../../shared/format/tree/dump-difference.ts";
import { formatDump } from "../../shared/format/tree/dump-format.ts";
import type { DirectoryNode } from "../../shared/format/tree/node.ts";
import type { UnifiedKernel } from "../../shared/format/uki/reader.ts";
import { computeVerityDigest } from "../../shared/format/verity/digest.ts";
import type { ErofsVersion } from "../../shared/store/metadata.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { UnifiedKernelFiles } from "./boot-kernel.ts";
import { openFileContent } from "./file-content.ts";
import { parseOsRelease } from "./os-release.ts";
import { openUkiFile, requireOwnArchitecture } from "./uki-file.ts";

/** What the command line in a unified kernel says. */
export interface Seal {
  readonly cmdline: string;
  /** The image that starts, in the format that has this id. */
  readonly id: string;
  readonly version: ErofsVersion;
  /** It tolerates files without fs-verity. */
  readonly verityOptional: boolean;
}

export interface SealedLines {
  /** Null: it takes the arguments of its boot entry. */
  readonly cmdline: string | null;
  /** Of its profiles but the first. */
  readonly otherCmdlines: readonly string[];
}

export interface UnifiedKernelText extends SealedLines {
  /** Of the image it was made of; null when it does not say. */
  readonly osRelease: ReadonlyMap<string, string> | null;
}

/** FormatError when the file is no unified kernel, or another machine's, or has no kernel in it. */
export function readUnifiedKernel(repo: Repository, kernel: UnifiedKernelFiles): UnifiedKernelText {
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  requireOwnArchitecture(uki, kernel.path);
  if (!uki.sections.some(({ name }) => name === ".linux")) {
    throw new FormatError("bad-value", `"${kernel.path}" of the image has no kernel in it`);
  }
  const osRelease = uki.readText(".osrel");
  return {
    ...readSealedLines(uki, kernel.path),
    osRelease: osRelease === null ? null : parseOsRelease(osRelease),
  };
}

/**
 * FormatError for a line of which systemd-stub would take a part only, and for one that would go on in the next addon's,
 * which then says other things than when it was looked at alone. `path`: for messages.
 */
export function readSealedLines(uki: UnifiedKernel, path: string): SealedLines {
  const lines = {
    cmdline: readSealedCmdline(uki),
    otherCmdlines: uki.readOtherTexts(".cmdline"),
  };
  const all = [lines.cmdline ?? "", ...lines.otherCmdlines];
  const wrong = all.some((line) => line.includes("\0"))
    ? "has a zero byte inside, where it would end"
    : all.some(isOpenQuoted)
      ? "has a quote that is not closed, which would take in the arguments of addons"
      : null;
  if (wrong === null) return lines;
  throw new FormatError(
    "bad-value",
    `The command line in "${path}" ${wrong}: build the kernel again`,
  );
}

/** A section of nothing but white space counts: systemd-stub takes nothing else then. */
function readSealedCmdline(uki: UnifiedKernel): string | null {
  const section = uki.sections.find(({ name }) => name === ".cmdline");
  return section === undefined || section.sizeBytes === 0 ? null : uki.readText(".cmdline");
}

/** What is known of the image when its seal is looked at. */
export interface SealedTree {
  /** As it boots, after `transformForBoot`. */
  readonly tree: DirectoryNode;
  /** Its images that were made already. */
  readonly ids: ReadonlyMap<ErofsVersion, string>;
}

/**
 * The image that this kernel starts; null when it says nothing of it by default. IntegrityError("digest-mismatch") when it
 * is, or could be, another one, with the first difference where the image has the listing that was written when it was
 * sealed.
 */
export function requireSeal(
  repo: Repository,
  kernel: UnifiedKernelFiles,
  { cmdline, otherCmdlines }: SealedLines,
  image: SealedTree,
): Seal | null {
  const kargs = cmdline === null ? [] : requireKargs(kernel.path, cmdline);
  const others = otherCmdlines.flatMap((line) => parseKargs(kernel.path, line));
  if (kargs.length + others.length === 0) return null;
  const ids = completeIds(repo, image);
  const find = (karg: ComposefsKarg) => [...ids].find(([, id]) => id === karg.digest)?.[0];
  const isUsable = ({ algorithm }: ComposefsKarg) => algorithm === repo.algorithm;
  const first = kargs.find(isUsable);
  const version = first === undefined ? undefined : find(first);
  const strange = [...kargs, ...others].find((karg) => isUsable(karg) && find(karg) === undefined);
  const wrong = strange ?? (first === undefined ? kargs[0] : undefined);
  if (wrong !== undefined) throw describeMismatch(repo, kernel, wrong, { ...image, ids });
  if (first === undefined || version === undefined || cmdline === null) return null;
  return { cmdline, id: first.digest, version, verityOptional: first.optional };
}

/** FormatError when what the line says is malformed. */
function parseKargs(path: string, cmdline: string): readonly ComposefsKarg[] {
  try {
    return parseComposefsKargs(cmdline);
  } catch (cause) {
    throw new FormatError("bad-value", `The command line in "${path}" is wrong`, {}, { cause });
  }
}

/** FormatError also when the line names no image. */
function requireKargs(path: string, cmdline: string): readonly ComposefsKarg[] {
  const kargs = parseKargs(path, cmdline);
  if (kargs.length > 0) return kargs;
  throw new FormatError(
    "bad-value",
    `The command line in "${path}" names no image: build it with "bootc container ukify", which adds composefs=, ` +
      "or without a command line, so that the boot entry has it",
  );
}

/** Of the formats that a command line may mean (composefs-rs.md 5.1), the repository's own first. */
function completeIds(repo: Repository, { tree, ids }: SealedTree): SealedTree["ids"] {
  const versions = [...new Set<ErofsVersion>([repo.erofsVersion, 1, 2])];
  return new Map(
    versions.map((version) => {
      const known = ids.get(version);
      if (known !== undefined) return [version, known];
      const image = writeErofs(tree, { version, dialect: "rust" }, repo.algorithm);
      return [version, computeVerityDigest(image, repo.algorithm)];
    }),
  );
}

function describeMismatch(
  repo: Repository,
  kernel: UnifiedKernelFiles,
  karg: ComposefsKarg,
  image: SealedTree,
): IntegrityError {
  const own = [...image.ids].map(([version, id]) => `${id} (V${version})`);
  return new IntegrityError(
    "digest-mismatch",
    `The image is not the one that "${kernel.path}" was sealed for: its command line has ${karg.key} ${karg.digest}, ` +
      `the image is ${own.join(" or ")}; ${describeDifference(repo, kernel, image.tree)}`,
    { expected: karg.digest, found: image.ids.get(repo.erofsVersion) },
  );
}

function describeDifference(
  repo: Repository,
  { path, dump }: UnifiedKernelFiles,
  tree: DirectoryNode,
): string {
  if (!path.startsWith("/boot/")) {
    return "a sealed kernel must be in /boot/EFI/Linux, since its digest is over all that is not in /boot";
  }
  if (dump === null) {
    return `to see where they differ, seal it with "bootc container ukify --write-dumpfile-to ${path}.dump" and keep that file in the image`;
  }
  try {
    const before = openFileContent(repo, dump.file);
    const difference = findDumpDifference(before, formatDump(tree, { dialect: "rust" }));
    if (difference === null) {
      return `"${dump.name}" lists the very same tree, so the digest was made with another tool or for another image; seal it again`;
    }
    const show = (line: string | null) => (line === null ? "not there" : `"${line}"`);
    return (
      `the first difference is "${difference.path}": sealed ${show(difference.before)}, ` +
      `here ${show(difference.after)}; seal the image after its last change`
    );
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof IntegrityError)) throw error;
    return `"${dump.name}", which would show where they differ, cannot be read: ${error.message}`;
  }
}
