// Would this machine's firmware refuse the unified kernel of an image? Asked when it is staged where Secure Boot is on
// (decision 0022), and refused only where that is certain.

import { describeError, FormatError, PolicyError } from "../../shared/error.ts";
import { parseSignatureCertificates } from "../../shared/format/uki/certificates.ts";
import { readSignatureTable } from "../../shared/format/uki/signature.ts";
import type { Repository } from "../../shared/store/repository.ts";
import type { System } from "../boot/system.ts";
import type { BootImage } from "../image/boot-image.ts";
import { openProgramFile } from "../image/uki-file.ts";
import { readFirmwareKeys } from "../trust/firmware-keys.ts";
import { judgeProgram, type ProgramSignature } from "../trust/program-verdict.ts";
import { readSecureBoot } from "../trust/secure-boot.ts";

/** Null for an image whose kernel is no unified one. */
export function readProgramSignature(
  repo: Repository,
  kernel: BootImage["kernel"],
): ProgramSignature | null {
  if (kernel.kind !== "uki") return null;
  const { file, path } = kernel;
  using program = openProgramFile(repo, file, path);
  try {
    const table = readSignatureTable(program);
    const certificates = table.length === 0 ? null : parseSignatureCertificates(table);
    return { path, certificates, problem: null };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return { path, certificates: null, problem: describeError(error) };
  }
}

/** What is to be told, one sentence each. PolicyError when the firmware is certain to refuse it. */
export function admitProgram(
  system: System,
  program: ProgramSignature,
  allowWeaker: boolean,
): readonly string[] {
  if (readSecureBoot(system) !== "enabled") return [];
  const verdict = judgeProgram(program, readFirmwareKeys(system));
  if (verdict.kind === "fine") return [];
  if (verdict.kind === "unclear" || allowWeaker) {
    return [`Secure Boot may refuse the image: ${verdict.reason}`];
  }
  throw new PolicyError(
    "rejected",
    `Secure Boot of this machine would refuse the image: ${verdict.reason}; have it signed by a key that the firmware knows ` +
      `("bootc container seal"), or enrol the key; "--allow-weaker-trust" takes it all the same`,
  );
}
