// The program of a helping thread: takes tasks from the queue that it is given until that is closed.
//
// What fails is only marked as failed. The poster does it again and gets the error, or the result if the
// trouble is over: no error has to travel between threads.

import { Fd } from "../../shared/sys/fd.ts";
import {
  awaitTask,
  finishTask,
  openTaskQueue,
  raiseFlag,
  type TaskQueue,
} from "../../shared/sys/task-queue.ts";
import { workOnDigestStore } from "./digest-store.ts";
import { queueAlgorithm, queueStore, readHashTask } from "./hash-queue.ts";
import { createTaskRunner, runTask } from "./hash-task.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<SharedArrayBuffer>) => work(openTaskQueue(data));

function work(queue: TaskQueue): void {
  const directory = queueStore(queue);
  const store = directory === null ? null : workOnDigestStore(new Fd(directory));
  const runner = createTaskRunner(queueAlgorithm(queue), store);
  for (let number = awaitTask(queue); number !== null; number = awaitTask(queue)) {
    let result: Uint8Array | null = null;
    try {
      result = runTask(runner, readHashTask(queue, number));
      if (store?.hasNew) raiseFlag(queue);
    } catch {}
    finishTask(queue, number, result);
  }
}
