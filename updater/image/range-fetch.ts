// One stretch of a blob from a server, in order, whatever breaks on the way.
//
// A body that breaks off is continued from the byte reached; attempts that bring nothing are counted,
// and waits between them grow. A server that cannot start in the middle is read from the blob's beginning
// and what is not wanted is passed over. Nothing is verified here.

import { abortable, sleepAbortably } from "../../shared/abortable.ts";
import { RegistryError, UnsupportedError } from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { isRetryable } from "../registry/retry.ts";
import type { ByteRange, ImageSource } from "./resolved-image.ts";

/** Attempts in a row that bring less than PROGRESS_BYTES each. */
const MAX_FRUITLESS_ATTEMPTS = 5;
const PROGRESS_BYTES = 64 * 1024;
const FIRST_WAIT_MS = 200;

/** What is known about a source, for all its blobs. */
export interface RangeSupport {
  /** It said that it cannot start in the middle. */
  isMissing: boolean;
}

export interface RangeFetch {
  readonly source: ImageSource;
  readonly layer: Descriptor;
  readonly support: RangeSupport;
  readonly signal: AbortSignal;
  /** Times the waits between attempts; 1 unless a test is in a hurry. */
  readonly patience: number;
}

/**
 * The bytes of `range`. RegistryError when the server gave up or brings nothing any more. The first time
 * a server turns out to have no ranges this is UnsupportedError, so that the caller can use fewer connections.
 */
export async function* fetchRange(fetch: RangeFetch, range: ByteRange): AsyncGenerator<Uint8Array> {
  let position = range.startByte;
  let fruitless = 0;
  while (position < range.endByte) {
    const before = position;
    try {
      for await (const chunk of openAttempt(fetch, { ...range, startByte: position })) {
        position += chunk.length;
        yield chunk;
      }
      if (position < range.endByte) throw brokenOff(fetch, position);
    } catch (error) {
      fetch.signal.throwIfAborted();
      if (!isRetryable(error)) throw error;
      fruitless = position - before < PROGRESS_BYTES ? fruitless + 1 : 0;
      if (fruitless >= MAX_FRUITLESS_ATTEMPTS) throw error;
      await sleepAbortably(fetch.patience * FIRST_WAIT_MS * 2 ** fruitless, fetch.signal);
    }
  }
}

async function* openAttempt(fetch: RangeFetch, range: ByteRange): AsyncGenerator<Uint8Array> {
  const startByte = fetch.support.isMissing ? 0 : range.startByte;
  let position = startByte;
  try {
    const { source, layer, signal } = fetch;
    const body = source.openRange!(layer, { ...range, startByte }, signal);
    for await (const chunk of abortable(body, signal)) {
      // A server may send more than it was asked for.
      const from = Math.max(0, range.startByte - position);
      const wanted = chunk.subarray(from, Math.max(from, range.endByte - position));
      position += chunk.length;
      if (wanted.length > 0) yield wanted;
      if (position >= range.endByte) return;
    }
  } catch (error) {
    if (isRangeRefusal(error)) fetch.support.isMissing = true;
    throw error;
  }
}

export function isRangeRefusal(error: unknown): boolean {
  return error instanceof UnsupportedError && error.code === "feature";
}

function brokenOff({ source, layer }: RangeFetch, position: number): RegistryError {
  return new RegistryError(
    "unavailable",
    `Layer ${layer.digest} of "${source.name}" broke off at byte ${position} of ${layer.size}`,
  );
}

/** The whole rest of a layer, whatever the server can. */
export async function* streamRest(
  fetch: RangeFetch,
  startByte: number,
): AsyncGenerator<Uint8Array> {
  let position = startByte;
  const endByte = fetch.layer.size;
  for (;;) {
    const wasKnown = fetch.support.isMissing;
    try {
      for await (const chunk of fetchRange(fetch, { startByte: position, endByte })) {
        position += chunk.length;
        yield chunk;
      }
      return;
    } catch (error) {
      if (wasKnown || !isRangeRefusal(error)) throw error;
    }
  }
}
