// The composefs tools: mkcomposefs, composefs-info, mount.composefs and composefs-dump under their own
// names, with the options, output and exit codes of the C originals (docs/decisions/0006-erofs-writers.md);
// and the generator that systemd starts at each boot and reload.
//
// A bundle of their own, because they start a hundred times as often as `bootc`: nothing here may import
// commander, zod or the rest of the updater. Exit codes: 0 done, 1 failed or wrong usage.

import { describeError, UsageError } from "../../shared/error.ts";
import { BOOT_ORDER_USAGE, runBootOrderGenerator } from "./boot-order-generator.ts";
import { COMPOSEFS_DUMP_USAGE, runComposefsDump } from "./composefs-dump.ts";
import { COMPOSEFS_INFO_USAGE, runComposefsInfo } from "./composefs-info.ts";
import { MKCOMPOSEFS_USAGE, runMkcomposefs } from "./mkcomposefs.ts";
import { MOUNT_COMPOSEFS_USAGE, runMountComposefs } from "./mount-composefs.ts";
import { writeErr } from "./standard-stream.ts";

export type ToolName =
  | "mkcomposefs"
  | "composefs-info"
  | "mount.composefs"
  | "composefs-dump"
  | "bootc-boot-order-generator";

/** What each does with its arguments; its result is the exit code. */
const TOOLS: Readonly<
  Record<ToolName, { run: (argv: readonly string[]) => number; usage: string }>
> = {
  mkcomposefs: { run: runMkcomposefs, usage: MKCOMPOSEFS_USAGE },
  "composefs-info": { run: runComposefsInfo, usage: COMPOSEFS_INFO_USAGE },
  "mount.composefs": { run: runMountComposefs, usage: MOUNT_COMPOSEFS_USAGE },
  "composefs-dump": { run: runComposefsDump, usage: COMPOSEFS_DUMP_USAGE },
  "bootc-boot-order-generator": { run: runBootOrderGenerator, usage: BOOT_ORDER_USAGE },
};

/** Runs one command line (without the program's own name); returns the exit code. */
export function runTool(name: ToolName, argv: readonly string[]): number {
  const { run, usage } = TOOLS[name];
  try {
    const garbled = argv.find((word) => word.includes("\ufffd"));
    if (garbled !== undefined) {
      throw new UsageError("bad-value", `The argument "${garbled}" is not valid UTF-8`);
    }
    return run(argv);
  } catch (error) {
    writeErr(`${name}: ${describeError(error)}\n`);
    if (error instanceof UsageError) writeErr(usage);
    return 1;
  }
}
