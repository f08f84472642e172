// Hashing files with several threads: this one posts the work, and does some of it itself whenever it
// would have to wait; helpers (hash-worker.ts) are started when there is enough for them to do.
//
// Synchronous from outside. Results arrive in the order of the tasks, so output and errors are the same
// whatever the threads did. At most QUEUE_TASKS tasks wait, and memory does not grow with their number.

import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import type { Fd } from "../../shared/sys/fd.ts";
import {
  awaitFinished,
  claimTask,
  closeQueue,
  finishTask,
  isFinished,
  isFlagRaised,
  QUEUE_TASKS,
  type TaskQueue,
  taskResult,
  wakeHelpers,
} from "../../shared/sys/task-queue.ts";
import type { DigestStore } from "./digest-store.ts";
import { createHashQueue, type HashTask, postHashTask, readHashTask } from "./hash-queue.ts";
import { createTaskRunner, runTask, type TaskRunner } from "./hash-task.ts";

/** What a thread costs to start, as bytes to hash; and what any file costs beside its content. */
const HELPER_COST_BYTES = 4 << 20;
const FILE_COST_BYTES = 16 << 10;
/** Enough work to wake a helper for. */
const WAKING_COST_BYTES = 256 << 10;
const MAX_THREADS = 64;

export interface PoolOptions {
  readonly algorithm: VerityAlgorithm;
  /** With this one; no more than 64 are used. */
  readonly threads: number;
  /** Where whole files are copied to. */
  readonly store: DigestStore | null;
}

interface Posted {
  readonly costBytes: number;
  readonly onResult: (result: Uint8Array) => void;
}

/** Disposing of it ends all threads and closes the files it still has. */
export interface HashPool extends Disposable {
  readonly algorithm: VerityAlgorithm;
  readonly store: DigestStore | null;
  /** Not one more than this machine has let us start. */
  maxHelpers: number;
  readonly helpers: Worker[];
  readonly queue: TaskQueue;
  readonly runner: TaskRunner;
  readonly files: Set<Fd>;
  /** The tasks not yet collected, each at its number modulo QUEUE_TASKS. */
  readonly posted: Posted[];
  /** Numbers of the next task to post and to collect; they wrap around at 2^31. */
  next: number;
  oldest: number;
  /** Costs of the tasks not yet collected; of those since a helper was started, and woken. */
  pendingBytes: number;
  sinceStartBytes: number;
  sinceWakingBytes: number;
}

/** As many as there are processors this process may use. */
export function defaultThreads(): number {
  return Math.max(1, navigator.hardwareConcurrency);
}

export function createHashPool({ algorithm, threads, store }: PoolOptions): HashPool {
  return {
    algorithm,
    store,
    maxHelpers: Math.min(threads, MAX_THREADS) - 1,
    helpers: [],
    queue: createHashQueue(algorithm, store?.dir.number ?? null),
    runner: createTaskRunner(algorithm, store),
    files: new Set(),
    posted: [],
    next: 0,
    oldest: 0,
    pendingBytes: 0,
    sinceStartBytes: 0,
    sinceWakingBytes: 0,
    [Symbol.dispose]() {
      disposePool(this);
    },
  };
}

/** From now on the pool closes this file: when told to, or when it is disposed of. */
export function adoptFile(pool: HashPool, file: Fd): void {
  pool.files.add(file);
}

export function closeFile(pool: HashPool, file: Fd): void {
  pool.files.delete(file);
  file.close();
}

/**
 * For a task whose file the pool has adopted. `onResult` is called by a later call or by `drainPool`, in
 * the order of the tasks, with bytes that last until it returns. Throws what an earlier task threw.
 */
