// Trying again: which failures may pass, how long to wait, and Retry-After (RFC 9110 10.2.3).

import { sleepAbortably } from "../../shared/abortable.ts";
import { RegistryError } from "../../shared/error.ts";
import type { RegistryLimits } from "./limits.ts";

const MAX_BACKOFF_MS = 16_000;

/** Overload, an interrupted connection: things that pass. `failure` is http.ts's. */
export function isRetryable(error: unknown): boolean {
  if (!(error instanceof RegistryError)) return false;
  if (error.code === "rate-limited") return true;
  const { failure } = error.context;
  return error.code === "unavailable" && failure !== "certificate" && failure !== "tls";
}

/** Milliseconds from `nowMs` that a Retry-After field asks for: seconds or a date; null when neither. */
export function parseRetryAfter(field: string | null, nowMs: number): number | null {
  const text = field?.trim() ?? "";
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  // Date.parse would take nearly anything for a date.
  if (!/^[A-Z][a-z]{2,8},? /.test(text)) return null;
  const timeMs = Date.parse(text);
  return Number.isNaN(timeMs) ? null : Math.max(0, timeMs - nowMs);
}

/** Waiting before the rounds of one request; bounded over all of them. */
export interface RetryWaits {
  /** False when there is nothing left to wait; throws the signal's reason when it is given up. */
  wait(round: number, error: unknown, signal: AbortSignal | undefined): Promise<boolean>;
}

export function openRetryWaits(limits: RegistryLimits): RetryWaits {
  let leftMs = limits.maxWaitMs;
  return {
    async wait(round, error, signal) {
      if (round + 1 >= limits.attempts) return false;
      const asked = error instanceof RegistryError ? error.context["retryAfterMs"] : undefined;
      const backoffMs = Math.min(limits.backoffMs * 2 ** round, MAX_BACKOFF_MS);
      // Machines that were refused together must not come back together.
      const spreadMs = backoffMs * (0.75 + Math.random() / 2);
      const waitMs = Math.max(typeof asked === "number" ? asked : 0, spreadMs);
      if (waitMs > leftMs) return false;
      leftMs -= waitMs;
      await sleepAbortably(waitMs, signal);
      return true;
    },
  };
}
