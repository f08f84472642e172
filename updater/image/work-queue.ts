// Several things at a time, until all are done or one fails.

/**
 * Runs `work` on every item, `count` at a time. The first failure aborts `failure`, which `work` and the
 * caller have to look at: those of the others are only its echo, and no new item is begun.
 */
export async function workThrough<T>(
  items: readonly T[],
  count: number,
  failure: AbortController,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  async function workOn(): Promise<void> {
    while (next < items.length && !failure.signal.aborted) await work(items[next++]!);
  }
  const workers = Array.from({ length: count }, () =>
    workOn().catch((error: unknown) => {
      if (!failure.signal.aborted) failure.abort(error);
    }),
  );
  await Promise.all(workers);
}
