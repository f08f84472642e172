// prepare-root's front: options in, one line out, exit code.
//
// Refusing is an ordinary outcome: one line that says what, where and what to do, then exit code 1;
// the unit's ExecStopPost= decides what becomes of the machine (docs/decisions/0002).

import { describeError, StateError, UsageError } from "../shared/error.ts";
import { Fd } from "../shared/sys/fd.ts";
import { writeAll } from "../shared/sys/file.ts";
import { fstatatIfExists } from "../shared/sys/stat.ts";
import { runAsInit } from "./init.ts";
import { DEFAULT_OPTIONS, HELP, type Options, parseOptions } from "./options.ts";
import { OSTREE_HELP, parseOstreeArguments } from "./ostree/arguments.ts";
import { prepareOstreeRoot } from "./ostree/prepare.ts";
import { runAsOstreeInit } from "./ostree/static-init.ts";
import { prepareRoot, readCmdline } from "./prepare-root.ts";
import { recordRefusal } from "./refusal-record.ts";
import { announce, say } from "./report.ts";

/** Runs prepare-root; `argv` without the program's name. Returns the exit code, 0, 1 or 2 (usage). */
export function runPrepareRoot(argv: readonly string[]): number {
  // Init gets the words of the kernel's command line that the kernel does not know: not our options.
  if (process.pid === 1) return runAsInit(argv);
  let options: Options | null = null;
  const work = (early: boolean) => {
    options = parseOptions(argv);
    if (options === null) return HELP;
    requireRoot();
    announce(prepareRoot(options, { early }), options.run, early);
    return null;
  };
  return runFront(work, (error, text) => {
    const { sysroot, cmdline } = options ?? DEFAULT_OPTIONS;
    recordRefusal(sysroot, cmdline, error, text);
  });
}

/** Runs as ostree's own program of this name does; its exit codes are 0 and 1. */
export function runOstreePrepareRoot(argv: readonly string[]): number {
  if (process.pid === 1) return runAsOstreeInit(argv);
  const code = runFront((early) => {
    const options = parseOstreeArguments(argv);
    if (options === null) return OSTREE_HELP;
    requireRoot();
    const cmdline = options.cmdline ?? readCmdline();
    const { run, trust } = DEFAULT_OPTIONS;
    announce(prepareOstreeRoot({ ...options, cmdline, run, trust }, { early }), run, early);
    return null;
  });
  return Math.min(code, 1);
}

/**
 * `work` returns a text for standard output, if any, and gets whether this is an initramfs, where `record` hears
 * of a refusal after it was said.
 */
function runFront(
  work: (early: boolean) => string | null,
  record?: (error: unknown, text: string) => void,
): number {
  let early = false;
  try {
    early = fstatatIfExists(null, "/etc/initrd-release") !== null;
    const text = work(early);
    if (text !== null) writeAll(new Fd(1), Buffer.from(text));
    return 0;
  } catch (error) {
    const text = describeError(error);
    say("crit", `refused: ${text}`, early);
    if (early) record?.(error, text);
    return error instanceof UsageError ? 2 : 1;
  }
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return;
  throw new StateError("not-root", "Mounting the root needs the root user");
}
