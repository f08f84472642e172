// Writing to standard output and error so that nothing is lost.
//
// process.stdout.write loses what a full pipe has not taken when the process ends, and touching
// process.stdout makes a descriptor that others share non-blocking.

import { writeSync } from "node:fs";
import { isErrno, StateError } from "../../shared/error.ts";

export const STDOUT = 1;
export const STDERR = 2;
const EAGAIN_PAUSE_MS = 5;

/** For what people read: that a reader has gone away is not our failure. */
export function writeOut(data: string | Uint8Array): void {
  try {
    writeWholeOut(data);
  } catch (error) {
    if (!(error instanceof StateError) || !isErrno(error.cause, "EPIPE")) throw error;
  }
}

/** For what is of no use unless it is whole. StateError when it could not be written. */
export function writeWholeOut(data: string | Uint8Array): void {
  try {
    writeFully(STDOUT, data);
  } catch (cause) {
    throw new StateError("command-failed", "Cannot write to standard output", {}, { cause });
  }
}

/** What nobody can be told must not decide how a program ends. */
export function writeErr(text: string): void {
  try {
    writeFully(STDERR, text);
  } catch {}
}

function writeFully(fd: number, data: string | Uint8Array): void {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      if (!isErrno(error, "EAGAIN")) throw error;
      // A pipe that somebody else made non-blocking is full.
      Bun.sleepSync(EAGAIN_PAUSE_MS);
    }
  }
}
