// `bootc container seal SOURCE DEST`: an image becomes one that starts only as it is (docs/sealing.md).

import { join, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Command, Option } from "@commander-js/extra-typings";
import { UsageError } from "../../shared/error.ts";
import { LayoutWriter } from "../container/layout-writer.ts";
import { openScratchRepository } from "../container/scratch-repository.ts";
import {
  fetchForSeal,
  makeSealedImage,
  type SealPlace,
  type SealRequest,
} from "../container/seal.ts";
import { completeSeal } from "../container/seal-completion.ts";
import { checkSealed, nameSealed } from "../container/seal-outcome.ts";
import { planSeal, type SealPlan } from "../container/seal-plan.ts";
import { openSigningKey } from "../container/signing-key.ts";
import type { VerifyReport } from "../container/verify.ts";
import { splitPathReference } from "../image/path-reference.ts";
import { resolveAdmitted } from "../image/policy/admission.ts";
import { type ImageReference, parseTransportReference } from "../image/reference.ts";
import type { ImageSource, ResolvedImage } from "../image/resolved-image.ts";
import { openSource } from "../image/source.ts";
import {
  chooseSealSigner,
  chooseStatement,
  requireOnlyCompletion,
  type SealOptions,
  type SealSigner,
} from "./container-seal-options.ts";
import { giveOut, openSigner, requireSealSigner } from "./container-seal-signer.ts";
import { collectText, parseStatementTime, parseStatementVersion } from "./container-text.ts";
import { prepareCertificates, printReport } from "./container-verify.ts";
import { watchInterruption } from "./interruption.ts";
import { formatPlan } from "./plan-text.ts";
import type { Terminal } from "./terminal.ts";

const NOTHING: readonly string[] = [];

export function makeSealCommand(terminal: Terminal) {
  const several = <const Flags extends string>(flags: Flags, description: string) =>
    new Option(flags, `${description}; again for more`)
      .argParser(collectText)
      .default(NOTHING, "none");
  return new Command("seal")
    .description("Make an image one that starts only as it is, with a unified kernel of its own")
    .argument("<source>", 'any image, e.g. "containers-storage:localhost/os"')
    .argument("<destination>", '"oci:DIRECTORY[:TAG]"')
    .addOption(
      new Option(
        "--mode <mode>",
        "what proves the image: the kernel's own command line, or a signed statement",
      )
        .choices(["sealed", "signed"] as const)
        .default("sealed" as const),
    )
    .option("--secureboot-key <file>", "that signs for Secure Boot, PEM")
    .option("--secureboot-certificate <file>", "of that key, PEM or DER")
    .option("--ephemeral", "make a key for Secure Boot that is forgotten at once")
    .option("--certificate-out <file>", "with --ephemeral: where its certificate goes, PEM")
    .option("--unsigned", "leave the programs unsigned, to be signed elsewhere")
    .option("--unsigned-uki-out <file>", "as --unsigned, and give the kernel out for that")
    .addOption(several("--signed-uki <file>", "what came back; SOURCE is what --unsigned made"))
    .addOption(
      several("--key <key>", 'Ed25519 key for the statement: a file in PEM, or "pkcs11:…"'),
    )
    .option("--version <number>", "of the statement; grows with every image", parseStatementVersion)
    .option(
      "--expires <time>",
      "from when on the image does not start any more (UTC)",
      parseStatementTime,
    )
    .addOption(several("--addon <file>", "NAME.addon.efi for this kernel"))
    .option(
      "--shared-runtime",
      "put the program that mounts the root into one addon for all kernels",
    )
    .option("--reseal", "also an image that is sealed already, which was changed since")
    .addOption(several("--karg <arguments>", "kernel arguments beside the image's own"))
    .option("--allow-missing-verity", "for file systems without fs-verity; much weaker")
    .option("--dry-run", "fetch, but only print what would be done, as JSON")
    .action((source, destination, options) => seal(terminal, source, destination, options));
}

