// Progress of a pull for programs, `--progress-fd N` (bootc.md 2.4): canonical JSON, one event a line,
// the first one `Start`. Steps are layers, bytes are compressed. At most five events a second, except
// those that finish a layer. A reader that goes away does not stop the pull.

import { fstatSync, readFileSync, writeSync } from "node:fs";
import { isErrno, UsageError } from "../../shared/error.ts";
import type { PullProgress } from "../image/pull.ts";
import { formatCanonicalJson } from "./json.ts";
import type { PullReporter } from "./progress.ts";

const PROTOCOL_VERSION = "0.1.0";
const INTERVAL_MS = 200;
const O_ACCMODE = 3;

export interface JsonOutput {
  /** Called once, with one sentence, when the reader is gone. */
  readonly warn: (text: string) => void;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

/** UsageError unless `fd` is the writing end of a pipe and not a standard stream. */
export function makeJsonReporter(fd: number, { warn, now }: JsonOutput): PullReporter {
  if (!isPipeWriter(fd)) {
    throw new UsageError("bad-value", `Cannot use fd ${fd} for progress JSON; it must be a pipe`);
  }
  let isOpen = true;
  let writtenMs = Number.NEGATIVE_INFINITY;
  let layersDone = -1;
  function send(event: Readonly<Record<string, unknown>>): void {
    if (!isOpen) return;
    try {
      writeSync(fd, `${formatCanonicalJson(event)}\n`);
      writtenMs = now();
    } catch (error) {
      // A full non-blocking pipe: this event is lost, lines are short enough never to be cut.
      if (isErrno(error, "EAGAIN")) return;
      isOpen = false;
      warn(`Failed to write to jsonl: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  send({ type: "Start", version: PROTOCOL_VERSION });
  writtenMs = Number.NEGATIVE_INFINITY;
  return {
    report: (progress) => {
      const isStep = progress.layersDone !== layersDone;
      if (!isStep && now() - writtenMs < INTERVAL_MS) return;
      layersDone = progress.layersDone;
      send(makeEvent(progress));
    },
    finish: () => {},
  };
}

function makeEvent(progress: PullProgress) {
  return {
    type: "ProgressBytes",
    task: "pulling",
    description: "Pulling composefs image",
    id: "composefs-pull",
    bytesCached: progress.bytesCached,
    bytes: progress.bytes,
    bytesTotal: progress.bytesTotal,
    stepsCached: progress.layersCached,
    steps: progress.layersDone,
    stepsTotal: progress.layersTotal,
    subtasks: [],
  };
}

function isPipeWriter(fd: number): boolean {
  if (!Number.isInteger(fd) || fd <= 2) return false;
  try {
    if (!fstatSync(fd).isFIFO()) return false;
    const [, flags = "0"] =
      /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8")) ?? [];
    return (Number.parseInt(flags, 8) & O_ACCMODE) !== 0;
  } catch {
    return false;
  }
}
