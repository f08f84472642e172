// `bootc switch TARGET`: follow another image from now on (bootc.md 1.2, 4.11).

import { isDeepStrictEqual } from "node:util";
import { Command, Option } from "@commander-js/extra-typings";
import { type HostState, makeHostState } from "../deploy/host-state.ts";
import { retainImage } from "../deploy/image-tag.ts";
import { notePending } from "../deploy/pending.ts";
import { updateImage } from "../deploy/update.ts";
import { observeWorld } from "../deploy/world.ts";
import { displayReference, type ImageReference, makeImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { absoluteReference } from "./absolute-reference.ts";
import { formatPlan } from "./plan-text.ts";
import { makeObserver, makeProgressOption } from "./progress.ts";
import { openSession, rejectOstree, type Session } from "./session.ts";
import { endVerb, makeSoftRebootOption } from "./soft-reboot.ts";
import { switchInPlace } from "./switch-in-place.ts";
import type { Terminal } from "./terminal.ts";
import { printOutcome } from "./update-text.ts";
import { makeWeakerTrustOption } from "./weaker-trust.ts";

interface SwitchOptions {
  readonly quiet: boolean;
  readonly retain: boolean;
  readonly dryRun: boolean;
  readonly retryFailed: boolean;
  readonly allowWeakerTrust: boolean;
  readonly progressFd: number | undefined;
}

export function makeSwitchCommand(terminal: Terminal) {
  return new Command("switch")
    .description("Stage another image and follow it from now on")
    .argument("<target>", "name of the image in its transport")
    .option("--quiet", "no progress")
    .option("--apply", "restart into the new image")
    .addOption(makeSoftRebootOption())
    .option("--transport <transport>", "where the image is found", "registry")
    .option(
      "--retain",
      "keep the running image in the repository, whatever happens to its deployment",
    )
    .option("--enforce-container-sigpolicy", "refuse images that policy.json does not cover")
    .addOption(new Option("--no-signature-verification").hideHelp())
    .addOption(new Option("--experimental-unified-storage").hideHelp())
    .addOption(
      new Option(
        "--mutate-in-place",
        "fetch nothing: only change which image the next deployment is updated from",
      ).conflicts(["apply", "retain", "softReboot"]),
    )
    .addOption(makeProgressOption())
    .option("--retry-failed", "also stage an image that failed to start on this machine")
    .addOption(makeWeakerTrustOption())
    .option("--dry-run", "fetch, but only print what would be done, as JSON")
    .action(async (target, given) => {
      rejectOstree("switch");
      const reference: ImageReference = {
        ...absoluteReference(makeImageReference(given.transport, target)),
        ...(given.enforceContainerSigpolicy === true && { signature: "containerPolicy" }),
      };
      const options: SwitchOptions = {
        quiet: given.quiet === true,
        retain: given.retain === true,
        dryRun: given.dryRun === true,
        retryFailed: given.retryFailed === true,
        allowWeakerTrust: given.allowWeakerTrust === true,
        progressFd: given.progressFd,
      };
      if (given.mutateInPlace === true) {
        switchInPlace(terminal, reference, options.dryRun);
        return;
      }
      const isPending = await switchImage(terminal, reference, options);
      const { softReboot } = given;
      await endVerb(terminal, "switch", { isPending, apply: given.apply === true, softReboot });
    });
}

/** Whether a restart has something to apply. */
export async function switchImage(
  terminal: Terminal,
  reference: ImageReference,
  options: SwitchOptions,
): Promise<boolean> {
  await using source = openSource(reference);
  using session = openSession("write", "switch");
  const { system, boot, repo, booted } = session;
  const host = makeHostState(system, repo, observeWorld(system, boot, booted));
  if (isDeepStrictEqual(host.staged?.image ?? host.booted?.image ?? null, reference)) {
    if (options.dryRun) terminal.write(formatPlan({ kind: "unchanged", slot: "specification" }));
    else terminal.line("Image specification is unchanged.");
    return host.staged !== null && !options.dryRun;
  }
  using observer = makeObserver(terminal, options);
  const { allowWeakerTrust, dryRun, retryFailed } = options;
  const outcome = await updateImage(
    session,
    booted,
    {
      kind: "switch",
      reference,
      source,
      checkOnly: false,
      downloadOnly: false,
      dryRun,
      retryFailed,
      allowWeakerTrust,
    },
    observer,
  );
  const retained = options.retain ? retain(session, host, dryRun) : null;
  if (!dryRun) notePending(system, boot, booted);
  printOutcome(terminal, outcome, reference, { check: false, downloadOnly: false, dryRun });
  if (retained !== null && !dryRun) terminal.line(`Retained: ${retained}`);
  return outcome.kind === "staged";
}

/** The name under which the running image stays in the repository; null when it has no image. */
function retain({ repo }: Session, { booted }: HostState, dryRun: boolean): string | null {
  const image = booted?.image ?? null;
  const digest = booted?.manifestDigest ?? null;
  if (image === null || digest === null) return null;
  const name = displayReference(image);
  if (!dryRun) retainImage(repo, name, digest);
  return name;
}