async function seal(
  terminal: Terminal,
  sourceName: string,
  destinationName: string,
  options: SealOptions,
): Promise<void> {
  const signer = chooseSealSigner(options);
  const destination = parseDestination(destinationName);
  const isDry = options.dryRun === true;
  if (!isDry) requireSealSigner(signer);
  const reference = parseTransportReference(sourceName);
  using interruption = watchInterruption();
  await using source = openSource(reference);
  using scratch = openScratchRepository();
  const { repo, directory } = scratch;
  using layout = new LayoutWriter(isDry ? join(directory, "layout") : destination.path);
  const place = { repo, directory, layout, signal: interruption.signal };
  const work = { terminal, place, source, reference, options };
  const making = signer.kind === "signed" ? complete(work, signer) : makeSeal(work, signer);
  const made = await making.catch((error) => explainFailure(error, interruption.signal));
  if (made === null) return;
  nameSealed(place, made.image, destination.tag);
  printReport(terminal, made.report);
  terminal.line(`Image ${made.image.manifestDigest} is in "${destinationName}"`);
}

/** Ctrl-C ends the programs that run here as well: then their failure is not the reason. */
async function explainFailure(error: unknown, signal: AbortSignal): Promise<never> {
  // While they ran no signal could be looked at.
  await setImmediate();
  throw signal.aborted ? signal.reason : error;
}

interface Work {
  readonly terminal: Terminal;
  readonly place: SealPlace;
  readonly source: ImageSource;
  readonly reference: ImageReference;
  readonly options: SealOptions;
}

interface Made {
  readonly image: ResolvedImage;
  readonly report: VerifyReport;
}

/** UsageError unless it is an OCI directory. */
function parseDestination(name: string): { readonly path: string; readonly tag: string | null } {
  const { transport, image } = parseTransportReference(name);
  const { path, choice } = splitPathReference(image);
  if (transport !== "oci" || choice?.kind === "index") {
    throw new UsageError("bad-value", `"${name}" is not of the form "oci:DIRECTORY[:TAG]"`);
  }
  return { path: resolve(path), tag: choice?.name ?? null };
}

async function complete(
  { terminal, place, source, reference, options }: Work,
  { files, certificate }: SealSigner & { kind: "signed" },
): Promise<Made | null> {
  requireOnlyCompletion(options);
  const { resolved } = await resolveAdmitted(source, reference);
  const image = await completeSeal(place, source, resolved, files);
  const given = certificate === null ? [] : [certificate];
  const certificates = prepareCertificates(terminal, given, place.directory);
  const report = await checkSealed(place, image, certificates);
  if (options.dryRun !== true) return { image, report };
  const { manifestDigest } = image;
  terminal.write(formatPlan({ kind: "complete-seal", files, manifestDigest, report }));
  return null;
}

async function makeSeal(
  { terminal, place, source, reference, options }: Work,
  signer: Exclude<SealSigner, { kind: "signed" }>,
): Promise<Made | null> {
  const statement = chooseStatement(options);
  const keys = statement?.keys?.map((name) => openSigningKey(name)) ?? null;
  for (const warning of keys?.flatMap(({ warnings }) => warnings) ?? []) terminal.note(warning);
  const { resolved } = await resolveAdmitted(source, reference);
  const choices = {
    mode: options.mode,
    reseal: options.reseal === true,
    allowMissingVerity: options.allowMissingVerity === true,
    kargs: options.karg,
  };
  const start = await fetchForSeal(place, source, resolved, choices);
  const plan = await planSeal(place.repo, start.config.rootfs.diff_ids, choices);
  if (options.dryRun === true) {
    terminal.write(formatPlan(describePlan(plan, options)));
    return null;
  }
  using opened = openSigner(terminal, signer, plan, place.directory);
  const request: SealRequest = {
    ...choices,
    addons: options.addon.map((path) => resolve(path)),
    sharedRuntime: options.sharedRuntime === true,
    signer: opened.key,
    statement: statement === null ? null : { ...statement, keys },
  };
  const { image, programs } = await makeSealedImage(place, start, request, plan);
  const certificates = opened.key === null ? [] : [opened.key.certificate];
  const report = await checkSealed(place, image, certificates);
  giveOut(signer, opened.key, programs);
  return { image, report };
}

function describePlan(plan: SealPlan, options: SealOptions): object {
  const { mode, kernel, hidden, digest, cmdline } = plan;
  return {
    kind: "seal",
    mode,
    digest,
    cmdline,
    kernel: { version: kernel.version, replaces: kernel.previous?.path ?? null },
    hidden,
    addons: options.addon,
    sharedRuntime: options.sharedRuntime === true,
  };
}
