// Makes pieces that are worth writing of the chunks a connection brings.

import { MIN_PIECE_BYTES } from "./download-record.ts";
import type { BlobStore } from "./partial-file.ts";
import { PIECE_BYTES } from "./partial-file.ts";

/** What a slow server sent is written at least this often. */
const FLUSH_INTERVAL_MS = 250;

export class PieceCollector {
  readonly #store: BlobStore;
  readonly #onPiece: () => void;
  #buffer: Uint8Array | null = null;
  #startByte: number;
  #length = 0;
  #flushedAt = performance.now();

  /** `onPiece` is called when the store has more than before. */
  constructor(store: BlobStore, startByte: number, onPiece: () => void) {
    this.#store = store;
    this.#startByte = startByte;
    this.#onPiece = onPiece;
  }

  async add(chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0; ) {
      this.#buffer ??= Buffer.allocUnsafeSlow(PIECE_BYTES);
      const count = Math.min(rest.length, PIECE_BYTES - this.#length);
      this.#buffer.set(rest.subarray(0, count), this.#length);
      this.#length += count;
      rest = rest.subarray(count);
      if (this.#length === PIECE_BYTES || this.#isDue()) await this.flush();
    }
  }

  #isDue(): boolean {
    return (
      this.#length >= MIN_PIECE_BYTES && performance.now() - this.#flushedAt > FLUSH_INTERVAL_MS
    );
  }

  async flush(): Promise<void> {
    this.#flushedAt = performance.now();
    if (this.#buffer === null || this.#length === 0) return;
    // The store keeps it.
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#buffer = null;
    const startByte = this.#startByte;
    this.#startByte += bytes.length;
    this.#length = 0;
    await this.#store.write(startByte, bytes);
    this.#onPiece();
  }
}
