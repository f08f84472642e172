// Memory that threads share to hand out work: a ring of tasks that one thread posts, any thread claims and
// the poster collects in order. No thread needs its event loop for it.
//
// A task belongs to the poster until it is posted, then to whoever claims it until it is finished, then to
// the poster again. Every change of hands is one atomic operation, which also makes the plain fields visible.

/** A power of two: task numbers run on and wrap around at 2^32. */
export const QUEUE_TASKS = 256;
/** Numbers that describe a task, and the whole queue. */
const TASK_FIELDS = 6;
const SETTINGS = 4;
/** Room for a task's result: what 1 MiB comes to in hashes of blocks of hashes, with SHA-512. */
const RESULT_BYTES = 256;

export interface TaskQueue {
  readonly memory: SharedArrayBuffer;
  readonly control: Int32Array;
  /** State of each task and size of its result. */
  readonly heads: Int32Array;
  readonly fields: Float64Array;
  readonly results: Uint8Array;
  /** Given by whoever made the queue; not changed afterwards. */
  readonly settings: Float64Array;
  /** Room for what tasks are about; the poster says which part of it a task may use. */
  readonly data: Uint8Array;
}

// Words of `control`.
const POSTED = 0;
const CLAIMED = 1;
const SLEEPING = 2;
const CLOSED = 3;
const POSTER_WAITS = 4;
const FLAG = 5;
const CONTROL_WORDS = 8;

const HEAD_WORDS = 2;
/** States; a task is "ready" from being posted until it is finished. */
const READY = 0;
const GOOD = 1;
const FAILED = 2;

const HEADS_AT = 4 * CONTROL_WORDS;
const FIELDS_AT = HEADS_AT + QUEUE_TASKS * HEAD_WORDS * 4;
const SETTINGS_AT = FIELDS_AT + QUEUE_TASKS * TASK_FIELDS * 8;
const RESULTS_AT = SETTINGS_AT + SETTINGS * 8;
const DATA_AT = Math.ceil((RESULTS_AT + QUEUE_TASKS * RESULT_BYTES) / 4096) * 4096;

/** At most four settings. */
export function createTaskQueue(settings: readonly number[], dataBytes = 0): TaskQueue {
  const queue = openTaskQueue(new SharedArrayBuffer(DATA_AT + dataBytes));
  queue.settings.set(settings);
  return queue;
}

/** The queue in memory that another thread has made. */
export function openTaskQueue(memory: SharedArrayBuffer): TaskQueue {
  return {
    memory,
    control: new Int32Array(memory, 0, CONTROL_WORDS),
    heads: new Int32Array(memory, HEADS_AT, QUEUE_TASKS * HEAD_WORDS),
    fields: new Float64Array(memory, FIELDS_AT, QUEUE_TASKS * TASK_FIELDS),
    settings: new Float64Array(memory, SETTINGS_AT, SETTINGS),
    results: new Uint8Array(memory, RESULTS_AT, QUEUE_TASKS * RESULT_BYTES),
    data: new Uint8Array(memory, DATA_AT),
  };
}

/** One message from any thread to the poster, for good. */
export function raiseFlag({ control }: TaskQueue): void {
  Atomics.store(control, FLAG, 1);
}

export function isFlagRaised({ control }: TaskQueue): boolean {
  return Atomics.load(control, FLAG) === 1;
}

const slotOf = (number: number) => number & (QUEUE_TASKS - 1);

/** For the poster, which makes sure that task `number - QUEUE_TASKS` has been collected. */
export function postTask(queue: TaskQueue, number: number, fields: readonly number[]): void {
  const slot = slotOf(number);
  const { control, heads } = queue;
  for (let index = 0; index < fields.length; index++) {
    queue.fields[slot * TASK_FIELDS + index] = fields[index]!;
  }
  Atomics.store(heads, slot * HEAD_WORDS, READY);
  Atomics.add(control, POSTED, 1);
}

/** Field `index` of a task that the caller has claimed or not yet collected. */
export function readField({ fields }: TaskQueue, number: number, index: number): number {
  return fields[slotOf(number) * TASK_FIELDS + index]!;
}

/** Wakes helpers that sleep, at most so many. Waking costs more than some tasks: not for each of them. */
export function wakeHelpers({ control }: TaskQueue, count: number): void {
  if (Atomics.load(control, SLEEPING) > 0) Atomics.notify(control, POSTED, count);
}

/** Number of a task nobody else has, or null when none is waiting. */
export function claimTask({ control }: TaskQueue): number | null {
  for (;;) {
    const number = Atomics.load(control, CLAIMED);
    if (number === Atomics.load(control, POSTED)) return null;
    if (Atomics.compareExchange(control, CLAIMED, number, (number + 1) | 0) === number) {
      return number;
    }
  }
}

/** As `claimTask`, but waits for one; null when the queue was closed. */
export function awaitTask(queue: TaskQueue): number | null {
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

/** For whoever has claimed the task; without `result` it has failed. */
export function finishTask(queue: TaskQueue, number: number, result: Uint8Array | null): void {
  const slot = slotOf(number);
  const state = slot * HEAD_WORDS;
  if (result !== null) {
    queue.results.set(result, slot * RESULT_BYTES);
    queue.heads[state + 1] = result.length;
  }
  Atomics.store(queue.heads, state, result === null ? FAILED : GOOD);
  if (Atomics.load(queue.control, POSTER_WAITS) === 1) Atomics.notify(queue.heads, state, 1);
}

export function isFinished({ heads }: TaskQueue, number: number): boolean {
  return Atomics.load(heads, slotOf(number) * HEAD_WORDS) !== READY;
}

/** Waits until a task that somebody has claimed is finished. */
export function awaitFinished({ control, heads }: TaskQueue, number: number): void {
  const state = slotOf(number) * HEAD_WORDS;
  Atomics.store(control, POSTER_WAITS, 1);
  while (Atomics.load(heads, state) === READY) Atomics.wait(heads, state, READY);
  Atomics.store(control, POSTER_WAITS, 0);
}

/** Result of a finished task, or null when it has failed. Lasts until the next task is posted. */
export function taskResult({ heads, results }: TaskQueue, number: number): Uint8Array | null {
  const slot = slotOf(number);
  if (Atomics.load(heads, slot * HEAD_WORDS) === FAILED) return null;
  const start = slot * RESULT_BYTES;
  return results.subarray(start, start + heads[slot * HEAD_WORDS + 1]!);
}

/** Whoever waits for a task goes home; what is claimed already is finished. */
export function closeQueue({ control }: TaskQueue): void {
  Atomics.store(control, CLOSED, 1);
  Atomics.notify(control, POSTED);
}
