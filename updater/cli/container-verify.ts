// `bootc container verify`: checks an image before it ships. Exit code 1 when there are findings.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { describeKey } from "../../shared/format/trust/key.ts";
import { openScratchRepository } from "../container/scratch-repository.ts";
import { requireVerifier } from "../container/secure-boot.ts";
import { readCertificate } from "../container/secure-boot-key.ts";
import { readPublicKeys } from "../container/signing-key.ts";
import { type VerifyReport, verifyImage } from "../container/verify.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import { pullResolvedImage } from "../image/pull.ts";
import { parseTransportReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { readStatements } from "../image/statement-source.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { showOneLine } from "../output/visible-text.ts";
import { collectText } from "./container-text.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

const LABEL_WIDTH = "Secure Boot:".length;

export function makeVerifyCommand(terminal: Terminal) {
  return new Command("verify")
    .description("Check that an image is sealed or signed as it should be, before it ships")
    .argument("<image>", 'e.g. "oci:/path:tag" or "docker://registry.example.com/os"')
    .addOption(
      new Option("--certificate <file>", "of Secure Boot, PEM or DER; again for more")
        .argParser(collectText)
        .default([] as readonly string[], "none"),
    )
    .addOption(
      new Option("--key <file>", "public Ed25519 key; one of these must have signed it")
        .argParser(collectText)
        .default([] as readonly string[], "those that the image brings"),
    )
    .addOption(
      new Option("--format <format>", "output format")
        .choices(["human", "json"] as const)
        .default("human" as const),
    )
    .action(async (image, { certificate, key, format }) => {
      if (certificate.length > 0) requireVerifier();
      const keys = key.flatMap(readPublicKeys);
      const reference = parseTransportReference(image);
      using interruption = watchInterruption();
      const { signal } = interruption;
      await using source = openSource(reference);
      using scratch = openScratchRepository();
      const certificates = prepareCertificates(terminal, certificate, scratch.directory);
      const { resolved } = await resolveAdmitted(source, reference);
      const pulled = await pullResolvedImage(scratch.repo, source, resolved, { signal });
      const documents: Uint8Array[] = [];
      for await (const { document } of readStatements(source, resolved)) documents.push(document);
      const { directory } = scratch;
      const request = { certificates, keys, now: new Date(), directory };
      const report = await verifyImage(scratch.repo, pulled, documents, request);
      if (format === "json") terminal.line(formatCanonicalJson(report));
      else printReport(terminal, report);
      requireNoFindings(report, image);
    });
}

/** StateError when there are any. */
function requireNoFindings({ findings }: VerifyReport, image: string): void {
  if (findings.length === 0) return;
  const count = findings.length === 1 ? "1 finding" : `${findings.length} findings`;
  throw new StateError("conflict", `"${image}" must not ship: ${count}`);
}

/** Files in PEM, which is all that sbverify reads. */
export function prepareCertificates(
  terminal: Terminal,
  paths: readonly string[],
  directory: string,
): readonly string[] {
  return paths.map((path, index) => {
    const pem = join(directory, `certificate-${index}.pem`);
    const certificate = readCertificate(path);
    for (const warning of certificate.warnings) terminal.note(`Warning: ${warning}`);
    writeFileSync(pem, certificate.pem);
    return pem;
  });
}

export function printReport(terminal: Terminal, report: VerifyReport): void {
  const row = (label: string, value: string) =>
    terminal.line(`${`${label}:`.padStart(LABEL_WIDTH)} ${showOneLine(value)}`);
  const { id, kernel, statement } = report;
  row("Mode", report.mode);
  row("Deployment", id ?? "unknown");
  if (kernel !== null) row("Kernel", `${kernel.version} (${kernel.unified ? "UKI" : "vmlinuz"})`);
  row("fs-verity", report.verity);
  for (const { path, signature } of report.programs) row("Secure Boot", `${path}: ${signature}`);
  if (statement !== null) {
    const until = statement.expires === null ? "" : `, expires ${statement.expires}`;
    row("Signed", `version ${statement.version}${until}, by ${describeKey(statement.key)}`);
  }
  for (const warning of report.warnings) terminal.line(`Warning: ${showOneLine(warning)}`);
  for (const finding of report.findings) terminal.line(`Finding: ${showOneLine(finding)}`);
}
