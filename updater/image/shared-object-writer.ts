// A large object that the threads of a pool write and hash in parts, while this one reads on.
//
// The file has no name until all parts are there and it is sealed; parts may be written in any order.

import { fromHex } from "../../shared/bytes/hex.ts";
import { VerityHasher } from "../../shared/format/verity/digest.ts";
import { createTemporary, explainFull, publishFile } from "../../shared/store/object-file.ts";
import { requireWritable } from "../../shared/store/repository.ts";
import type { TemporaryFile } from "../../shared/txn/temporary-file.ts";
import { addObjectTask, type ObjectPool, type TaskOutcome } from "./object-pool.ts";
import { MAX_TASK_BYTES, PART_BYTES } from "./object-task.ts";

const NOTHING = new Uint8Array(0);

/** Who disposes of it drains the pool before: its threads use the file. */
export class SharedObjectWriter implements Disposable {
  readonly #pool: ObjectPool;
  readonly #file: TemporaryFile;
  /** Null in a secure repository: the kernel will tell. */
  readonly #hasher: VerityHasher | null;
  /** A part that is not whole yet. */
  readonly #buffer = new Uint8Array(PART_BYTES);
  #bufferedBytes = 0;
  /** Bytes handed to the pool. */
  #givenBytes = 0;
  #pendingParts = 0;
  #failure: { readonly error: unknown } | null = null;
  #onOutcome: ((outcome: TaskOutcome) => void) | null = null;

  private constructor(pool: ObjectPool, file: TemporaryFile) {
    this.#pool = pool;
    this.#file = file;
    this.#hasher = pool.repo.secure ? null : new VerityHasher(pool.repo.algorithm);
  }

  /** Null where files without a name are not to be had: others could not seal it. */
  static create(pool: ObjectPool): SharedObjectWriter | null {
    requireWritable(pool.repo);
    const file = explainFull(pool.repo, () => createTemporary(pool.repo));
    if (!file.isNamed) return new SharedObjectWriter(pool, file);
    file[Symbol.dispose]();
    return null;
  }

  /** Copies `bytes`. For more than MAX_TASK_BYTES altogether. */
  write(bytes: Uint8Array): void {
    let at = 0;
    if (this.#bufferedBytes > 0) {
      at = Math.min(bytes.length, PART_BYTES - this.#bufferedBytes);
      this.#buffer.set(bytes.subarray(0, at), this.#bufferedBytes);
      this.#bufferedBytes += at;
      if (this.#bufferedBytes < PART_BYTES) return;
      this.#bufferedBytes = 0;
      this.#addPart(this.#buffer);
    }
    while (bytes.length - at >= PART_BYTES) {
      const rest = bytes.length - at;
      const size = Math.min(rest - (rest % PART_BYTES), MAX_TASK_BYTES);
      this.#addPart(bytes.subarray(at, at + size));
      at += size;
    }
    this.#buffer.set(bytes.subarray(at));
    this.#bufferedBytes = bytes.length - at;
  }

  /** Everything was written. The digest comes when the object is in the store. */
  finish(onOutcome: (outcome: TaskOutcome) => void): void {
    if (this.#bufferedBytes > 0) this.#addPart(this.#buffer.subarray(0, this.#bufferedBytes));
    this.#onOutcome = onOutcome;
    if (this.#pendingParts === 0) this.#seal();
  }

  #addPart(part: Uint8Array): void {
    const task = { kind: "part", fd: this.#file.fd.number, offsetBytes: this.#givenBytes } as const;
    this.#givenBytes += part.length;
    this.#pendingParts += 1;
    const sizeBytes = part.length;
    addObjectTask(this.#pool, task, part, (outcome) => {
      this.#pendingParts -= 1;
      if (outcome.result === null) this.#failure ??= { error: outcome.error };
      else this.#hasher?.addRange(sizeBytes, outcome.result);
      if (this.#pendingParts === 0 && this.#onOutcome !== null) this.#seal();
    });
  }

  #seal(): void {
    if (this.#failure !== null) this.#end({ result: null, error: this.#failure.error });
    else if (this.#hasher === null) {
      const task = { kind: "seal", fd: this.#file.fd.number, offsetBytes: 0 } as const;
      addObjectTask(this.#pool, task, NOTHING, (outcome) => this.#end(outcome));
    } else this.#end(this.#publish(this.#hasher.digestHex()));
  }

  #publish(digest: string): TaskOutcome {
    const { repo } = this.#pool;
    try {
      return { result: fromHex(explainFull(repo, () => publishFile(repo, this.#file, digest))) };
    } catch (error) {
      return { result: null, error };
    }
  }

  #end(outcome: TaskOutcome): void {
    this[Symbol.dispose]();
    this.#onOutcome?.(outcome);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
