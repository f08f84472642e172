// `bootc internals gc`: removes everything that no boot entry leads to (bootc.md 4.17). What a dry run
// lists is what a real run, made then, removes.

import { Command, Option } from "@commander-js/extra-typings";
import { StateError } from "../../shared/error.ts";
import { applyCleanup, type CleanupResult, readCleanupScope } from "../deploy/cleanup.ts";
import { type CleanupPlan, planCleanup } from "../deploy/cleanup-plan.ts";
import { observeWorld } from "../deploy/world.ts";
import { formatGarbage } from "./cfs.ts";
import { openSession } from "./session.ts";
import type { Terminal } from "./terminal.ts";

export function makeGcCommand(terminal: Terminal) {
  return new Command("composefs-gc")
    .alias("gc")
    .description("Remove everything that no boot entry leads to")
    .option("--dry-run", "only say what would be removed")
    .option("--assert-no-op", "fail when there is something to remove; implies --dry-run")
    .option("--prune-repo", "also objects of the repository (always done)")
    .addOption(
      new Option("--format <format>", "output format").choices(["humanreadable", "json"] as const),
    )
    .action((options) => {
      const dryRun = options.dryRun === true || options.assertNoOp === true;
      using session = openSession("write", "gc");
      const world = observeWorld(session.system, session.boot, session.booted);
      const plan = planCleanup(world, readCleanupScope(session.repo, world));
      const result = applyCleanup(session, plan, { dryRun });
      if (options.format === "json") terminal.line(JSON.stringify({ dryRun, ...plan, ...result }));
      else for (const line of formatCleanup(plan, result, dryRun)) terminal.line(line);
      const count = countRemovals(plan, result);
      if (options.assertNoOp === true && count > 0) {
        throw new StateError("conflict", `There are ${count} things to remove`);
      }
    });
}

function formatCleanup(plan: CleanupPlan, result: CleanupResult, dryRun: boolean): string[] {
  const verb = dryRun ? "Would remove" : "Removed";
  return [
    ...formatGarbage(result, dryRun),
    ...listFiles(plan).map((name) => `${verb}: ${name}`),
    ...plan.kept,
  ];
}

function listFiles(plan: CleanupPlan): readonly string[] {
  return [
    ...(plan.stagedFile ? ["the record of a staged deployment that cannot be applied"] : []),
    ...(plan.stagedEntries ? ["staged boot entries that nothing will apply"] : []),
    ...[...plan.kernels, ...plan.ukis, ...plan.globalAddons, ...plan.strays],
    ...[...plan.states, ...plan.leftovers, ...plan.tags],
  ];
}

function countRemovals(plan: CleanupPlan, result: CleanupResult): number {
  const { objectsRemoved, imagesPruned, streamsPruned } = result;
  return listFiles(plan).length + objectsRemoved + imagesPruned + streamsPruned;
}
