// Ctrl-C, a closed terminal, or the service manager's stop while an image is being fetched: the verb
// fails in its ordinary way, which takes away what it wrote. A second signal ends the program at once.

import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { StateError } from "../../shared/error.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Interruption extends Disposable {
  /** Its reason is the error to fail with. */
  readonly signal: AbortSignal;
}

/** Until it is disposed of, the first signal does not end the program but aborts; `outcome` says where that leaves us. */
export function watchInterruption(outcome = "nothing was changed"): Interruption {
  const controller = new AbortController();
  const interrupt = (name: string) => {
    stop();
    controller.abort(new StateError("interrupted", `Interrupted by ${name}; ${outcome}`));
  };
  const watched = SIGNALS.filter((name) => !isIgnored(name));
  const stop = () => {
    for (const name of watched) process.off(name, interrupt);
  };
  for (const name of watched) process.on(name, interrupt);
  return { signal: controller.signal, [Symbol.dispose]: stop };
}

/** As nohup(1) wants it: a handler would undo that. */
function isIgnored(name: (typeof SIGNALS)[number]): boolean {
  const status = readFileSync("/proc/self/status", "utf8");
  const mask = BigInt(`0x${/^SigIgn:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  return ((mask >> BigInt(constants.signals[name] - 1)) & 1n) === 1n;
}
