// `bootc internals …`: for the system's own units and for debugging (bootc.md 1.3).

import { Command, Option } from "@commander-js/extra-typings";
import { hostJsonSchema } from "../spec/host.ts";
import { progressJsonSchema } from "../spec/progress.ts";
import { makeAssessBootCommand } from "./assess-boot.ts";
import { makeCfsCommand } from "./cfs.ts";
import { makeDirDiffCommand } from "./config-diff.ts";
import { makeFsckCommand } from "./fsck.ts";
import { makeGcCommand } from "./gc.ts";
import { makeOstreeCommand } from "./ostree.ts";
import { makePrepSoftRebootCommand } from "./soft-reboot.ts";
import type { Terminal } from "./terminal.ts";
import { makeUkiCommand } from "./uki.ts";

export function makeInternalsCommand(terminal: Terminal) {
  return new Command("internals")
    .description("Commands for the system itself")
    .addHelpText(
      "after",
      "\nAlso (main.ts): prepare-root, mkcomposefs, composefs-info, mount.composefs",
    )
    .addCommand(makeAssessBootCommand(terminal))
    .addCommand(makeGcCommand(terminal))
    .addCommand(makePrepSoftRebootCommand(terminal))
    .addCommand(makeFsckCommand(terminal))
    .addCommand(makeDirDiffCommand(terminal))
    .addCommand(makeCfsCommand(terminal))
    .addCommand(makeOstreeCommand(terminal))
    .addCommand(makeSchemaCommand(terminal))
    .addCommand(makeUkiCommand(terminal));
}

function makeSchemaCommand(terminal: Terminal) {
  return new Command("print-json-schema")
    .description("Print the JSON schema of a document")
    .addOption(
      new Option("--of <document>", "which document")
        .choices(["host", "progress"] as const)
        .makeOptionMandatory(),
    )
    .action(({ of }) => {
      const schema = of === "host" ? hostJsonSchema() : progressJsonSchema();
      terminal.line(JSON.stringify(schema, null, 2));
    });
}
