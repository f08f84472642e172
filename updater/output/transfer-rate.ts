// How fast bytes arrive: the mean of the last seconds, so that neither a burst nor the past decides.

const WINDOW_MS = 5000;
const SAMPLE_MS = 250;
/** Before that a rate says nothing. */
const MIN_ELAPSED_MS = 1000;

export class RateMeter {
  readonly #now: () => number;
  #startMs: number;
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  #bytes = 0;

  constructor(now: () => number) {
    this.#now = now;
    this.#startMs = now();
  }

  /** The bytes there are by now; the clock starts with the first call. */
  count(bytes: number): void {
    const atMs = this.#now();
    if (this.#samples.length === 0) this.#startMs = atMs;
    this.#bytes = bytes;
    const last = this.#samples.at(-1);
    if (last === undefined || atMs - last.atMs >= SAMPLE_MS) this.#samples.push({ atMs, bytes });
  }

  elapsedMs(): number {
    return this.#now() - this.#startMs;
  }

  /** Null as long as it is too early to tell. */
  bytesPerSecond(): number | null {
    const nowMs = this.#now();
    if (nowMs - this.#startMs < MIN_ELAPSED_MS) return null;
    while (this.#samples.length > 1 && this.#samples[1]!.atMs <= nowMs - WINDOW_MS) {
      this.#samples.shift();
    }
    // The first sample is the newest one that is older than the window.
    const { atMs, bytes } = this.#samples[0]!;
    return ((this.#bytes - bytes) * 1000) / (nowMs - atMs);
  }
}

/** "4 s", "2 min 5 s", "1 h 3 min". */
export function formatDuration(ms: number): string {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
