// Waiting for things that happen, with a limit only as a safety net.
// Invariants: a waiter is settled by an event, by the end of the machine or by its limit, whichever
// comes first; nothing here polls.

import { existsSync, watch } from "node:fs";
import { dirname } from "node:path";

/** Resolves when a file is there. */
export async function fileAppears(path: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const watcher = watch(dirname(path), () => existsSync(path) && resolve());
  try {
    if (!existsSync(path)) await promise;
  } finally {
    watcher.close();
  }
}

/** Fails with `describe()` when `promise` has not settled after `ms`. */
export async function within<T>(
  promise: Promise<T>,
  ms: number,
  describe: () => string,
): Promise<T> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(describe())), ms);
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}

export type TextLog = {
  push(chunk: Buffer): void;
  /** Resolves at the first match behind the last one found; later searches go on from there. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  text(): string;
  lastLines(count: number): string;
};

/** Text that grows, and waiters for patterns in it. */
export function textLog(): TextLog {
  const decoder = new TextDecoder();
  let text = "";
  let searched = 0;
  const waiters = new Set<() => boolean>();
  const attempt = (pattern: RegExp, resolve: (match: RegExpExecArray) => void) => {
    const match = pattern.exec(text.slice(searched));
    if (!match) return false;
    searched += match.index + match[0].length;
    resolve(match);
    return true;
  };
  return {
    push(chunk) {
      text += decoder.decode(chunk, { stream: true });
      for (const waiter of waiters) if (waiter()) waiters.delete(waiter);
    },
    waitFor(pattern) {
      const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
      const waiter = () => attempt(pattern, resolve);
      if (!waiter()) waiters.add(waiter);
      return promise;
    },
    text: () => text,
    lastLines: (count) => plainLines(text).slice(-count).join("\n"),
  };
}

/** Console lines without the escape sequences of boot loaders and systemd. */
export function plainLines(text: string): string[] {
  const plain = text.replace(
    /\x1b(?:\[[0-9;?=]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[cDEHM78=>])/g,
    "",
  );
  return plain.split(/[\r\n]+/).filter((line) => line.trim() !== "");
}
