// `bootc upgrade` (alias `update`): the newest image of the reference this machine follows
// (bootc.md 1.2, 4.10).

import { Command, Option } from "@commander-js/extra-typings";
import { StateError, UsageError } from "../../shared/error.ts";
import { makeHostState } from "../deploy/host-state.ts";
import { notePending } from "../deploy/pending.ts";
import { setStagedLock } from "../deploy/stage.ts";
import { type UpdateOutcome, updateImage } from "../deploy/update.ts";
import { observeWorld } from "../deploy/world.ts";
import type { ImageReference } from "../image/reference.ts";
import { withTag } from "../image/reference-tag.ts";
import { openSource } from "../image/source.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { formatPlan } from "./plan-text.ts";
import { makeObserver, makeProgressOption } from "./progress.ts";
import { describeCheck } from "./pull-text.ts";
import { openSession, type Session } from "./session.ts";
import { endVerb, makeSoftRebootOption } from "./soft-reboot.ts";
import type { Terminal } from "./terminal.ts";
import { printOutcome } from "./update-text.ts";
import { makeWeakerTrustOption } from "./weaker-trust.ts";

interface UpgradeOptions {
  readonly quiet: boolean;
  readonly check: boolean;
  readonly downloadOnly: boolean;
  readonly fromDownloaded: boolean;
  readonly dryRun: boolean;
  readonly retryFailed: boolean;
  readonly allowWeakerTrust: boolean;
  readonly format: "humanreadable" | "json";
  readonly tag: string | null;
  readonly progressFd: number | undefined;
}

export function makeUpgradeCommand(terminal: Terminal) {
  return new Command("upgrade")
    .alias("update")
    .description("Download and stage the newest version of the image this machine follows")
    .option("--quiet", "no progress")
    .addOption(new Option("--check", "only look whether there is an update").conflicts("apply"))
    .option("--apply", "restart into the update")
    .addOption(makeSoftRebootOption().conflicts(["check", "downloadOnly"]))
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
        "tag",
      ]),
    )
    .option("--tag <tag>", "follow this tag of the image from now on")
    .addOption(
      new Option("--format <format>", "how --check reports")
        .choices(["humanreadable", "json"] as const)
        .default("humanreadable" as const),
    )
    .addOption(makeProgressOption())
    .option("--retry-failed", "also stage an image that failed to start on this machine")
    .addOption(makeWeakerTrustOption())
    .option("--dry-run", "fetch, but only print what would be done, as JSON")
    .action(async (given) => {
      const options: UpgradeOptions = {
        quiet: given.quiet === true,
        check: given.check === true,
        downloadOnly: given.downloadOnly === true,
        fromDownloaded: given.fromDownloaded === true,
        dryRun: given.dryRun === true,
        retryFailed: given.retryFailed === true,
        allowWeakerTrust: given.allowWeakerTrust === true,
        format: given.format,
        tag: given.tag ?? null,
        progressFd: given.progressFd,
      };
      if (options.format === "json" && !options.check) {
        throw new UsageError("conflict", "--format json is for --check");
      }
      const isPending = await upgrade(terminal, options);
      const { softReboot } = given;
      await endVerb(terminal, "upgrade", { isPending, apply: given.apply === true, softReboot });
    });
}

/** Whether a restart has something to apply. */
async function upgrade(terminal: Terminal, options: UpgradeOptions): Promise<boolean> {
  using session = openSession("write", "upgrade");
  if (options.fromDownloaded) return releaseDownloaded(session, terminal, options.dryRun);
  const reference = chooseReference(session, options.tag);
  await using source = openSource(reference);
  using observer = makeObserver(terminal, options);
  const { allowWeakerTrust, check: checkOnly, downloadOnly, dryRun, retryFailed, tag } = options;
  const outcome = await updateImage(
    session,
    session.booted,
    {
      kind: "upgrade",
      reference,
      source,
      checkOnly,
      downloadOnly,
      dryRun,
      retryFailed,
      allowWeakerTrust,
      isExcursion: checkOnly && tag !== null,
    },
    observer,
  );
  if (!dryRun) notePending(session.system, session.boot, session.booted);
  if (options.format === "json") {
    terminal.write(`${formatCanonicalJson(describeCheck(outcome, reference))}\n`);
  } else {
    printOutcome(terminal, outcome, reference, options);
  }
  return isPendingOutcome(outcome) && !dryRun;
}

function isPendingOutcome({ kind }: UpdateOutcome): boolean {
  return kind === "staged" || kind === "already-staged";
}

/** What is staged decides over what is booted: a switch is followed from the moment it is made. A tag is the booted image's. */
function chooseReference(session: Session, tag: string | null): ImageReference {
  const { system, boot, repo, booted } = session;
  const host = makeHostState(system, repo, observeWorld(system, boot, booted));
  if (tag !== null) {
    const reference = host.booted?.image ?? null;
    if (reference !== null) return withTag(reference, tag);
    throw new StateError("missing", "--tag requires a booted image with a specified source");
  }
  const reference = host.staged?.image ?? host.booted?.image;
  if (reference !== undefined && reference !== null) return reference;
  throw new StateError("missing", "No image source specified; use bootc switch to name one");
}

function releaseDownloaded(session: Session, terminal: Terminal, dryRun: boolean): boolean {
  const { system, boot, booted } = session;
  const { stagedFile } = observeWorld(system, boot, booted);
  if (stagedFile === null) throw new StateError("missing", "No staged deployment found");
  const { id, locked } = stagedFile;
  if (dryRun) {
    terminal.write(formatPlan({ kind: "release", id, changes: locked }));
    return false;
  }
  if (locked) setStagedLock(system, id, false);
  notePending(system, boot, booted);
  terminal.line(
    locked
      ? "Staged deployment will now be applied on reboot"
      : "Staged deployment is already set to apply on reboot",
  );
  return true;
}
