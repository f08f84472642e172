// Gives imported layers their names, and gives up their downloads only then.
//
// A layer that was downloaded is on the disk twice until its stream has a name that a power cut cannot take
// away: that costs a flush of the disk, so several layers share one.

import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { publishStream } from "../../shared/store/streams.ts";
import { flushFileSystem } from "./disk-flush.ts";
import type { Downloads } from "./download.ts";
import { layerStreamName } from "./image-streams.ts";
import { keepLayer } from "./kept-downloads.ts";

const FLUSH_INTERVAL_MS = 15_000;

interface ImportedLayer {
  readonly diffId: string;
  readonly descriptor: Descriptor;
  /** Of the splitstream. */
  readonly digest: string;
}

export class LayerPublisher {
  readonly #repo: Repository;
  readonly #downloads: Downloads | null;
  readonly #signal: AbortSignal;
  readonly #intervalMs: number;
  #imported: ImportedLayer[] = [];
  #flushedAt = performance.now();
  #timer: NodeJS.Timeout | null = null;
  #publishing: Promise<void> | null = null;

  /**
   * `downloads` null: fetching again costs nothing, so layers get their names together, at the end. `patience`
   * times the interval.
   */
  constructor(
    repo: Repository,
    downloads: Downloads | null,
    signal: AbortSignal,
    patience: number,
  ) {
    this.#intervalMs = FLUSH_INTERVAL_MS * patience;
    this.#repo = repo;
    this.#downloads = downloads;
    this.#signal = signal;
  }

  add(layer: ImportedLayer): void {
    this.#imported.push(layer);
    if (this.#downloads === null || this.#timer !== null || this.#publishing !== null) return;
    const dueMs = Math.max(0, this.#flushedAt + this.#intervalMs - performance.now());
    this.#timer = setTimeout(() => this.#start(), dueMs);
  }

  /** All layers have their names. */
  async finish(): Promise<void> {
    await this.settle();
    if (this.#imported.length > 0) await this.#publish();
  }

  /** Nothing goes on any more; after a failure the others' names can wait. */
  async settle(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    await this.#publishing;
  }

  #start(): void {
    this.#timer = null;
    // `finish` tries again what fails, and reports it.
    this.#publishing = this.#publish()
      .catch(() => {})
      .finally(() => {
        this.#publishing = null;
      });
  }

  async #publish(): Promise<void> {
    await flushFileSystem(this.#repo.path, this.#signal);
    this.#flushedAt = performance.now();
    while (this.#imported.length > 0) {
      this.#signal.throwIfAborted();
      const { diffId, descriptor, digest } = this.#imported[0]!;
      publishStream(this.#repo, layerStreamName(diffId), digest);
      if (this.#downloads !== null) {
        keepLayer(this.#repo, diffId);
        await this.#downloads.remove(descriptor);
      }
      this.#imported.shift();
    }
  }
}
