// `bootc kargs`: this machine's kernel arguments, shown or changed (docs/kargs.md). bootc has no such verb; the
// options are those of `rpm-ostree kargs`.

import { Command, Option } from "@commander-js/extra-typings";
import { formatCmdline, parseCmdline } from "../../shared/format/kargs/cmdline.ts";
import { isSealed } from "../boot/boot-entry.ts";
import { applyKargs } from "../deploy/kargs.ts";
import { type KargsEdits, parseEdits } from "../deploy/kargs-edit.ts";
import { findNextEntry, type KargsPlan, planKargs } from "../deploy/kargs-plan.ts";
import { listSources, type SourcedOptions } from "../deploy/kargs-source.ts";
import { notePending } from "../deploy/pending.ts";
import { noteStartedArguments } from "../deploy/started-arguments.ts";
import { observeWorld } from "../deploy/world.ts";
import { recordEvent } from "../journal/events.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeKargsCommand(terminal: Terminal) {
  return new Command("kargs")
    .description("Show or change the kernel arguments of what boots next")
    .option(
      "--append <argument>",
      "add KEY or KEY=VALUE; may be repeated, as all of these",
      collect,
      [],
    )
    .option("--append-if-missing <argument>", "add it unless it is there", collect, [])
    .option("--delete <argument>", "take out KEY=VALUE, or KEY when it has one value", collect, [])
    .option("--delete-if-present <argument>", "take it out if it is there", collect, [])
    .option("--replace <argument>", "KEY=NEW, or KEY=OLD=NEW when there are several", collect, [])
    .addOption(new Option("--format <format>", "output format").choices(["humanreadable", "json"]))
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      const edits: KargsEdits = options;
      const isQuery = [
        edits.append,
        edits.appendIfMissing,
        edits.delete,
        edits.deleteIfPresent,
        edits.replace,
      ].every((list) => list.length === 0);
      if (isQuery) {
        showKargs(terminal, options.format === "json");
        return;
      }
      // What is no argument at all is refused before anything is opened.
      const editLine = parseEdits(edits);
      const edit = ({ options: line, extra }: SourcedOptions) => ({
        options: editLine(line),
        extra,
      });
      changeKargs(terminal, { verb: "kargs", edit, dryRun: options.dryRun === true });
    });
}

function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

function showKargs(terminal: Terminal, json: boolean): void {
  using session = openSession("read", "kargs");
  const { system, boot, booted } = session;
  const { entry, slot } = findNextEntry(observeWorld(system, boot, booted));
  const options = parseCmdline(`${entry.cmdline} ${entry.addonArguments ?? ""}`);
  if (!json) {
    terminal.line(formatCmdline(options));
    return;
  }
  const sources = [...listSources(entry.entry.extra)];
  const document = {
    deployment: entry.deploymentId,
    slot,
    sealed: isSealed(entry),
    options: formatCmdline(options),
    arguments: options.map(({ key, value }) => ({ key, value })),
    sources: Object.fromEntries(sources.map(([name, own]) => [name, formatCmdline(own)])),
    running: formatCmdline(parseCmdline(system.cmdline)),
  };
  terminal.line(formatCanonicalJson(document));
}

export interface KargsRequest {
  readonly verb: "kargs" | "loader-entries";
  readonly edit: (current: SourcedOptions) => SourcedOptions;
  readonly dryRun: boolean;
}

/** Changes the arguments of what boots next, and says so. */
export function changeKargs(terminal: Terminal, { verb, edit, dryRun }: KargsRequest): void {
  using session = openSession("write", verb);
  const { system, boot, booted } = session;
  const world = observeWorld(system, boot, booted);
  const plan = planKargs(world, edit);
  if (dryRun) {
    terminal.write(formatPlan({ ...plan, kind: "kargs" }));
    return;
  }
  if (plan.change.kind === "nothing") {
    terminal.line("No changes in the kernel arguments");
    return;
  }
  noteStartedArguments(system, world);
  applyKargs(session, plan, world.stagedFile);
  notePending(system, boot, booted);
  const message = `Kernel arguments of the ${plan.slot} deployment are changed and count from the next boot on`;
  recordEvent(system, "kargsChanged", message, {
    DEPLOYMENT: plan.id,
    OPTIONS: plan.after,
    PREVIOUS_OPTIONS: plan.before,
  });
  terminal.line(message);
  if (hasFallback(plan)) terminal.line("If they do not boot, the other deployment does");
}

function hasFallback({ change }: KargsPlan): boolean {
  return change.kind === "staged" || (change.kind === "live" && change.isCounted);
}
