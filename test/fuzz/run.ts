// One input through one target: was it accepted, refused as documented, or is there a finding?
//
// Besides what the target checks, some promises hold for every input: only documented errors come out,
// Object.prototype stays as it is, and steps and memory stay within a constant for each byte of input.
// Steps are counted and not timed, so a finding is a finding on every machine; time is looked at for
// what counters cannot see (regular expressions, sorting, zstd).

import type { LoadedTarget } from "./bundle.ts";

export interface Finding {
  readonly kind: "error" | "property" | "cost" | "slow" | "crash";
  /** Equal for inputs with the same cause, as far as a program can tell. */
  readonly signature: string;
  readonly detail: string;
}

export interface Outcome {
  readonly accepted: boolean;
  readonly finding: Finding | null;
  readonly milliseconds: number;
}

const BASE_STEPS = 200_000;
const BASE_MEMORY_BYTES = 8 << 20;
const DEFAULT_STEPS_PER_BYTE = 250;
const DEFAULT_MEMORY_PER_BYTE = 256;
const DEFAULT_ERRORS = ["FormatError", "IntegrityError"];
const SLOW_MS = 250;
const SLOW_MS_PER_BYTE = 0.01;
const SLOW_TRIES = 3;
const OBJECT_PROPERTIES = Object.getOwnPropertyNames(Object.prototype).length;

/** Runs `input`; the counters then hold what it did. */
export async function runInput(loaded: LoadedTarget, input: Uint8Array): Promise<Outcome> {
  const outcome = await runOnce(loaded, input);
  const limitMs = SLOW_MS + input.length * SLOW_MS_PER_BYTE;
  if (outcome.finding !== null || outcome.milliseconds <= limitMs) return outcome;
  // Other programs may have had the processor: only what takes its time every time is slow.
  for (let i = 0; i < SLOW_TRIES; i++) {
    const before = process.cpuUsage();
    const again = await runOnce(loaded, input);
    const { user, system } = process.cpuUsage(before);
    if ((user + system) / 1000 <= limitMs) return again;
  }
  const detail = `more than ${limitMs.toFixed(0)} ms of processor time for ${input.length} bytes`;
  return { ...outcome, finding: { kind: "slow", signature: "slow", detail } };
}

async function runOnce(loaded: LoadedTarget, input: Uint8Array): Promise<Outcome> {
  const { target, meter } = loaded;
  resetMeter(loaded, input.length);
  const started = performance.now();
  let accepted = false;
  let finding: Finding | null = null;
  try {
    const result = target.check(input);
    accepted = typeof result === "boolean" ? result : await result;
  } catch (error) {
    finding = judge(error, target.errors ?? DEFAULT_ERRORS);
  }
  const milliseconds = performance.now() - started;
  // Even where the code caught the error that ended the run.
  if (meter.steps > meter.maxSteps || meter.bytes > meter.maxBytes) {
    finding = describeCost(loaded, input.length);
  }
  if (Object.getOwnPropertyNames(Object.prototype).length !== OBJECT_PROPERTIES) {
    const detail = `Object.prototype has ${Object.getOwnPropertyNames(Object.prototype).join(", ")}`;
    finding = { kind: "property", signature: "Prototype changed", detail };
  }
  return { accepted, finding, milliseconds };
}

function resetMeter({ target, counters, points, meter }: LoadedTarget, sizeBytes: number): void {
  counters.fill(0, 0, points.length);
  meter.steps = 0;
  meter.bytes = 0;
  meter.largestBytes = 0;
  meter.maxSteps = BASE_STEPS + sizeBytes * (target.stepsPerByte ?? DEFAULT_STEPS_PER_BYTE);
  meter.maxBytes =
    BASE_MEMORY_BYTES + sizeBytes * (target.memoryPerByte ?? DEFAULT_MEMORY_PER_BYTE);
}

function describeCost({ meter, counters, points }: LoadedTarget, sizeBytes: number): Finding {
  const isSteps = meter.steps > meter.maxSteps;
  const busiest = points.reduce((best, _, i) => (counters[i]! > counters[best]! ? i : best), 0);
  const place = points[busiest];
  return {
    kind: "cost",
    signature: `cost ${isSteps ? "steps" : "bytes"} ${place}`,
    detail: `${sizeBytes} bytes took ${meter.steps} steps, asked for ${meter.bytes} bytes; most at ${place}`,
  };
}

function judge(error: unknown, documented: readonly string[]): Finding | null {
  if (!(error instanceof Error)) {
    return { kind: "error", signature: `throws ${typeof error}`, detail: String(error) };
  }
  if (documented.includes(error.name)) return null;
  const detail = error.stack ?? String(error);
  if (error.name === "PropertyError") {
    return { kind: "property", signature: error.message.split(":")[0]!, detail };
  }
  const frame = /^\s*at (?:async )?([\w.#<>$ ]+)/m.exec(detail)?.[1]?.trim() ?? "";
  const message = error.message.replaceAll(/\d+/g, "#").slice(0, 80);
  return { kind: "error", signature: `${error.name} ${frame} ${message}`, detail };
}
