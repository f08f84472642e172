// What a verb that fetches an image says while it works: steps and a bar on stderr unless `--quiet`,
// and events on `--progress-fd`.

import { InvalidArgumentError, Option } from "@commander-js/extra-typings";
import type { UpdateObserver } from "../deploy/update.ts";
import { makeTextReporter, type PullReporter } from "../output/progress.ts";
import { makeJsonReporter } from "../output/progress-json.ts";
import { watchInterruption } from "./interruption.ts";
import type { Terminal } from "./terminal.ts";

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
 * Also turns the first Ctrl-C into a failure of the fetch. UsageError when the descriptor is not the writing end of a pipe. Disposing ends a line that is being
 * drawn, so that an error message gets one of its own.
 */
export function makeObserver(
  terminal: Terminal,
  options: ProgressOptions,
): UpdateObserver & Disposable {
  const now = () => performance.now();
  const { columns, progress: write } = terminal;
  const reporters: PullReporter[] = options.quiet
    ? []
    : [makeTextReporter({ write, columns, now })];
  if (options.progressFd !== undefined) {
    reporters.push(makeJsonReporter(options.progressFd, { warn: terminal.note, now }));
  }
  const finish = () => {
    for (const reporter of reporters) reporter.finish();
  };
  const interruption = watchInterruption();
  return {
    signal: interruption.signal,
    onProgress: (state) => {
      for (const reporter of reporters) reporter.report(state);
    },
    onStep: (text) => {
      finish();
      if (!options.quiet) terminal.note(text);
    },
    [Symbol.dispose]: () => {
      finish();
      interruption[Symbol.dispose]();
    },
  };
}
