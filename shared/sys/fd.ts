// An open file descriptor as a resource: no bare numbers travel, and `using` closes it.

import { AT } from "./constants.ts";
import { attempt } from "./libc.ts";

/** Closed by `using`, `close()`, or given away by `release()`. */
export class Fd implements Disposable {
  #number: number;

  constructor(number: number) {
    this.#number = number;
  }

  /** The number, for messages and /proc/self/fd; using a closed descriptor is a bug and throws. */
  get number(): number {
    if (this.#number < 0) throw new Error("A file descriptor was used after it was closed");
    return this.#number;
  }

  /** Idempotent. Errors are not reported: whatever must be durable was fsynced before. */
  close(): void {
    const number = this.#number;
    this.#number = -1;
    if (number >= 0) attempt("close", number);
  }

  /** Hands the number to the caller, who must close it. */
  release(): number {
    const number = this.number;
    this.#number = -1;
    return number;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Where relative paths start; null is the working directory (AT_FDCWD). */
export type Dir = Fd | null;

/** Text is encoded as UTF-8; bytes are taken as they are. Neither may contain NUL. */
export type Path = string | Uint8Array;

export function dirNumber(dir: Dir): number {
  return dir === null ? AT.FDCWD : dir.number;
}
