// Progress of a pull, against the totals of its plan: final from the first report on, and no count ever
// goes back, whatever is fetched twice or falls back from one way to another.

import type { PullPlan } from "./pull-plan.ts";

/** Compressed bytes. `bytesTotal` is final from the first report on; `bytes` never goes back. */
export interface PullProgress {
  readonly bytes: number;
  readonly bytesTotal: number;
  /** Size of what need not be fetched; not part of the other two. */
  readonly bytesCached: number;
  readonly layersDone: number;
  readonly layersTotal: number;
  readonly layersCached: number;
  /** Those that are not in the repository, lowest first; counted in the totals above. */
  readonly layers: readonly LayerProgress[];
}

/** One layer of the image, compressed. It is done when `bytes` is `bytesTotal`. */
export interface LayerProgress {
  readonly digest: string;
  readonly bytes: number;
  readonly bytesTotal: number;
  /** What need not be fetched; not part of the other two. */
  readonly bytesCached: number;
}

export class ProgressCounter {
  #state: PullProgress;
  readonly #report: ((progress: PullProgress) => void) | undefined;
  /** By diff_id: what is still to be reported. */
  readonly #rest: Map<string, number>;
  readonly #finished = new Set<string>();
  /** By diff_id: the layer's place in the report. */
  readonly #places: ReadonlyMap<string, number>;

  constructor(
    { layers, fetchBytes, reusedBytes }: PullPlan,
    report: ((progress: PullProgress) => void) | undefined,
  ) {
    const missing = layers.filter(({ method }) => method !== "cached");
    this.#rest = new Map(missing.map((layer) => [layer.diffId, layer.fetchBytes]));
    this.#state = {
      bytes: 0,
      bytesTotal: fetchBytes,
      bytesCached: reusedBytes,
      layersDone: 0,
      layersTotal: missing.length,
      layersCached: layers.length - missing.length,
      layers: missing.map((layer) => ({
        digest: layer.descriptor.digest,
        bytes: 0,
        bytesTotal: layer.fetchBytes,
        bytesCached: layer.reusedBytes,
      })),
    };
    this.#places = new Map(missing.map(({ diffId }, index) => [diffId, index]));
    this.#report = report;
    report?.(this.#state);
  }

  /** What exceeds the layer's part of the plan does not count. */
  addBytes(diffId: string, count: number): void {
    const rest = this.#rest.get(diffId) ?? 0;
    const counted = Math.min(count, rest);
    if (counted === 0) return;
    this.#count(diffId, counted, {});
  }

  /** May be said again, when the layer was imported again. */
  finishLayer(diffId: string): void {
    if (this.#finished.has(diffId)) return;
    this.#finished.add(diffId);
    const rest = this.#rest.get(diffId) ?? 0;
    this.#count(diffId, rest, { layersDone: this.#state.layersDone + 1 });
  }

  #count(diffId: string, count: number, change: Partial<PullProgress>): void {
    const place = this.#places.get(diffId);
    if (place === undefined) return;
    this.#rest.set(diffId, (this.#rest.get(diffId) ?? 0) - count);
    const layer = this.#state.layers[place]!;
    const layers = this.#state.layers.with(place, { ...layer, bytes: layer.bytes + count });
    this.#state = { ...this.#state, bytes: this.#state.bytes + count, layers, ...change };
    this.#report?.(this.#state);
  }
}
