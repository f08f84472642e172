// A splitstream in the order of its tar while objects get their digests in their own time: what comes after
// an object that is not stored yet waits in memory. The caller bounds that by `waitingBytes`.

import type { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";

interface Reference {
  /** Null as long as the object is not stored. */
  digest: string | null;
  readonly sizeBytes: number;
}

export class StreamOrder {
  readonly #writer: SplitStreamWriter;
  #waiting: (Reference | Uint8Array)[] = [];
  #waitingBytes = 0;

  constructor(writer: SplitStreamWriter) {
    this.#writer = writer;
  }

  /** Literal bytes in memory. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Copies `bytes`. */
  writeInline(bytes: Uint8Array): void {
    if (this.#waiting.length === 0) {
      this.#writer.writeInline(bytes);
      return;
    }
    this.#waiting.push(new Uint8Array(bytes)); // a Buffer's slice would be no copy
    this.#waitingBytes += bytes.length;
  }

  writeExternal(digest: string, sizeBytes: number): void {
    if (this.#waiting.length === 0) this.#writer.writeExternal(digest, sizeBytes);
    else this.#waiting.push({ digest, sizeBytes });
  }

  /** As `writeExternal`; the digest comes by the function that this returns. */
  expectExternal(sizeBytes: number): (digest: string) => void {
    const reference: Reference = { digest: null, sizeBytes };
    this.#waiting.push(reference);
    return (digest) => {
      reference.digest = digest;
      if (this.#waiting[0] === reference) this.#writeKnown();
    };
  }

  #writeKnown(): void {
    let count = 0;
    for (const item of this.#waiting) {
      if (item instanceof Uint8Array) {
        this.#writer.writeInline(item);
        this.#waitingBytes -= item.length;
      } else if (item.digest === null) break;
      else this.#writer.writeExternal(item.digest, item.sizeBytes);
      count += 1;
    }
    this.#waiting = this.#waiting.slice(count);
  }
}
