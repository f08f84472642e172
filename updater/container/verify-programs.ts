// The EFI programs of an image as the firmware sees them: is each signed, and by whom (sbverify).

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { isSignedProgram } from "../../shared/format/uki/signature.ts";
import { writeChunksAtomic } from "../../shared/txn/atomic.ts";
import { openFileContent } from "../image/file-content.ts";
import { openProgramFile } from "../image/uki-file.ts";
import { GLOBAL_ADDONS } from "./seal-layer.ts";
import { isSignedBy } from "./secure-boot.ts";
import { type Notes, note, type VerifiedImage, type VerifyRequest } from "./verify-notes.ts";

export interface CheckedProgram {
  /** Absolute, in the image. */
  readonly path: string;
  /** "unchecked": it is signed, but there is no certificate to check it with. */
  readonly signature: "good" | "bad" | "unchecked" | "none";
}

/** Of a unified kernel and what belongs to it; a plain one is the boot partition's business. */
export function checkPrograms(
  { repo, kernel }: VerifiedImage,
  { certificates, directory }: VerifyRequest,
  notes: Notes,
): readonly CheckedProgram[] {
  if (kernel?.kind !== "uki") {
    if (certificates.length > 0 && kernel !== null) {
      notes.findings.push("The image has no unified kernel, so Secure Boot protects none of it");
    }
    return [];
  }
  const place = join(directory, "programs");
  mkdirSync(place, { recursive: true });
  const files = [
    { path: kernel.path, file: kernel.file },
    ...kernel.addons.map(({ name, file }) => ({ path: `${kernel.path}.extra.d/${name}`, file })),
    ...kernel.globalAddons.map(({ name, file }) => ({ path: `/${GLOBAL_ADDONS}/${name}`, file })),
  ];
  return files.flatMap(({ path, file }, index): CheckedProgram[] => {
    const copy = join(place, `${index}.efi`);
    const checked = note(notes, () => {
      using program = openProgramFile(repo, file, path);
      if (!isSignedProgram(program)) return { path, signature: "none" as const };
      if (certificates.length === 0) return { path, signature: "unchecked" as const };
      writeChunksAtomic(null, copy, openFileContent(repo, file), { mode: 0o600, sync: false });
      return { path, signature: isSignedBy(copy, certificates) ? "good" : "bad" } as const;
    });
    if (checked !== null) noteProgram(checked, certificates.length > 0, notes);
    return checked === null ? [] : [checked];
  });
}

/** `isAsked`: there are certificates, so a program that nobody signed is as bad as one by somebody else. */
function noteProgram(
  { path, signature }: CheckedProgram,
  isAsked: boolean,
  { findings, warnings }: Notes,
): void {
  switch (signature) {
    case "good":
      return;
    case "bad":
      findings.push(`"${path}" is not signed for Secure Boot by any of the certificates`);
      return;
    case "unchecked":
      warnings.push(
        `Who signed "${path}" was not checked; give the certificate with "--certificate"`,
      );
      return;
    case "none":
      (isAsked ? findings : warnings).push(
        `"${path}" is not signed: firmware with Secure Boot refuses it, and without it whoever can write to the boot partition can exchange it`,
      );
  }
}
