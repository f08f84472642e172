// `bootc loader-entries set-options-for-source`: kernel arguments that a program manages (bootc.md 1.2). bootc
// has this on ostree only, and stages a deployment for it; here the entry of what boots next changes.

import { Command } from "@commander-js/extra-typings";
import { UsageError } from "../../shared/error.ts";
import { parseGivenArguments } from "../deploy/kargs-edit.ts";
import { MACHINE_SOURCE } from "../deploy/kargs-image.ts";
import { checkSourceName, OWN_SOURCE, setSourceOptions } from "../deploy/kargs-source.ts";
import { changeKargs } from "./kargs.ts";
import type { Terminal } from "./terminal.ts";

export function makeLoaderEntriesCommand(terminal: Terminal) {
  return new Command("loader-entries")
    .description("Manage what programs have set in boot entries")
    .addCommand(makeSetOptionsCommand(terminal));
}

function makeSetOptionsCommand(terminal: Terminal) {
  return new Command("set-options-for-source")
    .description("Make these the kernel arguments of a source, and take back what it had before")
    .requiredOption("--source <name>", "who sets them: letters, digits, '-' and '_'")
    .option("--options <arguments>", "'' for none; without this option the source is forgotten")
    .option("--dry-run", "only print what would be done, as JSON")
    .action((options) => {
      const source = checkSourceName(options.source);
      if (source === OWN_SOURCE || source === MACHINE_SOURCE) {
        throw new UsageError(
          "conflict",
          `The source "${source}" is bootc's own; use "bootc kargs"`,
        );
      }
      const kargs = options.options ?? null;
      if (kargs !== null) parseGivenArguments("--options", kargs);
      changeKargs(terminal, {
        verb: "loader-entries",
        edit: (current) => setSourceOptions(current, source, kargs),
        dryRun: options.dryRun === true,
      });
    });
}
