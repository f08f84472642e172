// One layer on its way (download.ts): what is known about it, and how its reader learns of more.

import { isErrno } from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { countBytes, type Ranges } from "./download-record.ts";
import type { LayerState } from "./download-schedule.ts";
import type { BlobStore } from "./partial-file.ts";

/** Changed by the downloads only. */
export interface Download extends LayerState {
  readonly layer: Descriptor;
  /** Null before it is opened, and when the layer is streamed to its reader. */
  store: BlobStore | null;
  state: "closed" | "opening" | "stored" | "streamed";
  readonly kept: Ranges;
  assigned: Ranges;
  connections: number;
  /** Ends the connections of this layer only. */
  stop: AbortController;
  failure: unknown;
  /** Its bytes are not what its digest says. */
  isCorrupt: boolean;
  receivedBytes: number;
  /** Never goes back. */
  reportedBytes: number;
  /** Resolved and replaced whenever a reader may find more. */
  change: PromiseWithResolvers<void>;
}

export function makeDownload(layer: Descriptor): Download {
  return {
    layer,
    sizeBytes: layer.size,
    store: null,
    state: "closed",
    get kept() {
      return this.store?.kept ?? [];
    },
    assigned: [],
    connections: 0,
    stop: new AbortController(),
    failure: null,
    isCorrupt: false,
    receivedBytes: 0,
    reportedBytes: 0,
    change: Promise.withResolvers(),
  };
}

export function adopt(download: Download, store: BlobStore): void {
  download.store = store;
  download.state = "stored";
  download.receivedBytes = countBytes(store.kept);
  download.reportedBytes = download.receivedBytes;
}

export function wake(download: Download): void {
  download.change.resolve();
  download.change = Promise.withResolvers();
}

/** Some bytes from `position` on; null when there are none yet, or the store was given up meanwhile. */
export async function takeFrom(download: Download, position: number): Promise<Uint8Array | null> {
  const { store } = download;
  try {
    return (await store?.take(position)) ?? null;
  } catch (error) {
    if (download.store === store) throw error;
    return null;
  }
}

export function isFull(error: unknown): boolean {
  return isErrno(error, "ENOSPC", "EDQUOT", "EFBIG");
}
