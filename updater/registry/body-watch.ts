// Reading a response's body as long as it makes progress. Only time in which we wait counts: a consumer may be
// as slow as it likes.

import { explainFailure, httpFailure } from "./http-failure.ts";
import { MAX_SMALL_BODY_BYTES, type RegistryLimits } from "./limits.ts";

export type ResponseBody = AsyncIterable<Uint8Array> & { destroy(): unknown };

export interface BodyContext {
  /** Ends the request; its reason is what reading fails with. */
  readonly stop: AbortController;
  readonly release: () => void;
  readonly limits: RegistryLimits;
}

/** Passes the body on while it makes progress. */
export async function* watchBody(
  url: URL,
  body: ResponseBody,
  { stop, release, limits }: BodyContext,
): AsyncGenerator<Uint8Array> {
  const progress = { waitingSince: performance.now(), isWaiting: false, waitedMs: 0, bytes: 0 };
  const timer = setInterval(
    () => {
      const stalled = judgeProgress(progress, limits);
      if (stalled !== null) stop.abort(httpFailure("timeout", `"${url.host}" ${stalled}`));
    },
    Math.min(1000, limits.idleTimeoutMs / 4, limits.rateWindowMs / 4),
  );
  const chunks: AsyncIterator<Uint8Array> = body[Symbol.asyncIterator]();
  try {
    for (;;) {
      progress.waitingSince = performance.now();
      progress.isWaiting = true;
      const next = await chunks.next();
      progress.isWaiting = false;
      if (next.done) return;
      progress.waitedMs += performance.now() - progress.waitingSince;
      progress.bytes += next.value.length;
      yield next.value;
    }
  } catch (cause) {
    throw stop.signal.aborted ? stop.signal.reason : explainFailure(cause, url, null);
  } finally {
    clearInterval(timer);
    release();
    body.destroy();
  }
}

interface BodyProgress {
  waitingSince: number;
  isWaiting: boolean;
  waitedMs: number;
  bytes: number;
}

/** Why a body is given up, or null; starts a new window when the old one was good. */
function judgeProgress(progress: BodyProgress, limits: RegistryLimits): string | null {
  const idleMs = progress.isWaiting ? performance.now() - progress.waitingSince : 0;
  if (idleMs > limits.idleTimeoutMs) {
    return `sent nothing for ${limits.idleTimeoutMs / 1000} seconds`;
  }
  const waitedMs = progress.waitedMs + idleMs;
  if (waitedMs < limits.rateWindowMs) return null;
  const rate = (progress.bytes / waitedMs) * 1000;
  if (rate < limits.minRateBytesPerSecond) {
    return `sends only ${Math.round(rate)} bytes per second`;
  }
  // The time of the present wait counts in the window it ends in.
  progress.waitedMs = -idleMs;
  progress.bytes = 0;
  return null;
}

const SMALL_BODY_TIMEOUT_MS = 5000;

/** The beginning of the body; `close` is called when it takes too long, and at the end. */
export async function readSmallBody(body: ResponseBody, close: () => void): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  const timer = setTimeout(close, SMALL_BODY_TIMEOUT_MS);
  try {
    for await (const part of body) {
      parts.push(part);
      sizeBytes += part.length;
      if (sizeBytes > MAX_SMALL_BODY_BYTES) break;
    }
  } catch {
    // It only serves to explain a failure; what came is enough.
  } finally {
    clearTimeout(timer);
    close();
  }
  return Buffer.concat(parts).subarray(0, MAX_SMALL_BODY_BYTES);
}
