// Progress of a pull for people: one line that is drawn again and again on a terminal, a few plain
// lines elsewhere (journals, pipes). The caller gives a place to write; `--quiet` is no reporter.

import type { PullProgress } from "../image/pull.ts";

export interface PullReporter {
  /** To be given to `pullImage` as `onProgress`. */
  readonly report: (progress: PullProgress) => void;
  /** After the pull, however it ended; leaves the cursor at the start of a line. */
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
/** Plain output says something each time another tenth has arrived. */
const TENTHS = 10;

export function makeTextReporter(output: TextOutput): PullReporter {
  return output.columns === null ? makeLineReporter(output) : makeBarReporter(output);
}

function makeBarReporter({ write, columns, now }: TextOutput): PullReporter {
  const startMs = now();
  let drawnMs = Number.NEGATIVE_INFINITY;
  let isDrawn = false;
  return {
    report: (progress) => {
      if (isComplete(progress)) {
        write(`${isDrawn ? CLEAR_LINE : ""}${summarize(progress, now() - startMs)}\n`);
        isDrawn = false;
      } else if (now() - drawnMs >= REDRAW_MS) {
        drawnMs = now();
        write(`${CLEAR_LINE}${drawBar(progress, columns ?? 80)}`);
        isDrawn = true;
      }
    },
    finish: () => {
      if (isDrawn) write("\n");
      isDrawn = false;
    },
  };
}

function makeLineReporter({ write, now }: TextOutput): PullReporter {
  const startMs = now();
  let saidTenths = -1;
  return {
    report: (progress) => {
      const tenths = Math.floor(fraction(progress) * TENTHS);
      if (isComplete(progress)) write(`${summarize(progress, now() - startMs)}\n`);
      else if (saidTenths < 0) write(`${announce(progress)}\n`);
      else if (tenths > saidTenths) write(`Fetching: ${describe(progress)}\n`);
      saidTenths = tenths;
    },
    finish: () => {},
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

function describe({ bytes, bytesTotal, layersDone, layersTotal }: PullProgress): string {
  return `${formatSize(bytes)} of ${formatSize(bytesTotal)}, ${layersDone} of ${countLayers(layersTotal)}`;
}

function summarize({ layersTotal, layersCached, bytes }: PullProgress, elapsedMs: number): string {
  if (layersTotal === 0) return `All layers (${layersCached}) are already here`;
  const seconds = Math.max(elapsedMs / 1000, 0.1).toFixed(1);
  return `Fetched ${countLayers(layersTotal)} (${formatSize(bytes)}) in ${seconds} s`;
}

function drawBar(progress: PullProgress, columns: number): string {
  const text = ` ${describe(progress)}`;
  // One column stays free: writing in the last one makes some terminals wrap.
  const width = Math.min(columns - 1 - text.length - 2, 40);
  if (width < 4) return text.slice(1, columns);
  const full = Math.floor(fraction(progress) * width);
  return `[${"#".repeat(full)}${".".repeat(width - full)}]${text}`;
}

function countLayers(count: number): string {
  return count === 1 ? "1 layer" : `${count} layers`;
}

function formatSize(sizeBytes: number): string {
  if (sizeBytes < 1024) return `${sizeBytes} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let value = sizeBytes / 1024;
  let index = 0;
  for (; value >= 1023.95 && index < units.length - 1; index++) value /= 1024;
  return `${value.toFixed(1)} ${units[index]}`;
}
