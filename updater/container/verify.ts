// `bootc container verify`: what a machine, its firmware and its initramfs would say of an image, before it ships.
//
// Findings are what would keep it from being staged or from starting, or what it claims and is not; warnings are what
// makes it weaker than it could be, or what could not be looked at. Nothing is judged here that is not judged by the
// code that does it on the machine, but for the firmware's part, which is sbverify's.

import { FormatError } from "../../shared/error.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { type BootKernel, findBootKernel } from "../image/boot-kernel.ts";
import { type FileReader, readFileContent } from "../image/file-content.ts";
import type { ResolvedImage } from "../image/resolved-image.ts";
import { readSealedLines, requireSeal } from "../image/sealed-image.ts";
import { transformForBoot, transformForOci } from "../image/transform.ts";
import { readImageTree } from "../image/tree.ts";
import { openUkiFile, requireOwnArchitecture } from "../image/uki-file.ts";
import {
  type ImageTrust,
  readImageTrust,
  readUkiTrust,
  type TrustForm,
} from "../trust/image-trust.ts";
import { computeBootId } from "./rootfs-tree.ts";
import { checkInitramfs } from "./verify-initramfs.ts";
import { checkKernel } from "./verify-kernel.ts";
import {
  type Notes,
  note,
  type UkiFacts,
  type VerifiedImage,
  type VerifyRequest,
} from "./verify-notes.ts";
import { type CheckedProgram, checkPrograms } from "./verify-programs.ts";
import { type CheckedStatement, checkStatements } from "./verify-statement.ts";

const MAX_CONFIG_BYTES = 16 << 20;

export interface VerifyReport {
  readonly mode: TrustForm;
  /** Id of the deployment; null when it cannot be computed. */
  readonly id: string | null;
  readonly kernel: { readonly version: string; readonly unified: boolean } | null;
  /** In the kernel itself. */
  readonly cmdline: string | null;
  /** Whether files without fs-verity start. */
  readonly verity: "required" | "optional";
  readonly programs: readonly CheckedProgram[];
  readonly statement: CheckedStatement | null;
  readonly findings: readonly string[];
  readonly warnings: readonly string[];
}

/** `image` has been pulled into `repo`. Errors only when it cannot be read at all. */
export async function verifyImage(
  repo: Repository,
  image: ResolvedImage,
  documents: readonly Uint8Array[],
  request: VerifyRequest,
): Promise<VerifyReport> {
  const notes: Notes = { findings: [], warnings: [] };
  const readFile: FileReader = (file) => readFileContent(repo, file, MAX_CONFIG_BYTES);
  const tree = await readImageTree(repo, image.config.rootfs.diff_ids);
  const kernel = note(notes, () => findBootKernel(tree));
  const uki = note(notes, () => readUki(repo, kernel));
  const trust = note(notes, () => readImageTrust(tree, readFile, uki)) ?? NO_TRUST;
  const verified = { repo, kernel, uki, trust, tree, readFile };
  checkKernel(verified, notes);
  const programs = checkPrograms(verified, request, notes);
  await checkInitramfs(verified, notes);
  const id = note(notes, () => computeId(verified));
  const optional = note(notes, () => checkSeal(verified, id)) ?? false;
  const statement =
    id === null ? null : checkStatements(verified, { id, documents, ...request }, notes);
  const isOptional = optional || (trust.form !== "sealed" && trust.anchors.allowMissingVerity);
  warnAboutStrength(verified, isOptional, notes);
  return {
    mode: trust.form,
    id,
    kernel: kernel && { version: kernel.version, unified: kernel.kind === "uki" },
    cmdline: uki?.cmdline ?? null,
    verity: isOptional || trust.form === "unlocked" ? "optional" : "required",
    programs,
    statement,
    ...notes,
  };
}

const NO_TRUST: ImageTrust = {
  form: "unlocked",
  unified: false,
  hasLastingKeys: false,
  anchors: {
    keys: [],
    signed: false,
    revokedDigests: new Set(),
    revokedKeys: new Set(),
    counter: "none",
    expired: "refuse",
    allowMissingVerity: false,
  },
};

function readUki(repo: Repository, kernel: BootKernel | null): UkiFacts | null {
  if (kernel?.kind !== "uki") return null;
  using uki = openUkiFile(repo, kernel.file, kernel.path);
  requireOwnArchitecture(uki, kernel.path);
  for (const name of [".linux", ".initrd"]) {
    if (uki.sections.some((section) => section.name === name)) continue;
    throw new FormatError("not-found", `"${kernel.path}" has no section "${name}"`);
  }
  const lines = readSealedLines(uki, kernel.path);
  return { ...readUkiTrust(uki), ...lines, release: uki.readText(".uname") };
}

/** Changes the tree into the one that boots. */
function computeId({ tree, readFile }: VerifiedImage): string {
  transformForOci(tree);
  transformForBoot(tree, readFile);
  return computeBootId(tree);
}

/** Whether the command line tolerates files without fs-verity; null when there is none. */
function checkSeal({ repo, kernel, uki, tree }: VerifiedImage, id: string | null): boolean | null {
  if (kernel?.kind !== "uki" || uki === null || id === null) return null;
  const ids = new Map([[repo.erofsVersion, id]]);
  return requireSeal(repo, kernel, uki, { tree, ids })?.verityOptional ?? null;
}

function warnAboutStrength({ trust }: VerifiedImage, isOptional: boolean, notes: Notes): void {
  if (trust.form === "unlocked") {
    notes.warnings.push(
      'Nothing proves what starts: the image is neither sealed nor signed; see "bootc container seal"',
    );
  } else if (isOptional) {
    notes.warnings.push(
      "Files without fs-verity start as well, so whoever can write to the disk can change them: only for file systems that have no fs-verity",
    );
  }
}
