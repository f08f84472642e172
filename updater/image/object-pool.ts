// Storing objects with several threads: this one copies contents into memory that all share and goes on
// reading the layer; helpers (object-worker.ts) hash and write. Nobody is started for little.
//
// Results arrive in the order of the tasks, so what is made of them is the same whatever the threads did.
// Memory is bounded by the ring of DATA_BYTES; when it is full, this thread does some of the work itself.

import type { Repository } from "../../shared/store/repository.ts";
import {
  awaitFinished,
  claimTask,
  closeQueue,
  finishTask,
  isFinished,
  QUEUE_TASKS,
  type TaskQueue,
  taskResult,
  wakeHelpers,
} from "../../shared/sys/task-queue.ts";
import {
  createObjectQueue,
  createObjectRunner,
  type ObjectRunner,
  type ObjectTask,
  postObjectTask,
  readObjectTask,
  runObjectTask,
} from "./object-task.ts";

const DATA_BYTES = 16 << 20;
/** hashBlocks fills up the last block of a content. */
const ALIGNMENT_BYTES = 4096;
/** So much compressed data is worth another thread. */
const HELPER_COST_BYTES = 2 << 20;
const MAX_HELPERS = 4;
/** Enough work to wake a helper for: waking costs more than some tasks. */
const WAKING_BYTES = 256 << 10;

/** What became of a task. The bytes last until the callback returns. */
export type TaskOutcome =
  | { readonly result: Uint8Array }
  | { readonly result: null; readonly error: unknown };

interface Posted {
  /** Of the ring, including what is left unused before it. */
  readonly spanBytes: number;
  readonly onOutcome: (outcome: TaskOutcome) => void;
}

/** Disposing of it waits for what is being done and ends the threads. */
export interface ObjectPool extends Disposable {
  readonly repo: Repository;
  readonly maxHelpers: number;
  readonly helpers: Worker[];
  expectedBytes: number;
  /** Made with the first helper. */
  queue: TaskQueue | null;
  runner: ObjectRunner | null;
  /** The tasks not yet collected, each at its number modulo QUEUE_TASKS. */
  readonly posted: Posted[];
  /** Numbers of the next task to post and to collect; they wrap around at 2^32. */
  next: number;
  oldest: number;
  /** Where the next content goes, and what is free from there on. */
  headByte: number;
  freeBytes: number;
  /** Added since helpers were woken. */
  sinceWakingBytes: number;
}

/** `threads` with this one. */
export function createObjectPool(
  repo: Repository,
  threads: number = navigator.hardwareConcurrency,
): ObjectPool {
  return {
    repo,
    maxHelpers: Math.max(0, Math.min(threads - 1, MAX_HELPERS)),
    helpers: [],
    expectedBytes: 0,
    queue: null,
    runner: null,
    posted: [],
    next: 0,
    oldest: 0,
    headByte: 0,
    freeBytes: DATA_BYTES,
    sinceWakingBytes: 0,
    [Symbol.dispose]() {
      disposePool(this);
    },
  };
}

/** Says that a layer of so many compressed bytes is coming; starts the threads that are worth it. */
export function expectWork(pool: ObjectPool, compressedBytes: number): void {
  pool.expectedBytes += compressedBytes;
  const wanted = Math.min(pool.maxHelpers, Math.floor(pool.expectedBytes / HELPER_COST_BYTES));
  while (pool.helpers.length < wanted && startHelper(pool)) {}
}

/** Whether anybody but this thread would do a task. */
export function hasHelpers(pool: ObjectPool): boolean {
  return pool.helpers.length > 0;
}

/**
 * For a pool with helpers. `content` is copied. `onOutcome` is called by a later call of the pool, in the
 * order of the tasks.
 */
