// prepare-root's front: options in, one line out, exit code.
//
// Refusing is an ordinary outcome: one line that says what, where and what to do, then exit code 1;
// the unit's ExecStopPost= decides what becomes of the machine (docs/decisions/0002).

import { describeError, StateError, UsageError } from "../shared/error.ts";
import { Fd } from "../shared/sys/fd.ts";
import { writeAll } from "../shared/sys/file.ts";
import { fstatatIfExists } from "../shared/sys/stat.ts";
import { runAsInit } from "./init.ts";
import { HELP, parseOptions } from "./options.ts";
import { prepareRoot } from "./prepare-root.ts";
import { announce, say } from "./report.ts";

/** Runs prepare-root; `argv` without the program's name. Returns the exit code, 0, 1 or 2 (usage). */
export function runPrepareRoot(argv: readonly string[]): number {
  // Init gets the words of the kernel's command line that the kernel does not know: not our options.
  if (process.pid === 1) return runAsInit(argv);
  let early = false;
  try {
    early = fstatatIfExists(null, "/etc/initrd-release") !== null;
    const options = parseOptions(argv);
    if (options === null) {
      writeAll(new Fd(1), Buffer.from(HELP));
      return 0;
    }
    requireRoot();
    announce(prepareRoot(options, { early }), options.run, early);
    return 0;
  } catch (error) {
    say("crit", `refused: ${describeError(error)}`, early);
    return error instanceof UsageError ? 2 : 1;
  }
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new StateError("not-root", "Mounting the root needs the root user");
}
