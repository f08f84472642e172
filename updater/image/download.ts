// Downloads the layers of one image: a few at a time, large ones over several connections, into files
// that outlive the process (partial-file.ts), and hands each out in order while it is still arriving.
//
// Memory is bounded by connections and pieces, whatever the sizes. A layer whose file cannot be had
// (another process has it, the disk is full) is streamed to its reader instead.

import { raceAbort } from "../../shared/abortable.ts";
import { IntegrityError } from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { verifyBlob } from "./blob.ts";
import { countGarbage } from "./buffer-garbage.ts";
import { addRange, type Ranges, removeRange } from "./download-record.ts";
import { chooseRequest } from "./download-schedule.ts";
import { adopt, type Download, isFull, makeDownload, takeFrom, wake } from "./download-state.ts";
import {
  BlobMemory,
  type BlobStore,
  openPartialFile,
  removeEmptyDownloads,
} from "./partial-file.ts";
import { PieceCollector } from "./piece-collector.ts";
import { fetchRange, isRangeRefusal, type RangeFetch, streamRest } from "./range-fetch.ts";
import type { ByteRange, ImageSource } from "./resolved-image.ts";

const MAX_CONNECTIONS = 4;
/** Layers that are being fetched or read: two are imported at a time, the others are next. */
const MAX_LAYERS = 4;
/** Smaller layers are not worth a file. */
const MIN_FILE_BYTES = 1 << 20;

export interface DownloadsOptions {
  readonly signal?: AbortSignal | undefined;
  /** New bytes of a layer, in any order; never more than its size in all. */
  readonly onBytes?: (layer: Descriptor, count: number) => void;
  /** Times the waits between attempts; 1 when left out. */
  readonly patience?: number;
  /** False: large layers are streamed to their readers. */
  readonly keeps?: boolean;
}

export class Downloads implements AsyncDisposable {
  readonly #repo: Repository;
  readonly #source: ImageSource;
  readonly #options: DownloadsOptions;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #support = { isMissing: false };
  readonly #known = new Map<string, Download>();
  /** Started and not finished, in the order of the work. */
  readonly #queue: Download[] = [];
  readonly #running = new Set<Promise<void>>();
  #connections = 0;
  /** Readers who want a connection of their own, which goes before fetching ahead. */
  readonly #waiting: (() => void)[] = [];

  constructor(repo: Repository, source: ImageSource, options: DownloadsOptions = {}) {
    this.#repo = repo;
    this.#source = source;
    this.#options = options;
    const { signal } = options;
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
  }

