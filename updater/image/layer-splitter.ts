// Splits a layer's tar: large files become objects, everything else goes into the splitstream. With the
// threads of a pool, or alone; the result is the same.
//
// Contents are handed to the pool whole, or in parts of a file that was opened for them; what a chunk of
// the tar cuts in two is put together in one buffer.

import { toHex } from "../../shared/bytes/hex.ts";
import type { SplitStreamWriter } from "../../shared/format/splitstream/writer.ts";
import type { TarEntry } from "../../shared/format/tar/entry.ts";
import type { TarSink } from "../../shared/format/tar/reader.ts";
import { createObject, type ObjectWriter, storeObject } from "../../shared/store/objects.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { splitPath } from "./layer-tree.ts";
import {
  addObjectTask,
  advance,
  collectFinished,
  drainPool,
  hasHelpers,
  type ObjectPool,
  type TaskOutcome,
} from "./object-pool.ts";
import { MAX_TASK_BYTES } from "./object-task.ts";
import { SharedObjectWriter } from "./shared-object-writer.ts";
import { StreamOrder } from "./stream-order.ts";

/** Files up to this size are kept in the stream and in the image (composefs-rs, every version). */
export const INLINE_MAX_BYTES = 64;
/** Literals that wait for the digest of an object before them. */
const MAX_WAITING_BYTES = 8 << 20;

/** A pool is the caller's and may serve several layers. */
export class LayerSplitter implements TarSink {
  readonly #repo: Repository;
  readonly #writer: SplitStreamWriter;
  readonly #order: StreamOrder;
  readonly #pool: ObjectPool | null;
  #fileBytes = 0;
  /** The object being written, by this thread or by those of the pool. */
  #object: ObjectWriter | null = null;
  #shared: SharedObjectWriter | null = null;
  /** Start of a content that the pool gets as a whole. */
  #buffer: Uint8Array | null = null;
  #bufferedBytes = 0;
  #failure: { readonly error: unknown } | null = null;

  constructor(repo: Repository, writer: SplitStreamWriter, pool: ObjectPool | null = null) {
    this.#repo = repo;
    this.#writer = writer;
    this.#order = new StreamOrder(writer);
    this.#pool = pool;
  }

  raw(bytes: Uint8Array): void {
    this.#order.writeInline(bytes);
  }

  entry(entry: TarEntry): void {
    // Whether parents exist is known only with the lower layers; what can be refused now is.
    splitPath(entry.path);
    if (entry.type === "hardlink") splitPath(entry.linkTarget);
    this.#fileBytes = entry.sizeBytes;
  }

  content(bytes: Uint8Array): void {
    this.#checkFailure();
    if (this.#fileBytes <= INLINE_MAX_BYTES) this.#order.writeInline(bytes);
    else if (this.#object !== null) this.#object.write(bytes);
    else if (this.#shared !== null) this.#shared.write(bytes);
    else if (this.#bufferedBytes > 0) this.#appendToBuffer(bytes);
    else this.#beginContent(bytes);
  }

  contentEnd(): void {
    if (this.#object !== null) {
      const { digest, sizeBytes } = this.#object.finish();
      this.#object = null;
      this.#order.writeExternal(digest, sizeBytes);
    } else if (this.#shared !== null) {
      const shared = this.#shared;
      this.#shared = null;
      shared.finish(this.#expectDigest());
    }
  }

  /** Instead of `content` and `contentEnd` for a file that is an object already (tar-pieces.ts). */
  stored(digest: string, sizeBytes: number): void {
    this.#order.writeExternal(digest, sizeBytes);
  }

  /** To be awaited between chunks. Throws what went wrong in other threads. */
  async drain(): Promise<void> {
    if (this.#pool !== null) collectFinished(this.#pool);
    this.#checkFailure();
    while (this.#order.waitingBytes > MAX_WAITING_BYTES) {
      advance(this.#pool!);
      this.#checkFailure();
    }
    await this.#writer.drain();
  }

  /** After the last byte: all objects are stored and everything is in the stream. */
  finish(): void {
    if (this.#pool !== null) drainPool(this.#pool);
    this.#checkFailure();
  }

  /** Drops a file that was not completed. */
  [Symbol.dispose](): void {
    this.#object?.[Symbol.dispose]();
    // Nobody may use its file, nor tell us anything, afterwards.
    if (this.#pool !== null) drainPool(this.#pool);
    this.#shared?.[Symbol.dispose]();
  }

  #beginContent(bytes: Uint8Array): void {
    const pool = this.#pool !== null && hasHelpers(this.#pool) ? this.#pool : null;
    const isWhole = bytes.length === this.#fileBytes;
    if (pool !== null && this.#fileBytes <= MAX_TASK_BYTES) {
      if (isWhole) this.#addContent(pool, bytes);
      else this.#appendToBuffer(bytes);
      return;
    }
    this.#shared = pool === null ? null : SharedObjectWriter.create(pool);
    if (this.#shared !== null) this.#shared.write(bytes);
    else if (isWhole) this.#order.writeExternal(storeObject(this.#repo, bytes), bytes.length);
    else {
      this.#object = createObject(this.#repo);
      this.#object.write(bytes);
    }
  }

  #appendToBuffer(bytes: Uint8Array): void {
    this.#buffer ??= new Uint8Array(MAX_TASK_BYTES);
    this.#buffer.set(bytes, this.#bufferedBytes);
    this.#bufferedBytes += bytes.length;
    if (this.#bufferedBytes < this.#fileBytes) return;
    this.#bufferedBytes = 0;
    this.#addContent(this.#pool!, this.#buffer.subarray(0, this.#fileBytes));
  }

  #addContent(pool: ObjectPool, content: Uint8Array): void {
    const task = { kind: "object", fd: -1, offsetBytes: 0 } as const;
    addObjectTask(pool, task, content, this.#expectDigest());
  }

  #expectDigest(): (outcome: TaskOutcome) => void {
    const setDigest = this.#order.expectExternal(this.#fileBytes);
    return (outcome) => {
      if (outcome.result === null) this.#failure ??= { error: outcome.error };
      else setDigest(toHex(outcome.result));
    };
  }

  #checkFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
