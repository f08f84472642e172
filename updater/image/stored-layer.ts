// Is a layer in the repository already, with everything it needs?

import { FormatError, IntegrityError } from "../../shared/error.ts";
import type { Descriptor } from "../../shared/format/oci/manifest.ts";
import { readSplitStreamRefs } from "../../shared/format/splitstream/reader.ts";
import { hasObject } from "../../shared/store/object-inspection.ts";
import type { Repository } from "../../shared/store/repository.ts";
import { layerStreamName, readStream } from "./image-streams.ts";
import type { ResolvedImage } from "./resolved-image.ts";

/** One layer of an image: its tar (`diffId`) and the blob that holds it. */
export interface Layer {
  readonly diffId: string;
  readonly descriptor: Descriptor;
}

/** Each distinct layer once, lowest first. */
export function listLayers({ manifest, config }: ResolvedImage): readonly Layer[] {
  const layers = new Map<string, Layer>();
  for (const [i, diffId] of config.rootfs.diff_ids.entries()) {
    layers.set(diffId, { diffId, descriptor: manifest.layers[i]! });
  }
  return [...layers.values()];
}

/** A stream that is damaged or lacks an object does not count: the layer is imported again. */
export function hasLayer(repo: Repository, diffId: string, damaged?: ReadonlySet<string>): boolean {
  try {
    const stream = readStream(repo, layerStreamName(diffId));
    if (stream === null) return false;
    const { objectRefs } = readSplitStreamRefs(stream);
    return objectRefs.every((digest) => damaged?.has(digest) !== true && hasObject(repo, digest));
  } catch (error) {
    if (error instanceof IntegrityError || error instanceof FormatError) return false;
    throw error;
  }
}
