import { expect, test } from "vitest";
import { workThrough } from "./work-queue.ts";

test("every item once, and no more than `count` at a time", async () => {
  const done: number[] = [];
  let running = 0;
  let most = 0;
  const failure = new AbortController();
  await workThrough([1, 2, 3, 4, 5], 2, failure, async (item) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    done.push(item);
  });
  expect(done.toSorted()).toEqual([1, 2, 3, 4, 5]);
  expect(most).toBe(2);
  expect(failure.signal.aborted).toBe(false);
});

test("the first failure is the one that counts, and nothing is begun after it", async () => {
  const begun: number[] = [];
  const failure = new AbortController();
  await workThrough([1, 2, 3, 4], 2, failure, async (item) => {
    begun.push(item);
    await Promise.resolve();
    throw new Error(`failure of ${item}`);
  });
  expect(begun).toEqual([1, 2]);
  expect(failure.signal.reason).toEqual(new Error("failure of 1"));
});
