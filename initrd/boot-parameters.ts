// What the kernel command line tells prepare-root.

import { type Cmdline, parameterValues, parseCmdline } from "../shared/format/kargs/cmdline.ts";
import { type ComposefsKarg, parseComposefsKargs } from "../shared/format/kargs/composefs.ts";

export type VolatileMode = "no" | "yes" | "state" | "overlay";

export interface BootParameters {
  /** In order of preference; empty when the line names no deployment. */
  readonly composefs: readonly ComposefsKarg[];
  /** `systemd.volatile=`; systemd-volatile-root must not run on a composefs root. */
  readonly volatile: VolatileMode;
  /** `init=`, an absolute path in the new root. */
  readonly init: string | null;
  /** A shell is wanted when the start fails (docs/decisions/0002-refusal-reboots.md). */
  readonly shellWanted: boolean;
  /** `root=`, `rootfstype=`, `rootflags=`; only PID-1 mode mounts the physical root itself. */
  readonly root: string | null;
  readonly rootType: string | null;
  readonly rootFlags: string | null;
}

/** FormatError when a `composefs` argument is malformed. */
export function parseBootParameters(text: string): BootParameters {
  const cmdline = parseCmdline(text);
  const init = lastValue(cmdline, "init");
  return {
    composefs: parseComposefsKargs(text),
    volatile: parseVolatile(parameterValues(cmdline, "systemd.volatile").at(-1)),
    init: init?.startsWith("/") ? init : null,
    shellWanted: isShellWanted(cmdline),
    root: lastValue(cmdline, "root"),
    rootType: lastValue(cmdline, "rootfstype"),
    rootFlags: lastValue(cmdline, "rootflags"),
  };
}

/** The last one given counts, as in the kernel; bare words and empty values do not. */
function lastValue(cmdline: Cmdline, key: string): string | null {
  return parameterValues(cmdline, key).at(-1) || null;
}

/** systemd's rule: a mode, or a boolean that stands for "yes" or "no"; a bare word is "yes". */
function parseVolatile(value: string | null | undefined): VolatileMode {
  if (value === undefined) return "no";
  if (value === "state" || value === "overlay") return value;
  return value === null || isTrue(value) ? "yes" : "no";
}

/** `rd.shell` (also =1, =yes, …) or any `rd.break`. */
function isShellWanted(cmdline: Cmdline): boolean {
  const shell = parameterValues(cmdline, "rd.shell").at(-1);
  if (parameterValues(cmdline, "rd.break").length > 0) return true;
  return shell === null || (shell !== undefined && isTrue(shell));
}

function isTrue(value: string): boolean {
  return ["1", "y", "yes", "t", "true", "on"].includes(value.toLowerCase());
}
