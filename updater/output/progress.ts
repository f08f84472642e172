// Progress of an update for people: one line that is drawn again and again on a terminal, a few plain
// lines elsewhere (journals, pipes). The caller gives a place to write; `--quiet` is no reporter.

import type { UpdateStep } from "../deploy/update-step.ts";
import type { PullProgress } from "../image/pull-progress.ts";
import { formatDuration, RateMeter } from "./transfer-rate.ts";

export interface ProgressReporter {
  /** To be given to `pullImage` as `onProgress`. */
  readonly report: (progress: PullProgress) => void;
  /** What comes after the fetch; null when all of it is done. */
  readonly step: (step: UpdateStep | null) => void;
  /** To be called now and then, so that it can be seen that time passes. */
  readonly tick: () => void;
  /** After the last of it, however that ended; leaves the cursor at the start of a line. */
  readonly finish: () => void;
}

export interface TextOutput {
  readonly write: (text: string) => void;
  /** Width of the terminal; null when it is none. */
  readonly columns: number | null;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

const REDRAW_MS = 100;
const CLEAR_LINE = "\r\u001b[K";
/** Plain output says something each time another tenth has arrived, and when it was silent for so long. */
const TENTHS = 10;
const FIRST_SILENCE_MS = 30_000;
const MAX_BAR_COLUMNS = 40;
/** Shorter steps are not worth a number. */
const TIMED_STEP_MS = 1000;
/** Between the last layer and the first step: everything is to be on the disk before it gets its names. */
const FLUSHING = "Writing to the disk";

export function makeTextReporter(output: TextOutput): ProgressReporter {
  return output.columns === null ? makeLineReporter(output) : makeBarReporter(output);
}

function makeBarReporter({ write, columns, now }: TextOutput): ProgressReporter {
  const meter = new RateMeter(now);
  const line = new LiveLine(write, now);
  const width = (columns ?? 80) - 1; // writing in the last column makes some terminals wrap
  let isFlushing = false;
  function showStep(text: string): void {
    const startMs = now();
    line.show(() => describeStep(text, now() - startMs).slice(0, width));
  }
  return {
    report: (progress) => {
      meter.count(progress.bytes);
      if (!isComplete(progress)) {
        line.show(() => drawBar(progress, meter, width));
        line.redraw();
        return;
      }
      line.end(summarize(progress, meter.elapsedMs()));
      isFlushing = true;
      showStep(FLUSHING); // seen only when it takes a while, and nothing of it stays
    },
    step: (step) => {
      line.end(isFlushing ? null : line.text());
      isFlushing = false;
      if (step === null) return;
      showStep(step.text);
      line.redraw();
    },
    tick: () => line.redraw(),
    finish: () => line.leave(),
  };
}

/** The terminal's last line, drawn again and again. */
class LiveLine {
  readonly #write: (text: string) => void;
  readonly #now: () => number;
  #draw: (() => string) | null = null;
  #isDrawn = false;
  #drawnMs = Number.NEGATIVE_INFINITY;

  constructor(write: (text: string) => void, now: () => number) {
    this.#write = write;
    this.#now = now;
  }

  /** From the next `redraw` on. */
  show(draw: () => string): void {
    this.#draw = draw;
  }

