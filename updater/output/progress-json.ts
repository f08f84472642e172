// Progress of an update for programs, `--progress-fd N` (bootc.md 2.4): canonical JSON, one event a line,
// the first one `Start`. Bytes are compressed, steps of the pull are layers. At most five events a second,
// except those that begin or finish something. A reader that goes away does not stop the update.

import { fstatSync, readFileSync, writeSync } from "node:fs";
import { isErrno, UsageError } from "../../shared/error.ts";
import type { UpdateStep } from "../deploy/update-step.ts";
import type { LayerProgress, PullProgress } from "../image/pull-progress.ts";
import { formatCanonicalJson } from "./json.ts";
import type { ProgressReporter } from "./progress.ts";

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
export function makeJsonReporter(fd: number, { warn, now }: JsonOutput): ProgressReporter {
  if (!isPipeWriter(fd)) {
    throw new UsageError("bad-value", `Cannot use fd ${fd} for progress JSON; it must be a pipe`);
  }
  const lines = new LineWriter(fd, warn);
  let writtenMs = Number.NEGATIVE_INFINITY;
  let layersDone = -1;
  let current: UpdateStep | null = null;
  function send(event: Readonly<Record<string, unknown>>, isRequired: boolean): void {
    if (!isRequired && now() - writtenMs < INTERVAL_MS) return;
    if (lines.write(`${formatCanonicalJson(event)}\n`, isRequired)) writtenMs = now();
  }
  send({ type: "Start", version: PROTOCOL_VERSION }, true);
  return {
    report: (progress) => {
      const isStep = progress.layersDone !== layersDone;
      layersDone = progress.layersDone;
      send(makePullEvent(progress), isStep);
    },
    step: (step) => {
      if (current !== null && current.task !== step?.task) {
        send(makeStepEvent(current, true), true);
      }
      if (step !== null) send(makeStepEvent(step, false), true);
      current = step;
    },
    tick: () => lines.flush(),
    finish: () => lines.flush(),
  };
}

/**
 * Whole lines, also into a pipe that is full for the moment and does not block: then the rest waits, as do
 * lines that are required; others are dropped.
 */
class LineWriter {
  readonly #fd: number;
  readonly #warn: (text: string) => void;
  #rest: Uint8Array = new Uint8Array(0);
  #isOpen = true;

  constructor(fd: number, warn: (text: string) => void) {
    this.#fd = fd;
    this.#warn = warn;
  }

  /** False when it was dropped. */
  write(line: string, isRequired: boolean): boolean {
    this.flush();
    if (!this.#isOpen || (this.#rest.length > 0 && !isRequired)) return false;
    this.#rest = Buffer.concat([this.#rest, Buffer.from(line)]);
    this.flush();
    return true;
  }

  flush(): void {
    try {
      while (this.#isOpen && this.#rest.length > 0) {
        this.#rest = this.#rest.subarray(writeSync(this.#fd, this.#rest));
      }
    } catch (error) {
      if (isErrno(error, "EAGAIN")) return;
      this.#isOpen = false;
      const problem = error instanceof Error ? error.message : String(error);
      this.#warn(`Failed to write to jsonl: ${problem}`);
    }
  }
}

function makePullEvent(progress: PullProgress) {
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
    subtasks: progress.layers.filter(({ bytes }) => bytes > 0).map(makeLayerSubtask),
  };
}

function makeLayerSubtask({ digest, bytesCached, bytes, bytesTotal }: LayerProgress) {
  return {
    subtask: "composefs_layer",
    description: `Layer ${digest}`,
    id: digest,
    bytesCached,
    bytes,
    bytesTotal,
  };
}

const DESCRIPTIONS = {
  importing: "Importing composefs image",
  staging: "Deploying image",
} as const satisfies Record<UpdateStep["task"], string>;

/** `step` is what begins, or, when the task is done, its last one. */
function makeStepEvent(step: UpdateStep, isDone: boolean) {
  const { task, subtask, id, index, total, text } = step;
  return {
    type: "ProgressSteps",
    task,
    description: DESCRIPTIONS[task],
    id: `composefs-${task}`,
    stepsCached: 0,
    steps: isDone ? total : index,
    stepsTotal: total,
    subtasks: [{ subtask, description: text, id, completed: isDone }],
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