export function addObjectTask(
  pool: ObjectPool,
  task: Omit<ObjectTask, "startByte" | "lengthBytes">,
  content: Uint8Array,
  onOutcome: (outcome: TaskOutcome) => void,
): void {
  const queue = pool.queue!;
  const neededBytes = Math.ceil(content.length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  // What is collected meanwhile may add a task itself.
  while (!hasRoom(pool, neededBytes)) advance(pool);
  const skippedBytes = skipBytes(pool, neededBytes);
  const startByte = (pool.headByte + skippedBytes) % DATA_BYTES;
  const spanBytes = skippedBytes + neededBytes;
  queue.data.set(content, startByte);
  pool.headByte = (startByte + neededBytes) % DATA_BYTES;
  pool.freeBytes -= spanBytes;
  pool.posted[pool.next & (QUEUE_TASKS - 1)] = { spanBytes, onOutcome };
  postObjectTask(queue, pool.next, { ...task, startByte, lengthBytes: content.length });
  pool.next = (pool.next + 1) | 0;
  pool.sinceWakingBytes += neededBytes;
  if (pool.sinceWakingBytes < WAKING_BYTES) return;
  pool.sinceWakingBytes = 0;
  wakeHelpers(queue, 1);
}

/** Delivers the results that are there; to be called whenever this thread may be about to wait. */
export function collectFinished(pool: ObjectPool): void {
  if (pool.sinceWakingBytes > 0) {
    pool.sinceWakingBytes = 0;
    wakeHelpers(pool.queue!, 1);
  }
  while (pendingTasks(pool) > 0 && isFinished(pool.queue!, pool.oldest)) collect(pool);
}

/** Collects the oldest task if it is finished, else does one, else waits. Nothing when there is none. */
export function advance(pool: ObjectPool): void {
  if (pendingTasks(pool) === 0) return;
  const queue = pool.queue!;
  if (isFinished(queue, pool.oldest)) {
    collect(pool);
    return;
  }
  const number = claimTask(queue);
  if (number === null) {
    awaitFinished(queue, pool.oldest);
    return;
  }
  let result: Uint8Array | null = null;
  try {
    result = runObjectTask(pool.runner!, readObjectTask(queue, number));
  } catch {} // collected in its turn
  finishTask(queue, number, result);
}

/** Returns when all results have been delivered. */
export function drainPool(pool: ObjectPool): void {
  while (pendingTasks(pool) > 0) advance(pool);
}

function pendingTasks({ next, oldest }: ObjectPool): number {
  return (next - oldest) | 0;
}

function hasRoom(pool: ObjectPool, neededBytes: number): boolean {
  const spanBytes = skipBytes(pool, neededBytes) + neededBytes;
  return pendingTasks(pool) < QUEUE_TASKS && spanBytes <= pool.freeBytes;
}

/** Contents are not cut at the end of the ring. */
function skipBytes({ headByte }: ObjectPool, neededBytes: number): number {
  return headByte + neededBytes > DATA_BYTES ? DATA_BYTES - headByte : 0;
}

function collect(pool: ObjectPool): void {
  const queue = pool.queue!;
  const number = pool.oldest;
  const { spanBytes, onOutcome } = pool.posted[number & (QUEUE_TASKS - 1)]!;
  const outcome = findOutcome(pool, queue, number);
  pool.oldest = (number + 1) | 0;
  pool.freeBytes += spanBytes;
  onOutcome(outcome);
}

/** A task that failed is done again, for its error or because the trouble is over. */
function findOutcome(pool: ObjectPool, queue: TaskQueue, number: number): TaskOutcome {
  const result = taskResult(queue, number);
  if (result !== null) return { result };
  try {
    return { result: runObjectTask(pool.runner!, readObjectTask(queue, number)) };
  } catch (error) {
    return { result: null, error };
  }
}

/** False when this machine does not let us. */
function startHelper(pool: ObjectPool): boolean {
  // Compiled, both are files of the same folder inside the executable (scripts/build/bundle.ts).
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  let helper: Worker;
  try {
    helper = new Worker(new URL(`./object-worker.${extension}`, import.meta.url).href);
  } catch {
    return false; // a limit on processes: it goes on with those there are
  }
  helper.unref();
  pool.queue ??= createObjectQueue(pool.repo, DATA_BYTES);
  pool.runner ??= createObjectRunner(pool.repo, pool.queue);
  helper.postMessage(pool.queue.memory);
  pool.helpers.push(helper);
  return true;
}

function disposePool(pool: ObjectPool): void {
  drainPool(pool);
  if (pool.queue !== null) closeQueue(pool.queue);
  for (const helper of pool.helpers) helper.terminate();
  pool.helpers.length = 0;
}
