// The program of a helping thread of an object pool: takes tasks from the queue it is given until that is
// closed. What fails is only marked as failed; the poster does it again and gets the error.

import {
  awaitTask,
  finishTask,
  openTaskQueue,
  type TaskQueue,
} from "../../shared/sys/task-queue.ts";
import { openObjectRunner, readObjectTask, runObjectTask } from "./object-task.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<SharedArrayBuffer>) => work(openTaskQueue(data));

function work(queue: TaskQueue): void {
  const runner = openObjectRunner(queue);
  for (let number = awaitTask(queue); number !== null; number = awaitTask(queue)) {
    let result: Uint8Array | null = null;
    try {
      result = runObjectTask(runner, readObjectTask(queue, number));
    } catch {}
    finishTask(queue, number, result);
  }
}
