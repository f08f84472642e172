// Memory that threads share to hand out work: a ring of tasks that one thread posts, any thread claims and
// the poster collects in order. No thread needs its event loop for it.
//
// A task belongs to the poster until it is posted, then to whoever claims it until it is finished, then to
// the poster again. Every change of hands is one atomic operation, which also makes the plain fields visible.

import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";

/** A power of two: task numbers run on and wrap around at 2^32. */
export const QUEUE_TASKS = 256;
/** Room for a task's result: what 1 MiB comes to in hashes of blocks of hashes, with SHA-512. */
const RESULT_BYTES = 256;

/** What to do with an open file; its descriptor number is good in every thread. */
export interface HashTask {
  /** A whole file: its digest. A range: the hashes of its blocks of hashes. */
  readonly kind: "file" | "range";
  readonly fd: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Time of the last change of a whole file when its size was `lengthBytes`. */
  readonly mtimeSec: number;
  readonly mtimeNsec: number;
}

export interface HashQueue {
  readonly memory: SharedArrayBuffer;
  readonly control: Int32Array;
  /** State, kind, descriptor and size of the result of each task. */
  readonly heads: Int32Array;
  readonly fields: Float64Array;
  readonly results: Uint8Array;
}

// Words of `control`.
const POSTED = 0;
const CLAIMED = 1;
const SLEEPING = 2;
const CLOSED = 3;
const POSTER_WAITS = 4;
const ALGORITHM = 5;
const STORE = 6;
const STORED_NEW = 7;
const CONTROL_WORDS = 8;

const HEAD_WORDS = 4;
const FIELDS = 4;
/** States; a task is "ready" from being posted until it is finished. */
const READY = 0;
const GOOD = 1;
const FAILED = 2;

const CONTROL_BYTES = 4 * CONTROL_WORDS;
const HEADS_AT = CONTROL_BYTES;
const FIELDS_AT = HEADS_AT + QUEUE_TASKS * HEAD_WORDS * 4;
const RESULTS_AT = FIELDS_AT + QUEUE_TASKS * FIELDS * 8;
const MEMORY_BYTES = RESULTS_AT + QUEUE_TASKS * RESULT_BYTES;

const ALGORITHMS = ["sha256", "sha512"] as const;
const NO_STORE = -1;

/** `store` is the open directory that files are copied to, when they are. */
export function createHashQueue(algorithm: VerityAlgorithm, store: number | null): HashQueue {
  const queue = openHashQueue(new SharedArrayBuffer(MEMORY_BYTES));
  queue.control[ALGORITHM] = ALGORITHMS.indexOf(algorithm);
  queue.control[STORE] = store ?? NO_STORE;
  return queue;
}

/** The queue in memory that another thread has made. */
export function openHashQueue(memory: SharedArrayBuffer): HashQueue {
  return {
    memory,
    control: new Int32Array(memory, 0, CONTROL_WORDS),
    heads: new Int32Array(memory, HEADS_AT, QUEUE_TASKS * HEAD_WORDS),
    fields: new Float64Array(memory, FIELDS_AT, QUEUE_TASKS * FIELDS),
    results: new Uint8Array(memory, RESULTS_AT, QUEUE_TASKS * RESULT_BYTES),
  };
}

export function queueAlgorithm(queue: HashQueue): VerityAlgorithm {
  return ALGORITHMS[queue.control[ALGORITHM]!]!;
}

export function queueStore(queue: HashQueue): number | null {
  const store = queue.control[STORE]!;
  return store === NO_STORE ? null : store;
}

/** Remembers that a file was added to the store. */
export function noteStored(queue: HashQueue): void {
  Atomics.store(queue.control, STORED_NEW, 1);
}

export function hasStored(queue: HashQueue): boolean {
  return Atomics.load(queue.control, STORED_NEW) === 1;
}

const slotOf = (number: number) => number & (QUEUE_TASKS - 1);

