// `bootc upgrade` (alias `update`): the newest image of the reference this machine follows
// (bootc.md 1.2, 4.10).

import { Command, Option } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import { makeHostState } from "../deploy/host-state.ts";
import { setStagedLock } from "../deploy/stage.ts";
import { updateImage } from "../deploy/update.ts";
import { observeWorld } from "../deploy/world.ts";
import type { ImageReference } from "../image/reference.ts";
import { openSource } from "../image/source.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { makeObserver, makeProgressOption } from "./progress.ts";
import { describeCheck } from "./pull-text.ts";
import { rebootSystem } from "./reboot.ts";
import { openSession, type Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";
import { printOutcome } from "./update-text.ts";

export function makeUpgradeCommand(terminal: Terminal) {
  return new Command("upgrade")
    .alias("update")
    .description("Download and stage the newest version of the image this machine follows")
    .option("--quiet", "no progress")
    .addOption(new Option("--check", "only look whether there is an update").conflicts("apply"))
    .option("--apply", "restart into the update")
    .addOption(
      new Option("--download-only", "stage it, but do not apply it at shutdown").conflicts([
        "check",
        "apply",
      ]),
    )
    .addOption(
      new Option("--from-downloaded", "apply what --download-only staged").conflicts([
        "check",
        "downloadOnly",
      ]),
    )
    .addOption(
      new Option("--format <format>", "how --check reports")
        .choices(["humanreadable", "json"] as const)
        .default("humanreadable" as const),
    )
    .addOption(makeProgressOption())
    .option("--dry-run", "fetch, but only print what would be done, as JSON")
    .action(async (options) => {
      const isJson = options.format === "json";
      if (isJson && options.check !== true) {
        throw new UsageError("conflict", "--format json is for --check");
      }
      using session = openSession("write", "upgrade");
      if (options.fromDownloaded === true) {
        releaseDownloaded(session, terminal, options.dryRun === true);
        if (options.apply === true && options.dryRun !== true) rebootSystem();
        return;
      }
      const reference = followedReference(session);
      await using source = openSource(reference);
      using observer = makeObserver(terminal, {
        quiet: options.quiet === true,
        progressFd: options.progressFd,
      });
      const outcome = await updateImage(
        session,
        session.booted,
        {
          kind: "upgrade",
          reference,
          source,
          checkOnly: options.check === true,
          downloadOnly: options.downloadOnly === true,
          dryRun: options.dryRun === true,
        },
        observer,
      );
      if (isJson) {
        terminal.write(`${formatCanonicalJson(describeCheck(outcome, reference))}\n`);
        return;
      }
      printOutcome(terminal, outcome, reference, {
        checkOnly: options.check === true,
        downloadOnly: options.downloadOnly === true,
      });
      const isPending = outcome.kind === "staged" || outcome.kind === "already-staged";
      if (options.apply === true && isPending) rebootSystem();
    });
}

/** What is staged decides over what is booted: a switch is followed from the moment it is made. */
function followedReference({ system, boot, repo, booted }: Session): ImageReference {
  const host = makeHostState(system, repo, observeWorld(system, boot.path, booted));
  const reference = host.staged?.image ?? host.booted?.image;
  if (reference !== undefined && reference !== null) return reference;
  throw new StateError("missing", "No image source specified; use bootc switch to name one");
}

function releaseDownloaded(session: Session, terminal: Terminal, dryRun: boolean): void {
  const { system, boot, booted } = session;
  const { stagedFile } = observeWorld(system, boot.path, booted);
  if (stagedFile === null) throw new StateError("missing", "No staged deployment found");
  if (!stagedFile.locked) {
    terminal.line("Staged deployment is already set to apply on reboot");
    return;
  }
  if (!dryRun) setStagedLock(system, stagedFile.id, false);
  terminal.line("Staged deployment will now be applied on reboot");
}
