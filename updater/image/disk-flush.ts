// Writes out what is dirty on a file system without holding up this thread: syncfs(2) cannot be given up,
// so another program does it.
//
// Only to make a later syncfs short: nothing is promised.

import { raceAbort } from "../../shared/abortable.ts";

const SYNC_PROGRAM = "/usr/bin/sync";
/** While it goes on, more gets dirty. */
const MAX_ROUNDS = 3;
const SHORT_MS = 200;

/** Throws only the signal's reason; the program is then left to end by itself. */
export async function flushFileSystem(path: string, signal?: AbortSignal): Promise<void> {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const start = performance.now();
    const child = startSync(path);
    if (child === null) return;
    try {
      await raceAbort(child.exited, signal);
    } finally {
      child.kill();
      child.unref();
    }
    if (performance.now() - start < SHORT_MS) return;
  }
}

function startSync(path: string): Bun.Subprocess | null {
  try {
    const stdio = { stdin: "ignore", stdout: "ignore", stderr: "ignore" } as const;
    return Bun.spawn([SYNC_PROGRAM, "--file-system", "--", path], { ...stdio, env: {} });
  } catch {
    return null;
  }
}
