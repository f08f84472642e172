// `bootc etc status|reset`: what this machine changed in /etc, and taking the image's default back
// (docs/etc.md). bootc has no such verb.

import { Command, Option } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { type ByteString, fromByteString } from "../../shared/format/tree/node.ts";
import { findMount } from "../boot/mount-table.ts";
import type { System } from "../boot/system.ts";
import type { EtcDrift } from "../deploy/etc-drift.ts";
import {
  hasPath,
  type MachineEtc,
  openMachineEtc,
  readDrift,
  readResetPlan,
} from "../deploy/etc-machine.ts";
import { applyEtcReset } from "../deploy/etc-reset.ts";
import { parseEtcPath, type ResetStep } from "../deploy/etc-reset-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatDrift, quotePath } from "../output/etc-text.ts";
import { formatCanonicalJson } from "../output/json.ts";
import { formatPlan } from "./plan-text.ts";
import { openSession, type Session } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeEtcCommand(terminal: Terminal) {
  return new Command("etc")
    .description("Show or take back what this machine changed in /etc")
    .addCommand(makeStatusCommand(terminal))
    .addCommand(makeResetCommand(terminal));
}

function makeStatusCommand(terminal: Terminal) {
  return new Command("status")
    .description("List local changes: the image's side, this machine's, the staged image's")
    .argument("[path...]", "only these and what is below them")
    .addOption(
      new Option("--format <format>", "output format")
        .choices(["humanreadable", "json"] as const)
        .default("humanreadable" as const),
    )
    .option("-v, --verbose", "all sides of every change (as with a path)")
    .action((paths, options) => {
      const wanted = paths.map(parseEtcPath);
      using session = openSession("read", "etc");
      const etc = openMachineEtc(session, observe(session));
      const changes = readDrift(etc, session.repo).filter((change) => isWanted(change, wanted));
      requireKnown(etc, wanted, changes);
      if (options.format === "json") {
        terminal.write(`${formatCanonicalJson(describeStatus(etc, changes))}\n`);
        return;
      }
      if (etc.ruleProblem !== null) terminal.note(`warning: ${etc.ruleProblem}`);
      if (changes.length === 0) terminal.line("No local changes");
      const verbose = options.verbose === true || wanted.length > 0;
      for (const line of formatDrift(changes, { verbose })) terminal.line(line);
    });
}

function observe({ system, boot, booted }: Session) {
  return observeWorld(system, boot, booted);
}

/** At or below a path; a removed directory stands for all that was in it. */
function isWanted({ path, change }: EtcDrift, wanted: readonly ByteString[]): boolean {
  if (wanted.length === 0) return true;
  const isBelow = (child: string, parent: string) => `${child}/`.startsWith(`${parent}/`);
  return wanted
    .map((each) => absolute(each))
    .some((each) => isBelow(path, each) || (change === "removed" && isBelow(each, path)));
}

function absolute(path: ByteString): string {
  return path === "" ? "/etc" : `/etc/${fromByteString(path)}`;
}

function requireKnown(
  etc: MachineEtc,
  wanted: readonly ByteString[],
  changes: readonly EtcDrift[],
): void {
  for (const path of wanted) {
    if (changes.some((change) => isWanted(change, [path])) || hasPath(etc, path)) continue;
    const name = absolute(path);
    const message = `"${name}" is neither in the image nor on this machine`;
    throw new StateError("missing", message, { path: name });
  }
}

function describeStatus(etc: MachineEtc, changes: readonly EtcDrift[]): object {
  const { bootedId, stagedId, ruleProblem } = etc;
  return { kind: "EtcStatus", booted: bootedId, staged: stagedId, ruleProblem, changes };
}

function makeResetCommand(terminal: Terminal) {
  return new Command("reset")
    .description("Take the image's default back for these paths and what is below them")
    .argument("<path...>", "absolute paths below /etc")
    .option("--remove-added", "also remove what the image does not have")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((paths, options) => {
      const wanted = paths.map(parseEtcPath);
      using session = openSession("write", "etc");
      const etc = openMachineEtc(session, observe(session));
      const steps = readResetPlan(etc, wanted, { removeAdded: options.removeAdded === true });
      if (options.dryRun === true) {
        terminal.write(formatPlan({ kind: "etc-reset", steps: steps.map(describeStep) }));
        return;
      }
      applyEtcReset(etc.path, session.repo, steps);
      for (const { kind, path } of steps) {
        terminal.line(`${DONE[kind]} ${quotePath(absolute(path))}`);
      }
      if (steps.length === 0) terminal.line("Nothing to reset: all is as in the image");
      else if (isTransient(session.system)) {
        terminal.note("note: this /etc is transient; the next boot has the image's in any case");
      }
    });
}

const DONE = {
  write: "Restored",
  attributes: "Restored attributes of",
  remove: "Removed",
} as const;

function describeStep(step: ResetStep): object {
  const path = absolute(step.path);
  if (step.kind !== "write") return { kind: step.kind, path };
  return { kind: step.kind, path, type: step.node.kind, replaces: step.replaces };
}

/** An overlay in memory, of /etc alone or of the whole root. */
function isTransient(system: System): boolean {
  const source = (findMount(system.mounts, "/etc") ?? findMount(system.mounts, "/"))?.source ?? "";
  return source.startsWith("transient");
}
