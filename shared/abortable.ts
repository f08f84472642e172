// Waiting that ends at once when a signal says so, whatever the other side does.
//
// What is still going on then is left to itself: it must hold nothing that has to be given back, or end
// by the same signal.

/** The promise's result; throws the signal's reason as soon as it is aborted. */
export async function raceAbort<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return await promise;
  // Nobody may be left who looks at it.
  promise.catch(() => {});
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Passes on what `source` gives; an iterator that hangs is not waited for. */
export async function* abortable<T>(
  source: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  signal?.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  let isDone = false;
  try {
    for (;;) {
      const next = await raceAbort(iterator.next(), signal);
      isDone = next.done === true;
      if (next.done === true) return;
      yield next.value;
      signal?.throwIfAborted();
    }
  } catch (error) {
    isDone ||= signal?.aborted !== true;
    throw error;
  } finally {
    if (!isDone) {
      const returned = Promise.resolve(iterator.return?.());
      if (signal?.aborted === true) returned.catch(() => {});
      else await returned;
    }
  }
}

/** Resolves after `timeMs`. */
export async function sleepAbortably(
  timeMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, timeMs);
  try {
    await raceAbort(promise, signal);
  } finally {
    clearTimeout(timer);
  }
}
