import { describe, expect, test } from "vitest";
import { abortable, raceAbort, sleepAbortably } from "./abortable.ts";

const never = () => new Promise<never>(() => {});
const reason = new Error("given up");

describe("raceAbort", () => {
  test("is the promise as long as nobody gives up", async () => {
    const { signal } = new AbortController();
    expect(await raceAbort(Promise.resolve(1), signal)).toBe(1);
    expect(await raceAbort(Promise.resolve(1), undefined)).toBe(1);
    await expect(raceAbort(Promise.reject(reason), signal)).rejects.toBe(reason);
  });

  test("ends a wait that would not end", async () => {
    const controller = new AbortController();
    const race = raceAbort(never(), controller.signal);
    controller.abort(reason);
    await expect(race).rejects.toBe(reason);
    await expect(raceAbort(never(), controller.signal)).rejects.toBe(reason);
    await expect(sleepAbortably(1e6, controller.signal)).rejects.toBe(reason);
  });
});

describe("abortable", () => {
  test("passes on everything, and the failure", async () => {
    async function* source() {
      yield 1;
      yield 2;
      throw reason;
    }
    const seen: number[] = [];
    const reading = (async () => {
      for await (const each of abortable(source(), new AbortController().signal)) seen.push(each);
    })();
    await expect(reading).rejects.toBe(reason);
    expect(seen).toEqual([1, 2]);
  });

  test("an iterator that hangs is left", async () => {
    async function* source() {
      yield 1;
      await never();
    }
    const controller = new AbortController();
    const iterator = abortable(source(), controller.signal);
    expect((await iterator.next()).value).toBe(1);
    const next = iterator.next();
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
  });

  test("a reader who stops closes the source", async () => {
    let isClosed = false;
    async function* source() {
      try {
        yield 1;
        yield 2;
      } finally {
        isClosed = true;
      }
    }
    for await (const _ of abortable(source(), new AbortController().signal)) break;
    expect(isClosed).toBe(true);
  });

  test("nothing is opened when it was given up before", async () => {
    const source = { [Symbol.asyncIterator]: () => expect.unreachable() };
    await expect(abortable(source, AbortSignal.abort(reason)).next()).rejects.toBe(reason);
  });
});
