// The queue by which hash-pool.ts hands work to its helpers (shared/sys/task-queue.ts): what a task of it
// says, and what is said once for all of them.

import type { VerityAlgorithm } from "../../shared/format/verity/digest.ts";
import {
  createTaskQueue,
  postTask,
  readField,
  type TaskQueue,
} from "../../shared/sys/task-queue.ts";

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

const ALGORITHMS = ["sha256", "sha512"] as const;
const KINDS = ["file", "range"] as const;
const NO_STORE = -1;

/** `store` is the open directory that files are copied to, when they are. */
export function createHashQueue(algorithm: VerityAlgorithm, store: number | null): TaskQueue {
  return createTaskQueue([ALGORITHMS.indexOf(algorithm), store ?? NO_STORE]);
}

export function queueAlgorithm({ settings }: TaskQueue): VerityAlgorithm {
  return ALGORITHMS[settings[0]!]!;
}

export function queueStore({ settings }: TaskQueue): number | null {
  const store = settings[1]!;
  return store === NO_STORE ? null : store;
}

/** For the poster; see `postTask` of the queue. */
export function postHashTask(queue: TaskQueue, number: number, task: HashTask): void {
  const { kind, fd, offsetBytes, lengthBytes, mtimeSec, mtimeNsec } = task;
  const fields = [KINDS.indexOf(kind), fd, offsetBytes, lengthBytes, mtimeSec, mtimeNsec];
  postTask(queue, number, fields);
}

export function readHashTask(queue: TaskQueue, number: number): HashTask {
  return {
    kind: KINDS[readField(queue, number, 0)]!,
    fd: readField(queue, number, 1),
    offsetBytes: readField(queue, number, 2),
    lengthBytes: readField(queue, number, 3),
    mtimeSec: readField(queue, number, 4),
    mtimeNsec: readField(queue, number, 5),
  };
}
