// `bootc internals …`: for the system's own units and for debugging (bootc.md 1.3).

import { Command, Option } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { applyCleanup } from "../deploy/cleanup.ts";
import { planCleanup } from "../deploy/cleanup-plan.ts";
import { listTags } from "../deploy/image-tag.ts";
import { observeWorld } from "../deploy/world.ts";
import { hostJsonSchema } from "../spec/host.ts";
import { formatGarbage, makeCfsCommand } from "./cfs.ts";
import { makeFsckCommand } from "./fsck.ts";
import { makeOstreeCommand } from "./ostree.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeInternalsCommand(terminal: Terminal) {
  return new Command("internals")
    .description("Commands for the system itself")
    .addHelpText(
      "after",
      "\nAlso (main.ts): prepare-root, mkcomposefs, composefs-info, mount.composefs",
    )
    .addCommand(makeGcCommand(terminal))
    .addCommand(makeFsckCommand(terminal))
    .addCommand(makeCfsCommand(terminal))
    .addCommand(makeOstreeCommand(terminal))
    .addCommand(makeSchemaCommand(terminal));
}

function makeGcCommand(terminal: Terminal) {
  return new Command("composefs-gc")
    .alias("gc")
    .description("Remove everything that no boot entry leads to")
    .option("--dry-run", "only say what would be removed")
    .option("--assert-no-op", "fail when there is something to remove; implies --dry-run")
    .option("--prune-repo", "also objects of the repository (always done)")
    .action((options) => {
      const dryRun = options.dryRun === true || options.assertNoOp === true;
      using session = openSession("write", "gc");
      const { system, boot, repo, booted } = session;
      const world = observeWorld(system, boot.path, booted);
      const plan = planCleanup(world, { tags: listTags(repo), kernelsOnly: false });
      const result = applyCleanup(session, plan, { dryRun });
      const { objectsRemoved, imagesPruned, streamsPruned } = result;
      for (const line of formatGarbage(result, dryRun)) terminal.line(line);
      const files = [...plan.kernels, ...plan.states, ...plan.leftovers, ...plan.tags];
      for (const name of files) terminal.line(`${dryRun ? "Would remove" : "Removed"}: ${name}`);
      const count = files.length + objectsRemoved + imagesPruned + streamsPruned;
      if (options.assertNoOp === true && count > 0) {
        throw new StateError("conflict", `There are ${count} things to remove`);
      }
    });
}

function makeSchemaCommand(terminal: Terminal) {
  return new Command("print-json-schema")
    .description("Print the JSON schema of a document")
    .addOption(
      new Option("--of <document>", "which document").choices(["host"]).makeOptionMandatory(),
    )
    .action(() => terminal.line(JSON.stringify(hostJsonSchema(), null, 2)));
}
