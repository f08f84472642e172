// Which bytes of which layer a free connection fetches next. Pure.
//
// Layers come in the order they are read in. The one with the fewest connections gets the next, and of a
// layer always the first bytes that nobody fetches: its reader waits for those.

import { addRange, firstGap, type Ranges } from "./download-record.ts";
import type { ByteRange } from "./resolved-image.ts";

/** Asked for at a time: a 32nd of the layer within these bounds. */
const MIN_REQUEST_BYTES = 8 << 20;
const MAX_REQUEST_BYTES = 64 << 20;

export interface LayerState {
  readonly sizeBytes: number;
  /** What is there. */
  readonly kept: Ranges;
  /** What connections are fetching. */
  readonly assigned: Ranges;
  readonly connections: number;
}

/** `hasRanges` false: the server sends everything from the beginning, so one connection is all a layer gets. */
export function chooseRequest<T extends LayerState>(
  layers: readonly T[],
  hasRanges: boolean,
): { readonly layer: T; readonly range: ByteRange } | null {
  const byLoad = layers.toSorted((a, b) => a.connections - b.connections);
  for (const layer of byLoad) {
    if (!hasRanges && layer.connections > 0) continue;
    const taken = layer.assigned.reduce(addRange, layer.kept);
    const range = firstGap(taken, layer.sizeBytes, requestBytes(layer.sizeBytes));
    if (range === null) continue;
    // What is kept farther on comes anyway.
    return { layer, range: hasRanges ? range : { ...range, endByte: layer.sizeBytes } };
  }
  return null;
}

function requestBytes(sizeBytes: number): number {
  return Math.min(Math.max(Math.ceil(sizeBytes / 32), MIN_REQUEST_BYTES), MAX_REQUEST_BYTES);
}