  redraw(): void {
    if (this.#draw === null || this.#now() - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = this.#now();
    this.#isDrawn = true;
    this.#write(`${CLEAR_LINE}${this.#draw()}`);
  }

  /** What it would show now; null when nothing. */
  text(): string | null {
    return this.#draw?.() ?? null;
  }

  /** Replaces it by a line that stays, or by none. */
  end(line: string | null): void {
    if (this.#isDrawn) this.#write(CLEAR_LINE);
    if (line !== null) this.#write(`${line}\n`);
    this.#forget();
  }

  /** Whatever it shows stays. */
  leave(): void {
    if (this.#isDrawn) this.#write("\n");
    this.#forget();
  }

  #forget(): void {
    this.#draw = null;
    this.#isDrawn = false;
    this.#drawnMs = Number.NEGATIVE_INFINITY;
  }
}

function makeLineReporter({ write, now }: TextOutput): ProgressReporter {
  const meter = new RateMeter(now);
  let saidTenths = -1;
  let silenceMs = FIRST_SILENCE_MS;
  let saidMs = now();
  let last: PullProgress | null = null;
  function say(line: string): void {
    saidMs = now();
    write(`${line}\n`);
  }
  return {
    report: (progress) => {
      meter.count(progress.bytes);
      const tenths = Math.floor(fraction(progress) * TENTHS);
      if (isComplete(progress)) say(summarize(progress, meter.elapsedMs()));
      else if (saidTenths < 0) say(announce(progress));
      else if (tenths > saidTenths) say(`Fetching: ${describe(progress, meter)}`);
      saidTenths = tenths;
      last = isComplete(progress) ? null : progress;
    },
    step: (step) => {
      last = null;
      if (step !== null) say(step.text);
    },
    // Twice as long each time: a day of waiting is a dozen lines.
    tick: () => {
      if (last === null || now() - saidMs < silenceMs) return;
      silenceMs *= 2;
      say(`Fetching: ${describe(last, meter)}`);
    },
    finish: () => {
      last = null;
    },
  };
}

function isComplete({ layersDone, layersTotal }: PullProgress): boolean {
  return layersDone === layersTotal;
}

function fraction({ bytes, bytesTotal }: PullProgress): number {
  return bytesTotal === 0 ? 0 : Math.min(bytes / bytesTotal, 1);
}

function announce({ layersTotal, bytesTotal, layersCached }: PullProgress): string {
  const cached = layersCached === 0 ? "" : `, ${layersCached} already here`;
  return `Fetching ${countLayers(layersTotal)} (${formatSize(bytesTotal)})${cached}`;
}

function describe(progress: PullProgress, meter: RateMeter): string {
  const { bytes, bytesTotal, layersDone, layersTotal } = progress;
  return [
    `${formatSize(bytes)} of ${formatSize(bytesTotal)}`,
    ...describeRate(progress, meter),
    `${layersDone} of ${countLayers(layersTotal)}`,
  ].join(", ");
}

/** Nothing as long as there is nothing to say. */
function describeRate({ bytes, bytesTotal }: PullProgress, meter: RateMeter): string[] {
  if (bytes >= bytesTotal) return ["unpacking"];
  const rate = meter.bytesPerSecond();
  if (rate === null) return [];
  if (rate === 0) return ["waiting"];
  const leftMs = ((bytesTotal - bytes) / rate) * 1000;
  return [`${formatSize(rate)}/s`, `${formatDuration(leftMs)} left`];
}

function describeStep(text: string, elapsedMs: number): string {
  return elapsedMs < TIMED_STEP_MS ? text : `${text} (${formatDuration(elapsedMs)})`;
}

function summarize({ layersTotal, layersCached, bytes }: PullProgress, elapsedMs: number): string {
  if (layersTotal === 0) return `All layers (${layersCached}) are already here`;
  const seconds = Math.max(elapsedMs / 1000, 0.1).toFixed(1);
  return `Fetched ${countLayers(layersTotal)} (${formatSize(bytes)}) in ${seconds} s`;
}

function drawBar(progress: PullProgress, meter: RateMeter, columns: number): string {
  const text = ` ${describe(progress, meter)}`;
  const width = Math.min(columns - text.length - 2, MAX_BAR_COLUMNS);
  if (width < 4) return text.slice(1, columns + 1);
  const full = Math.floor(fraction(progress) * width);
  return `[${"#".repeat(full)}${".".repeat(width - full)}]${text}`;
}

function countLayers(count: number): string {
  return count === 1 ? "1 layer" : `${count} layers`;
}

export function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${Math.round(sizeBytes)} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = sizeBytes / 1024;
  let index = 0;
  for (; value >= 1023.95 && index < units.length - 1; index++) value /= 1024;
  return `${value.toFixed(1)} ${units[index]}`;
}
