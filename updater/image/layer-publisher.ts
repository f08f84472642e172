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
  #imported: ImportedLayer[] = [];
  #flushedAt = performance.now();
  #publishing: Promise<void> | null = null;

  /** `downloads` null: fetching again costs nothing, so layers get their names together, at the end. */
  constructor(repo: Repository, downloads: Downloads | null, signal: AbortSignal) {
    this.#repo = repo;
    this.#downloads = downloads;
    this.#signal = signal;
  }

  add(layer: ImportedLayer): void {
    this.#imported.push(layer);
    const isDue = performance.now() - this.#flushedAt >= FLUSH_INTERVAL_MS;
    if (this.#downloads === null || !isDue || this.#publishing !== null) return;
    this.#publishing = this.#publish().finally(() => {
      this.#publishing = null;
    });
    // `finish` tries again, and reports it.
    this.#publishing.catch(() => {});
  }

  /** All layers have their names. */
  async finish(): Promise<void> {
    await this.#publishing?.catch(() => {});
    if (this.#imported.length > 0) await this.#publish();
  }

  async #publish(): Promise<void> {
    await flushFileSystem(this.#repo.path, this.#signal);
    this.#flushedAt = performance.now();
    while (this.#imported.length > 0) {
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
