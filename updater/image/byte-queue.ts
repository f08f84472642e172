// Takes exact numbers of bytes from a source that gives chunks of its own sizes.

import { IntegrityError } from "../../shared/error.ts";
import type { ByteSource } from "./blob.ts";

const NOTHING = new Uint8Array(0);

/** One reader at a time. Disposing ends the source. */
export class ByteQueue implements AsyncDisposable {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = NOTHING;

  constructor(source: ByteSource) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  /** The next `count` bytes in chunks, each valid until the next. IntegrityError when there are fewer. */
  async *stream(count: number): AsyncGenerator<Uint8Array> {
    let left = count;
    while (left > 0) {
      const bytes = await this.#next(left);
      left -= bytes.length;
      yield bytes;
    }
  }

  /** The next `count` bytes, which the caller keeps in memory. */
  async take(count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count);
    let fill = 0;
    for await (const chunk of this.stream(count)) {
      bytes.set(chunk, fill);
      fill += chunk.length;
    }
    return bytes;
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0; ) left -= (await this.#next(left)).length;
  }

  async #next(limit: number): Promise<Uint8Array> {
    while (this.#chunk.length === 0) {
      const next = await this.#iterator.next();
      if (next.done === true) {
        throw new IntegrityError("size-mismatch", "A range of a layer came shorter than asked for");
      }
      this.#chunk = next.value;
    }
    const bytes = this.#chunk.subarray(0, limit);
    this.#chunk = this.#chunk.subarray(bytes.length);
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#iterator.return?.();
  }
}
