// Keeps buffers that nobody uses any more from piling up: the engine hardly sees how much memory they hold, and
// by itself collects them every few hundred megabytes. Whoever makes buffers for everything that passes, tells.

const COLLECT_BYTES = 40 << 20;

let sinceCollection = 0;

/** `sizeBytes` more are garbage, or soon will be. Takes some milliseconds every now and then. */
export function countGarbage(sizeBytes: number): void {
  sinceCollection += sizeBytes;
  if (sinceCollection < COLLECT_BYTES) return;
  sinceCollection = 0;
  Bun.gc(true);
}