  /** What earlier attempts left of a layer and need not be fetched; all of it is read and checked. */
  async keptRanges(layer: Descriptor): Promise<Ranges> {
    if (this.#source.openRange === undefined || layer.size < MIN_FILE_BYTES) return [];
    const download = this.#find(layer);
    if (download.state === "closed") {
      const options = { create: false, signal: this.#signal };
      const file = await openPartialFile(this.#repo, layer, options);
      if (typeof file !== "string") adopt(download, file);
    }
    return download.kept;
  }

  /**
   * The file of a layer that was not started, for one who fetches parts of it himself; null when it cannot
   * be had. The layer may be started afterwards, and then has what he wrote.
   */
  async openStore(layer: Descriptor): Promise<BlobStore | null> {
    const download = this.#find(layer);
    if (download.state === "closed") await this.#open(download);
    return download.store;
  }

  /** Begins to fetch a layer after those that were started. */
  add(layer: Descriptor): void {
    const download = this.#find(layer);
    if (download.store !== null) adopt(download, download.store);
    this.#queue.push(download);
    this.#schedule();
  }

  /** Begins to fetch these, in the order in which they are going to be read. */
  start(layers: readonly Descriptor[]): void {
    if (this.#source.openRange === undefined) return;
    for (const layer of layers) this.#queue.push(this.#find(layer));
    this.#schedule();
  }

  /** A started layer from its first byte, as soon as it comes; IntegrityError at its end as `verifyBlob`. */
  async *read(layer: Descriptor): AsyncGenerator<Uint8Array> {
    const download = this.#find(layer);
    const what = `Layer ${layer.digest} of "${this.#source.name}"`;
    try {
      yield* verifyBlob(this.#readUnverified(download), layer, what);
    } catch (error) {
      if (error instanceof IntegrityError) download.isCorrupt = true;
      throw error;
    }
    this.#report(download, layer.size);
  }

  /** Its bytes turned out not to be what its digest says. */
  isCorrupt(layer: Descriptor): boolean {
    return this.#find(layer).isCorrupt;
  }

  /** Forgets what was fetched of a started layer and begins again. */
  async restart(layer: Descriptor): Promise<void> {
    const download = this.#find(layer);
    download.stop.abort();
    while (download.connections > 0) await raceAbort(download.change.promise, this.#signal);
    await download.store?.clear();
    download.stop = new AbortController();
    download.isCorrupt = false;
    download.failure = null;
    download.receivedBytes = 0;
    this.#schedule();
  }

  /** The layer was read; its file stays until `remove`. */
  finish(layer: Descriptor): void {
    const index = this.#queue.indexOf(this.#find(layer));
    if (index >= 0) this.#queue.splice(index, 1);
    this.#schedule();
  }

  /** The layer is safe somewhere else. */
  async remove(layer: Descriptor): Promise<void> {
    const download = this.#find(layer);
    const { store } = download;
    download.store = null;
    await store?.remove();
  }

  /** Ends all connections; what they brought is kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new DOMException("The downloads are over", "AbortError"));
    await Promise.allSettled(this.#running);
    for (const { store } of this.#known.values()) {
      if (store?.kept.length === 0) await store.remove();
      else await store?.[Symbol.asyncDispose]();
    }
    removeEmptyDownloads(this.#repo);
  }

  #find(layer: Descriptor): Download {
    const known = this.#known.get(layer.digest);
    if (known !== undefined) return known;
    const download = makeDownload(layer);
    this.#known.set(layer.digest, download);
    return download;
  }

  /** Opens what is next and gives every free connection something to fetch. */
  #schedule(): void {
    const active = this.#queue.slice(0, MAX_LAYERS);
    for (const download of active) {
      if (download.state === "closed") this.#run(this.#open(download));
    }
    while (this.#connections < MAX_CONNECTIONS && !this.#signal.aborted) {
      const reader = this.#waiting.shift();
      if (reader !== undefined) {
        this.#connections += 1;
        reader();
        continue;
      }
      const ready = active.filter(
        ({ state, stop, failure }) =>
          state === "stored" && !stop.signal.aborted && failure === null,
      );
      const request = chooseRequest(ready, !this.#support.isMissing);
      if (request === null) return;
      this.#run(this.#fetch(request.layer, request.range));
    }
  }

  /** Remembers it, so that nothing goes on after the end. Failures are the reader's to report. */
  #run(work: Promise<void>): void {
    const watched = work.catch(() => {}).finally(() => this.#running.delete(watched));
    this.#running.add(watched);
  }

  async #open(download: Download): Promise<void> {
    const { layer } = download;
    download.state = "opening";
    try {
      if (layer.size < MIN_FILE_BYTES) {
        adopt(download, new BlobMemory(layer.size));
      } else if (this.#options.keeps === false) {
        download.state = "streamed";
      } else {
        const options = { create: true, signal: this.#signal };
        const file = await openPartialFile(this.#repo, layer, options);
        if (typeof file === "string") download.state = "streamed";
        else adopt(download, file);
      }
    } catch (error) {
      if (isFull(error)) download.state = "streamed";
      else download.failure = error;
    }
    wake(download);
    this.#schedule();
  }

  /** One connection. Never rejects: the reader of the layer finds the failure. */
  async #fetch(download: Download, range: ByteRange): Promise<void> {
    const store = download.store!;
    download.assigned = addRange(download.assigned, range);
    download.connections += 1;
    this.#connections += 1;
    const collector = new PieceCollector(store, range.startByte, () => wake(download));
    try {
      try {
        for await (const chunk of fetchRange(this.#describe(download), range)) {
          download.receivedBytes += chunk.length;
          this.#report(download, download.receivedBytes);
          await collector.add(chunk);
          countGarbage(chunk.length);
        }
      } finally {
        if (download.store === store) await collector.flush();
      }
    } catch (error) {
      this.#settleFailure(download, store, error);
    }
    download.assigned = removeRange(download.assigned, range);
    download.connections -= 1;
    wake(download);
    this.#releaseConnection();
  }

  #settleFailure(download: Download, store: BlobStore, error: unknown): void {
    if (this.#signal.aborted || download.stop.signal.aborted || download.store !== store) return;
    if (isFull(error)) {
      this.#giveUpStore(download, store);
    } else if (!isRangeRefusal(error)) {
      download.failure = error;
    }
  }

  async *#readUnverified(download: Download): AsyncGenerator<Uint8Array> {
    let position = 0;
    while (position < download.layer.size) {
      this.#signal.throwIfAborted();
      if (download.failure !== null) throw download.failure;
      if (download.state === "streamed") {
        yield* this.#stream(download, position);
        return;
      }
      const changed = download.change.promise;
      const piece = await takeFrom(download, position);
      if (piece === null) {
        await raceAbort(changed, this.#signal);
      } else {
        position += piece.length;
        yield piece;
      }
    }
  }

  async #takeConnection(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    this.#schedule();
    await raceAbort(promise, this.#signal);
  }

  #releaseConnection(): void {
    this.#connections -= 1;
    this.#schedule();
  }

  /** From here on the layer is streamed: the import may still have room, the more so without the file. */
  #giveUpStore(download: Download, store: BlobStore): void {
    download.store = null;
    download.state = "streamed";
    download.stop.abort();
    download.stop = new AbortController();
    this.#run(store.remove());
  }

  async *#stream(download: Download, startByte: number): AsyncGenerator<Uint8Array> {
    let position = startByte;
    await this.#takeConnection();
    try {
      for await (const chunk of streamRest(this.#describe(download), startByte)) {
        position += chunk.length;
        this.#report(download, position);
        yield chunk;
      }
    } finally {
      this.#releaseConnection();
    }
  }

  #describe({ layer, stop }: Download): RangeFetch {
    return {
      source: this.#source,
      layer,
      support: this.#support,
      signal: AbortSignal.any([this.#signal, stop.signal]),
      patience: this.#options.patience ?? 1,
    };
  }

  #report(download: Download, receivedBytes: number): void {
    const bytes = Math.min(receivedBytes, download.layer.size);
    const count = bytes - download.reportedBytes;
    if (count <= 0) return;
    download.reportedBytes = bytes;
    this.#options.onBytes?.(download.layer, count);
  }
}