export function addTask(
  pool: HashPool,
  task: HashTask,
  onResult: (result: Uint8Array) => void,
): void {
  while (pendingTasks(pool) === QUEUE_TASKS) advance(pool);
  const costBytes = task.lengthBytes + FILE_COST_BYTES;
  pool.posted[pool.next & (QUEUE_TASKS - 1)] = { costBytes, onResult };
  postHashTask(pool.queue, pool.next, task);
  pool.next = (pool.next + 1) | 0;
  pool.pendingBytes += costBytes;
  if (pool.maxHelpers === 0) drainPool(pool);
  else callHelpers(pool, costBytes);
  while (pendingTasks(pool) > 0 && isFinished(pool.queue, pool.oldest)) collect(pool);
}

/** Returns when all results have been delivered. */
export function drainPool(pool: HashPool): void {
  wakeHelpers(pool.queue, pool.maxHelpers);
  while (pendingTasks(pool) > 0) advance(pool);
  if (pool.store !== null && isFlagRaised(pool.queue)) pool.store.hasNew = true;
}

function pendingTasks(pool: HashPool): number {
  return (pool.next - pool.oldest) | 0;
}

/** Collects the oldest task if it is finished, else does one, else waits. */
function advance(pool: HashPool): void {
  const { queue } = pool;
  if (isFinished(queue, pool.oldest)) {
    collect(pool);
    return;
  }
  const number = claimTask(queue);
  if (number === null) awaitFinished(queue, pool.oldest);
  else runOwn(pool, number);
}

function runOwn({ queue, runner }: HashPool, number: number): void {
  let result: Uint8Array | null = null;
  try {
    result = runTask(runner, readHashTask(queue, number));
  } catch {} // collected in its turn, and thrown then
  finishTask(queue, number, result);
}

function collect(pool: HashPool): void {
  const { queue, runner, oldest } = pool;
  const { onResult, costBytes } = pool.posted[oldest & (QUEUE_TASKS - 1)]!;
  // A task that failed is done again, for its error.
  const result = taskResult(queue, oldest) ?? runTask(runner, readHashTask(queue, oldest));
  pool.oldest = (oldest + 1) | 0;
  pool.pendingBytes -= costBytes;
  onResult(result);
}

function callHelpers(pool: HashPool, costBytes: number): void {
  pool.sinceWakingBytes += costBytes;
  pool.sinceStartBytes += costBytes;
  if (pool.sinceWakingBytes > WAKING_COST_BYTES) {
    wakeHelpers(pool.queue, 1);
    pool.sinceWakingBytes = 0;
  }
  if (pool.sinceStartBytes <= HELPER_COST_BYTES || pool.helpers.length === pool.maxHelpers) return;
  const isBehind = pendingTasks(pool) > QUEUE_TASKS / 4 || pool.pendingBytes > HELPER_COST_BYTES;
  if (isBehind) startHelper(pool);
}

function startHelper(pool: HashPool): void {
  pool.sinceStartBytes = 0;
  // Compiled, both are files of the same folder inside the executable (scripts/build/bundle.ts).
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  let helper: Worker;
  try {
    helper = new Worker(new URL(`./hash-worker.${extension}`, import.meta.url).href);
  } catch {
    pool.maxHelpers = pool.helpers.length; // a limit on processes: it goes on with those there are
    return;
  }
  helper.unref();
  helper.postMessage(pool.queue.memory);
  pool.helpers.push(helper);
}

function disposePool(pool: HashPool): void {
  const { queue } = pool;
  closeQueue(queue);
  // What nobody has begun nobody shall begin; the rest ends soon, and may use its file until then.
  const unclaimed = new Set<number>();
  for (let n = claimTask(queue); n !== null; n = claimTask(queue)) unclaimed.add(n);
  for (; pendingTasks(pool) > 0; pool.oldest = (pool.oldest + 1) | 0) {
    if (!unclaimed.has(pool.oldest)) awaitFinished(queue, pool.oldest);
  }
  for (const file of pool.files) file.close();
  pool.files.clear();
  for (const helper of pool.helpers) helper.terminate();
}
