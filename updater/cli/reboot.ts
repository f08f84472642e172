// Restarting the machine at the end of a verb (bootc.md 1.4), when nobody holds it up any more.
//
// Call it after the session was closed: waiting may take hours, in which other verbs must be possible.

import { StateError } from "../../shared/error.ts";
import { type Inhibitor, waitForInhibitors } from "../boot/inhibitors.ts";
import { runProgram } from "../boot/program.ts";
import { hasSystemd, readSystem, type System } from "../boot/system.ts";
import { isRebootNoted } from "../deploy/pending.ts";
import { recordEvent } from "../journal/events.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

/** systemctl's word; a soft reboot goes on with the running kernel (docs/soft-reboot.md). */
export type Restart = "reboot" | "soft-reboot";

const WALL_MESSAGE = "--message=Initiated by bootc";
/** Longer than any shutdown, and the longest a timer can be. */
const KEEP_ALIVE_MS = 2 ** 31 - 1;

/**
 * Restarts and stays until the shutdown ends this program, as bootc does: whoever started it sees it end with the
 * machine. Returns only when there is nothing left to restart for.
 */
export async function restartSystem(
  terminal: Terminal,
  verb: string,
  kind: Restart = "reboot",
): Promise<void> {
  using interruption = watchInterruption("what is staged is applied at the next restart");
  const isUnderWay = await requestRestart(
    readSystem(),
    terminal,
    { verb, kind },
    interruption.signal,
  );
  if (!isUnderWay) return;
  interruption[Symbol.dispose]();
  await new Promise(() => setInterval(() => {}, KEEP_ALIVE_MS));
}

/** Waits for inhibitors and asks systemd; false when, after waiting, nothing is pending any more. */
export async function requestRestart(
  system: System,
  terminal: Terminal,
  { kind, verb }: { readonly verb: string; readonly kind: Restart },
  signal: AbortSignal,
): Promise<boolean> {
  if (!hasSystemd(system)) {
    throw new StateError(
      "command-failed",
      "Cannot restart: systemd is not running here; restart the machine yourself, what is staged is applied then",
    );
  }
  const waited = await waitForInhibitors(system, {
    signal,
    onWait: (holders) => terminal.note(`Waiting to restart: ${holders.map(describe).join("; ")}`),
  });
  if (waited.length > 0 && !isRebootNoted(system)) {
    terminal.line("Nothing is pending any more; not restarting");
    return false;
  }
  recordEvent(system, "restarting", `Restarting at the end of "bootc ${verb}"`, {
    VERB: verb,
    WAITED_FOR: waited.length === 0 ? null : waited.map(describe).join("; "),
  });
  startReboot(kind);
  return true;
}

/**
 * In a unit of its own, so that neither our private mounts nor the limits of the unit we may run in matter.
 * As a oneshot its failure is ours to report.
 */
function startReboot(kind: Restart): void {
  const unit = ["--quiet", "--collect", "--property=Type=oneshot"];
  const early = "--property=DefaultDependencies=no"; // or shutting down would end it before it is done
  const command = ["systemctl", kind, ...(kind === "reboot" ? [WALL_MESSAGE] : [])];
  runProgram("systemd-run", [...unit, early, "--", ...command], { package: "systemd" });
}

function describe({ who, why, pid }: Inhibitor): string {
  return `${who} (process ${pid}) says "${why}"`;
}