/** For the poster, which makes sure that task `number - QUEUE_TASKS` has been collected. */
export function postTask(queue: HashQueue, number: number, task: HashTask): void {
  const slot = slotOf(number);
  const { control, heads, fields } = queue;
  heads[slot * HEAD_WORDS + 1] = task.kind === "file" ? 0 : 1;
  heads[slot * HEAD_WORDS + 2] = task.fd;
  fields[slot * FIELDS] = task.offsetBytes;
  fields[slot * FIELDS + 1] = task.lengthBytes;
  fields[slot * FIELDS + 2] = task.mtimeSec;
  fields[slot * FIELDS + 3] = task.mtimeNsec;
  Atomics.store(heads, slot * HEAD_WORDS, READY);
  Atomics.add(control, POSTED, 1);
}

/** Wakes helpers that sleep, at most so many. Waking costs more than some tasks: not for each of them. */
export function wakeHelpers({ control }: HashQueue, count: number): void {
  if (Atomics.load(control, SLEEPING) > 0) Atomics.notify(control, POSTED, count);
}

/** Number of a task nobody else has, or null when none is waiting. */
export function claimTask({ control }: HashQueue): number | null {
  for (;;) {
    const number = Atomics.load(control, CLAIMED);
    if (number === Atomics.load(control, POSTED)) return null;
    if (Atomics.compareExchange(control, CLAIMED, number, (number + 1) | 0) === number) {
      return number;
    }
  }
}

/** As `claimTask`, but waits for one; null when the queue was closed. */
export function awaitTask(queue: HashQueue): number | null {
  const { control } = queue;
  for (;;) {
    const posted = Atomics.load(control, POSTED);
    if (Atomics.load(control, CLOSED) === 1) return null;
    const number = claimTask(queue);
    if (number !== null) return number;
    Atomics.add(control, SLEEPING, 1);
    Atomics.wait(control, POSTED, posted);
    Atomics.sub(control, SLEEPING, 1);
  }
}

export function readTask(queue: HashQueue, number: number): HashTask {
  const slot = slotOf(number);
  const { heads, fields } = queue;
  return {
    kind: heads[slot * HEAD_WORDS + 1] === 0 ? "file" : "range",
    fd: heads[slot * HEAD_WORDS + 2]!,
    offsetBytes: fields[slot * FIELDS]!,
    lengthBytes: fields[slot * FIELDS + 1]!,
    mtimeSec: fields[slot * FIELDS + 2]!,
    mtimeNsec: fields[slot * FIELDS + 3]!,
  };
}

/** For whoever has claimed the task; without `result` it has failed. */
export function finishTask(queue: HashQueue, number: number, result: Uint8Array | null): void {
  const slot = slotOf(number);
  const state = slot * HEAD_WORDS;
  if (result !== null) {
    queue.results.set(result, slot * RESULT_BYTES);
    queue.heads[state + 3] = result.length;
  }
  Atomics.store(queue.heads, state, result === null ? FAILED : GOOD);
  if (Atomics.load(queue.control, POSTER_WAITS) === 1) Atomics.notify(queue.heads, state, 1);
}

export function isFinished({ heads }: HashQueue, number: number): boolean {
  return Atomics.load(heads, slotOf(number) * HEAD_WORDS) !== READY;
}

/** Waits until a task that somebody has claimed is finished. */
export function awaitFinished({ control, heads }: HashQueue, number: number): void {
  const state = slotOf(number) * HEAD_WORDS;
  Atomics.store(control, POSTER_WAITS, 1);
  while (Atomics.load(heads, state) === READY) Atomics.wait(heads, state, READY);
  Atomics.store(control, POSTER_WAITS, 0);
}

/** Result of a finished task, or null when it has failed. Lasts until the next task is posted. */
export function taskResult({ heads, results }: HashQueue, number: number): Uint8Array | null {
  const slot = slotOf(number);
  if (Atomics.load(heads, slot * HEAD_WORDS) === FAILED) return null;
  const start = slot * RESULT_BYTES;
  return results.subarray(start, start + heads[slot * HEAD_WORDS + 3]!);
}

/** Whoever waits for a task goes home; what is claimed already is finished. */
export function closeQueue({ control }: HashQueue): void {
  Atomics.store(control, CLOSED, 1);
  Atomics.notify(control, POSTED);
}
