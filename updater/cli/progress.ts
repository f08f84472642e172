// What a verb that fetches an image says while it works: steps and a bar on stderr unless `--quiet`,
// and events on `--progress-fd`.

import { InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { UpdateObserver } from "../deploy/update.ts";
import { makeTextReporter, type ProgressReporter } from "../output/progress.ts";
import { makeJsonReporter } from "../output/progress-json.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

/** A person sees every second that passes. */
const TICK_MS = 500;

export interface ProgressOptions {
  readonly quiet: boolean;
  readonly progressFd: number | undefined;
}

export function makeProgressOption() {
  return new Option("--progress-fd <number>", "write progress as JSON lines to this descriptor")
    .hideHelp()
    .argParser((text) => {
      if (!/^[0-9]{1,6}$/.test(text)) throw new InvalidArgumentError("It is not a number.");
      return Number(text);
    });
}

/**
 * Also turns the first Ctrl-C into a failure of the fetch. UsageError when the descriptor is not the writing
 * end of a pipe. Disposing ends a line that is being drawn, so that an error message gets one of its own.
 */
export function makeObserver(
  terminal: Terminal,
  options: ProgressOptions,
): UpdateObserver & Disposable {
  const now = () => performance.now();
  const { columns, progress: write } = terminal;
  const reporters: ProgressReporter[] = options.quiet
    ? []
    : [makeTextReporter({ write, columns, now })];
  if (options.progressFd !== undefined) {
    reporters.push(makeJsonReporter(options.progressFd, { warn: terminal.note, now }));
  }
  const each = (action: (reporter: ProgressReporter) => void) => reporters.forEach(action);
  const ticking = setInterval(() => each((reporter) => reporter.tick()), TICK_MS);
  ticking.unref();
  const interruption = watchInterruption();
  return {
    signal: interruption.signal,
    onProgress: (state) => each((reporter) => reporter.report(state)),
    onStep: (step) => each((reporter) => reporter.step(step)),
    [Symbol.dispose]: () => {
      clearInterval(ticking);
      each((reporter) => reporter.finish());
      interruption[Symbol.dispose]();
    },
  };
}
